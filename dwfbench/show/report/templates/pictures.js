"use strict";
// A chart as a PNG file: as it is shown, zoomed and without what is hidden, light, with its title above and its legend below.
const SCALE = 2;  // pixels of the file for one of the page

function light(colours) {
  return colours.replace(/light-dark\((#[0-9a-f]+),\s*#[0-9a-f]+\)/g, "$1");
}

async function picture(place, view, spec, config) {
  const width = place.clientWidth;
  const [plain, style] = [spec, config].map((part) => JSON.parse(light(JSON.stringify(part))));
  const settings = { actions: false, renderer: "none", mode: "vega-lite", config: style };
  const made = await vegaEmbed(document.createElement("div"), { ...plain, width, autosize: { type: "fit", contains: "padding" } }, settings);
  for (const name of ["hidden", "zoom_across", "zoom_height"]) {
    if (name in view.getState().signals) made.view.signal(name, view.signal(name));
  }
  await made.view.runAsync();
  const chart = await made.view.toCanvas(SCALE);
  made.finalize();
  const figure = place.closest("figure");
  const canvas = composed(chart, figure.getAttribute("aria-label"), entries(figure));
  canvas.toBlob((blob) => download(blob, `${place.dataset.chart}.png`), "image/png");
}

// What the legend shows: samples of lines and markers with their labels, hidden ones left out, and its remarks.
function entries(figure) {
  const places = [
    figure.querySelectorAll(".legend label:has(input:checked), .legend .absent"),
    figure.closest(".group")?.querySelectorAll(".key li:has(svg)") ?? [],
    figure.closest("section").querySelectorAll(":scope > .key li:has(svg)"),
  ];
  const found = places.find((items) => items.length) ?? [];
  return [...found].map((item) => ({ label: item.textContent.trim(), paths: [...item.querySelectorAll("path")] }));
}

// A text in lines that are no wider than there is room.
function broken(pen, text, room) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (pen.measureText(longer).width <= room || lines.at(-1) === "") lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

function composed(chart, title, legend) {
  const font = "13px system-ui, sans-serif";
  const [line, gap, edge] = [20, 18, 8];
  const width = chart.width / SCALE;
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d");
  pen.font = `600 ${font}`;
  const titles = broken(pen, title, width - 2 * edge);
  const top = titles.length * line + edge;
  pen.font = font;
  let [across, down] = [edge, top + chart.height / SCALE + edge];
  const placed = legend.flatMap(({ label, paths }) => {
    const sample = paths.length ? 40 : 0;
    const lines = broken(pen, label, width - 2 * edge - sample);
    return lines.map((text, number) => {
      const wide = sample + pen.measureText(text).width + gap;
      if (across > edge && (number > 0 || !sample || across + wide - gap > width - edge)) [across, down] = [edge, down + line];
      const place = { text, paths: number ? [] : paths, x: across, y: down, sample };
      across += wide;
      return place;
    });
  });
  [canvas.width, canvas.height] = [chart.width, SCALE * (down + line + edge)];
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(chart, 0, SCALE * top);
  pen.scale(SCALE, SCALE);
  pen.fillStyle = "#1b1d21";
  pen.font = `600 ${font}`;
  titles.forEach((text, number) => pen.fillText(text, edge, 16 + number * line));
  pen.font = font;
  for (const { text, paths, x, y, sample } of placed) {
    paths.forEach((path) => stroke(pen, path, x, y));
    pen.fillStyle = "#1b1d21";
    pen.fillText(text, x + sample, y + 12);
  }
  return canvas;
}

// A path of a legend's sample, whose marker is moved and enlarged as the page does it.
function stroke(pen, path, x, y) {
  const colour = (name) => light(path.getAttribute(name) ?? "") || "transparent";
  pen.save();
  pen.translate(x, y);
  const moved = path.getAttribute("transform") !== null;
  if (moved) {
    pen.translate(17, 7);
    pen.scale(5, 5);
  }
  pen.lineWidth = moved ? 0.25 : 2;
  pen.setLineDash((path.getAttribute("stroke-dasharray") ?? "").split(" ").filter(Boolean).map(Number));
  [pen.fillStyle, pen.strokeStyle] = [colour("fill"), colour("stroke")];
  const shape = new Path2D(path.getAttribute("d"));
  if (moved) pen.fill(shape);
  pen.stroke(shape);
  pen.restore();
}
