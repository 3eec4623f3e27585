// Draws each <figure class="chart"> from the table in it: the table stays for those who read
// tables, and for browsers without JavaScript.
"use strict";
(() => {
  const charts = new Map();
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const tones = ["--busy-fill", "--bad-fill", "--good-fill"];

  const read = (table) => {
    const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
    const columns = heads.map(() => []);
    for (const row of table.tBodies[0].rows)
      [...row.cells].forEach((cell, at) => {
        const value = cell.dataset.v;
        columns[at].push(value === undefined || value === "" ? null : Number(value));
      });
    return { heads, columns };
  };

  const draw = (figure) => {
    const table = figure.querySelector("details table"); // uPlot draws its legend as a table too
    const { heads, columns } = read(table);
    const place = figure.querySelector("[data-keep]");
    const known = charts.get(place);
    if (known) { known.setData(columns); return; }
    const soft = colour("--soft"), line = colour("--line");
    const unit = figure.dataset.unit ?? "";
    const clock = (s) => s === null ? "–" : new Date(s * 1000).toLocaleTimeString("en-GB");
    const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui" };
    const series = heads.slice(1).map((label, at) => ({
      label, stroke: colour(tones[at % tones.length]), width: 2, points: { show: columns[0].length < 3 },
      dash: at === 1 ? [6, 4] : undefined, value: (_, v) => (v === null ? "–" : `${v}${unit}`),
    }));
    const plot = new uPlot({
      width: place.clientWidth || 400, height: 180, series: [{ label: "At", value: (_, v) => clock(v) }, ...series],
      axes: [{ ...axis, space: 90, values: (_, all) => all.map(clock) }, { ...axis, size: 56, values: (_, all) => all.map((v) => `${v}${unit}`) }],
      scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      cursor: { drag: { setScale: false } },
    }, columns, place);
    charts.set(place, plot);
    new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: 180 })).observe(place);
  };

  const all = () => document.querySelectorAll("figure.chart").forEach(draw);
  all();
  document.body.addEventListener("htmx:afterSettle", all);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());
})();
