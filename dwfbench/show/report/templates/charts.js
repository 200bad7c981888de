"use strict";
// Draws the charts one after the other, joins legends and zoom buttons to them, and switches light and dark.
// Colours are CSS colours that follow the page, so that nothing is drawn anew for a dark page or for print.
(() => {
  const { config, charts } = JSON.parse(document.getElementById("charts").textContent);

  // Fresh objects for every chart: Vega writes into the rows that it is given.
  function objects({ columns, rows }) {
    return rows.map((row) => Object.fromEntries(columns.map((column, place) => [column, row[place]])));
  }

  function filled({ spec, tables }) {
    const datasets = Object.fromEntries(Object.entries(tables).map(([name, table]) => [name, objects(table)]));
    return { ...spec, datasets };
  }

  async function draw(place) {
    const settings = { actions: false, renderer: "svg", mode: "vega-lite", config };
    const { view } = await vegaEmbed(place, filled(charts[place.dataset.chart]), settings);
    return view;
  }

  function join(figure, view) {
    const boxes = [...figure.querySelectorAll(".legend input")];
    function show() {
      view.signal("hidden", boxes.filter((box) => !box.checked).map((box) => box.value)).runAsync();
    }
    boxes.forEach((box) => box.addEventListener("change", show));
    for (const button of figure.querySelectorAll("[data-all]")) {
      button.addEventListener("click", () => {
        boxes.forEach((box) => { box.checked = button.dataset.all === "true"; });
        show();
      });
    }
    for (const button of figure.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => zoom(view, button.dataset.zoom));
    }
  }

  // The signals of the selection "zoom" hold the ends of the axes, or null for those of the specification.
  function zoom(view, factor) {
    for (const [axis, field] of [["x", "across"], ["y", "height"]]) {
      let ends = null;
      if (factor !== "reset") {
        const log = view.scale(axis).type === "log";
        const there = log ? Math.log : Number;
        const back = log ? Math.exp : Number;
        const [low, high] = view.scale(axis).domain().map(there);
        const half = ((high - low) / 2) * Number(factor);
        ends = [back((low + high) / 2 - half), back((low + high) / 2 + half)];
      }
      view.signal(`zoom_${field}`, ends);
    }
    view.runAsync();
  }

  function themes() {
    const button = document.getElementById("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
    const name = () => { button.textContent = isDark() ? "Light page" : "Dark page"; };
    button.addEventListener("click", () => {
      document.documentElement.dataset.theme = isDark() ? "light" : "dark";
      name();
    });
    system.addEventListener("change", name);
    name();
    button.hidden = false;
  }

  async function start() {
    for (const place of document.querySelectorAll(".chart")) {
      const view = await draw(place);
      const figure = place.closest("figure.large");
      if (figure) join(figure, view);
      const button = place.parentElement.querySelector("[data-picture]");
      button?.addEventListener("click", () => picture(place, view, filled(charts[place.dataset.chart]), config));
    }
    document.documentElement.dataset.drawn = "true";
  }

  themes();
  start();
})();
