"use strict";
// Sorting by the titles of columns, and filtering by words and by method. Texts are compared as people read them
// ("D=10" after "D=9"), cells with a key by their number; what is missing comes last in both orders.
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
    const falling = headers[column].getAttribute("aria-sort") === "ascending";
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
