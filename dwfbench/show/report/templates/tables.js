"use strict";
// Sorting by the titles of columns, the best first, and filtering by words and by method. Texts are compared as people
// read them ("D=10" after "D=9"), cells with a key by their number; what is missing comes last in both orders.
for (const controls of document.querySelectorAll("[data-controls]")) {
  const table = document.getElementById(controls.dataset.controls);
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const inOrder = new Intl.Collator("en", { numeric: true });

  function compare(a, b) {
    if (a.dataset.key === undefined) return inOrder.compare(a.textContent, b.textContent);
    return Number(a.dataset.key) - Number(b.dataset.key);
  }

  function sort(column) {
    const before = headers[column].getAttribute("aria-sort");
    const falling = before ? before === "ascending" : headers[column].dataset.falling !== undefined;
    headers.forEach((header) => header.removeAttribute("aria-sort"));
    headers[column].setAttribute("aria-sort", falling ? "descending" : "ascending");
    const missing = (row) => row.cells[column].dataset.key === "";
    const rows = [...body.rows].sort((a, b) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b);
      return (falling ? -1 : 1) * compare(a.cells[column], b.cells[column]);
    });
    body.append(...rows);
  }

  const words = controls.querySelector("input");
  const method = controls.querySelector("select");
  const count = controls.querySelector("output");

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word)) || (method.value !== "" && method.value !== row.dataset.group);
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${body.rows.length} rows`;
  }

  headers.forEach((header, column) => header.firstElementChild.addEventListener("click", () => sort(column)));
  words.addEventListener("input", filter);
  method.addEventListener("input", filter);
  filter();
}

// Tables as CSV files: of the rows that are shown, in their order; numbers as they are, with the half widths of their
// intervals in columns of their own; a text that a spreadsheet would calculate has an apostrophe before it.
function csv(table) {
  const headers = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const rows = [...table.tBodies[0].rows].filter((row) => !row.hidden);
  const halves = headers.map((_, column) => rows.some((row) => row.cells[column].dataset.half !== undefined));
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const harmless = (text) => (/^\s*[=+\-@\uff1d\uff0b\uff0d\uff20]/.test(text) ? `'${text}` : text);
  const value = (cell) => cell.dataset.key ?? (cell.textContent === "-" ? "" : harmless(cell.textContent));
  const line = (cells) => cells.flat().map(quoted).join(",");
  const title = (name, column) => (halves[column] ? [name, `${name} ci95`] : [name]);
  const parts = (cell, column) => (halves[column] ? [value(cell), cell.dataset.half ?? ""] : [value(cell)]);
  return [line(headers.map(title)), ...rows.map((row) => line([...row.cells].map(parts)))].join("\n") + "\n";
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

for (const button of document.querySelectorAll("[data-csv]")) {
  const name = button.dataset.csv.replace(/-table$/, "");
  button.addEventListener("click", () => {
    download(new Blob([csv(document.getElementById(button.dataset.csv))], { type: "text/csv" }), `${name}.csv`);
  });
}
