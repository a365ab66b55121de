"use strict";
// Everything below only shows and hides what stands in the page's data; it asks nothing of the network.
const data = JSON.parse(document.getElementById("data").textContent);
const hidden = { runs: new Set(), groups: new Set() };
const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// ---- charts ---------------------------------------------------------------------------------------------------------

const longest = Math.max(...data.compared.map((label) => label.length));
const config = {
  background: null,
  font: "system-ui, sans-serif",
  view: { stroke: null },
  axis: { labelColor: "currentColor", titleColor: "currentColor", domainColor: "currentColor", tickColor: "currentColor",
    gridColor: "currentColor", gridOpacity: 0.15, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
  legend: { labelColor: "currentColor", titleColor: "currentColor", labelFontSize: 12, orient: "top" },
};
const shades = new Map(data.groups.map((group) => [group.label, group.colour]));
const colourOf = (labels) => ({ field: "group", type: "nominal", title: null, scale: { domain: labels, range: labels.map((label) => shades.get(label)) } });
const colour = colourOf(data.compared);
// Where the colours begin again, so do the arms' dashes, in other lengths.
const dashes = [{ validation: [1, 0], training: [4, 3] }, { validation: [9, 2], training: [2, 2] }, { validation: [9, 2, 2, 2], training: [1, 3] }];
const rounds = new Map(data.groups.map((group) => [group.label, group.round]));
const lineStyle = new Map(data.groups.map((group) => [group.label, dashes[group.round % dashes.length]]));

function draw(id, spec, description) {
  const width = byId(id).clientWidth, columns = Math.max(1, Math.floor(width / (7 * (4 + longest))));
  const legend = { ...config.legend, columns, labelLimit: width - 40 };
  const height = 300 + 18 * (Math.ceil(data.compared.length / columns) - 1);
  const full = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", description, width: "container", height,
    autosize: { type: "fit", contains: "padding" }, config: { ...config, legend }, ...spec };
  return vegaEmbed(byId(id), full, { actions: false, renderer: "svg", ast: false });
}

function table(id, columns, rows) {
  const head = element("tr", {}, ...columns.map((name) => element("th", { scope: "col", textContent: name })));
  const body = rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", { textContent: cell }))));
  const made = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  byId(id).querySelector("div").replaceChildren(made);
}

function shownRuns() {
  return data.runs.filter((run) => !hidden.runs.has(run.name) && !hidden.groups.has(run.group));
}

const titles = { accuracy: "accuracy (%)", loss: "loss (nats)", learning_rate: "learning rate", epoch: "epoch", until: "seconds" };

function curveRows() {
  const measure = byId("measure").value, x = byId("x").value;
  const factor = measure === "accuracy" ? 100 : 1;
  const parts = measure === "learning_rate" ? [["training", measure]] : [["training", measure], ["validation", `val_${measure}`]];
  return shownRuns().flatMap((run) => parts.flatMap(([split, column]) =>
    run.history[column].map((value, i) => ({ run: run.name, group: run.group, split, line: `${run.name} ${split}`, style: `${run.group} ${split}`,
      epoch: run.history.epoch[i], x: run.history[x][i], y: Number((factor * value).toPrecision(5)) }))));
}

// The mean of each arm's shown runs, over the epochs that all of them have; nothing for an arm of one run.
function meanRows(rows) {
  const byLine = Map.groupBy(rows, (row) => row.style);
  return [...byLine].flatMap(([style, own]) => {
    const count = new Set(own.map((row) => row.run)).size;
    const mean = (same, key) => same.reduce((sum, row) => sum + row[key], 0) / count;
    return count < 2 ? [] : [...Map.groupBy(own, (row) => row.epoch)].filter(([, same]) => same.length === count)
      .map(([epoch, same]) => ({ ...same[0], run: `mean of ${count}`, line: style, epoch, x: mean(same, "x"), y: Number(mean(same, "y").toPrecision(5)) }));
  });
}

// At most about twelve numbers for the axis of epochs.
function wholeNumbers(rows) {
  const last = rows.reduce((most, row) => Math.max(most, row.epoch), 1);
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((each) => last / each <= 12) ?? 5000;
  return Array.from({ length: Math.floor(last / step) }, (_, place) => (place + 1) * step);
}

function drawCurves() {
  const measure = byId("measure").value, x = byId("x").value, rows = curveRows(), means = meanRows(rows);
  const averaged = new Set(means.map((row) => row.style));
  const styles = [...new Set(rows.map((row) => row.style))];
  const labels = [...new Set(rows.map((row) => row.group))];
  const exploded = measure === "loss" && rows.some((row) => row.y > data.exploded) && rows.every((row) => row.y > 0);
  const common = {
    x: { field: "x", type: "quantitative", title: titles[x], scale: { nice: false }, axis: x === "epoch" ? { values: wholeNumbers(rows) } : {} },
    y: { field: "y", type: "quantitative", title: titles[measure], scale: exploded ? { type: "log" } : { zero: measure === "learning_rate" } },
    color: { ...colourOf(labels), legend: null },
  };
  const dash = { field: "style", type: "nominal", legend: null, scale: { domain: styles,
    range: styles.map((style) => { const split = style.split(" ").at(-1); return lineStyle.get(style.slice(0, -split.length - 1))[split]; }) } };
  const line = (values, width, opacity) => ({ data: { values }, mark: { type: "line", strokeWidth: width, opacity },
    encoding: { ...common, detail: { field: "line" }, strokeDash: dash } });
  const longer = new Set(rows.filter((row) => row.epoch > 1).map((row) => row.line));
  const alone = rows.filter((row) => !longer.has(row.line));  // a line of one epoch cannot be seen
  const dots = (split, filled) => ({ data: { values: alone.filter((row) => row.split === split) }, mark: { type: "point", size: 60, opacity: 1, filled }, encoding: common });
  const tooltip = ["group", "run", "split", "epoch", "y"].map((field) => ({ field, title: { y: titles[measure], group: "arm" }[field] ?? field }));
  byId("curves-chart").dataset.lines = new Set(rows.map((row) => row.line)).size;
  byId("curves-chart").dataset.means = averaged.size;
  byId("curves-chart").dataset.shows = `${measure} over ${x}`;
  return draw("curves-chart", {
    layer: [
      line(rows.filter((row) => averaged.has(row.style)), 0.8, 0.35),
      line([...rows.filter((row) => !averaged.has(row.style)), ...means], 2.2, 1),
      ...(alone.length ? [dots("validation", true), dots("training", false)] : []),
      { data: { values: [...rows, ...means] },
        params: [{ name: "near", select: { type: "point", on: "pointerover", nearest: true, clear: "pointerout" } }],
        mark: { type: "point", size: 45, filled: true, tooltip: true, aria: false },  // the values are in the table
        encoding: { ...common, tooltip, opacity: { condition: { param: "near", empty: false, value: 1 }, value: 0 } } },
    ],
  }, `Curves of ${titles[measure]} over ${titles[x]}, one line a run and one a mean; the values are in the table below`);
}

function fillCurvesTable() {
  const rows = curveRows(), lines = [...new Set(rows.map((row) => row.line))];
  const values = new Map(rows.map((row) => [`${row.line}|${row.epoch}`, row.y]));
  const epochs = [...new Set(rows.map((row) => row.epoch))].sort((a, b) => a - b);
  table("curves-table", ["epoch", ...lines], epochs.map((epoch) => [epoch, ...lines.map((line) => values.get(`${line}|${epoch}`) ?? "")]));
}

function updateCurves() {
  if (byId("curves-table").open) fillCurvesTable();
  return drawCurves();
}

function toggle(set, name, button) {
  if (!set.delete(name)) set.add(name);
  button.setAttribute("aria-pressed", String(!set.has(name)));
  updateCurves();
}

function buildLegend() {
  for (const { label: group, colour: shade, round } of data.groups) {
    const dot = element("span", { className: `dot round${round % dashes.length}` });
    dot.style.setProperty("--shade", shade);
    const own = data.runs.filter((run) => run.group === group);
    const button = (set, name, ...label) => {
      const made = element("button", { type: "button" }, ...label);
      made.setAttribute("aria-pressed", "true");
      made.addEventListener("click", () => toggle(set, name, made));
      return made;
    };
    const runs = own.length > 1 ? own.map((run) => button(hidden.runs, run.name, run.name)) : [];
    byId("legend").append(element("div", { className: "runs" }, button(hidden.groups, group, dot, group), ...runs));
  }
}

function wantedClass() {
  return byId("class-filter")?.value.trim().toLowerCase() ?? "";
}

// Of many classes: the most confused pairs, or those of the page that have a class of that name.
function filterClasses() {
  const wanted = wantedClass();
  for (const body of document.querySelectorAll(".confusion tbody")) {
    [...body.querySelectorAll("tr.pair")].forEach((row, place) => {
      const names = `${row.children[0].textContent}\n${row.children[1].textContent}`.toLowerCase();
      row.hidden = wanted ? !names.includes(wanted) : place >= data.first_shown;
    });
  }
  return drawClasses();
}

function drawClasses() {
  const first = data.classes.filter((row) => row.group === data.compared[0]);
  const sorted = first.sort((a, b) => b.accuracy - a.accuracy).map((row) => row.class);
  const wanted = wantedClass(), found = sorted.filter((name) => wanted && name.toLowerCase().includes(wanted));
  const some = sorted.length > 20 ? [...sorted.slice(0, 10), ...sorted.slice(-10)] : sorted; // the best and the worst
  const order = wanted ? found.slice(0, 20) : some;
  table("classes-table", ["class", "arm", "accuracy, %"], data.classes.map((row) => [row.class, row.group, row.accuracy]));
  const small = byId("classes-chart").clientWidth < 500;
  return draw("classes-chart", {
    height: { step: small ? 14 : 16 },
    autosize: { type: "fit-x", contains: "padding" },
    data: { values: data.classes.filter((row) => order.includes(row.class)) },
    mark: { type: "bar" },
    encoding: {
      y: { field: "class", type: "nominal", title: null, sort: order, axis: { labelLimit: small ? 140 : 320 } },
      yOffset: { field: "group", type: "nominal", sort: data.compared },
      x: { field: "accuracy", type: "quantitative", title: "test accuracy (%)", scale: { domain: [0, 100] } },
      color: colour,
      // Where the colours begin again, bars are lighter.
      opacity: { field: "group", type: "nominal", title: null,
        scale: { type: "ordinal", domain: data.compared, range: data.compared.map((label) => [1, 0.55, 0.3][rounds.get(label) % 3]) } },
      tooltip: [{ field: "class" }, { field: "group", title: "arm" }, { field: "accuracy", title: "accuracy (%)" }],
    },
  }, "Test accuracy of each class, one bar an arm; the values are in the table below");
}

function drawCalibration() {
  table("calibration-table", ["arm", "confidence, %", "accuracy, %"], data.calibration.map((row) => [row.group, row.confidence, row.accuracy]));
  const x = { field: "confidence", type: "quantitative", title: "confidence: largest probability (%)", scale: { domain: [0, 100] } };
  const y = { field: "accuracy", type: "quantitative", title: "test accuracy (%)", scale: { domain: [0, 100] } };
  const validation = data.compared.map((label) => lineStyle.get(label).validation);
  const dash = { field: "group", type: "nominal", title: null, scale: { domain: data.compared, range: validation } };
  return draw("calibration-chart", {
    layer: [
      { data: { values: [{ confidence: 0, accuracy: 0 }, { confidence: 100, accuracy: 100 }] },
        mark: { type: "line", strokeDash: [2, 3], color: "currentColor" }, encoding: { x, y } },
      { data: { values: data.calibration }, mark: { type: "line", point: true },
        encoding: { x, y, color: { ...colour, legend: { symbolType: "stroke", symbolSize: 400 } }, strokeDash: dash, tooltip: [{ field: "group", title: "arm" }, { field: "confidence" }, { field: "accuracy" }] } },
    ],
  }, "Accuracy over confidence for each arm; the values are in the table below");
}

// ---- images ---------------------------------------------------------------------------------------------------------

function fillPicture(figure, number) {
  const image = data.images[number], { columns, height, width } = data.sprite, scale = 96 / width;
  const row = Math.floor(image.place / columns), column = image.place % columns;
  const picture = element("span", { className: "sprite" });
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", `a test image of class ${image.true}`);
  picture.style.height = `${height * scale}px`;
  picture.style.backgroundSize = `${columns * 96}px auto`;
  picture.style.backgroundPosition = `-${column * 96}px -${row * height * scale}px`;
  const predictions = image.predictions.map((each) => element("div", { className: each.class === image.true ? "correct" : "" },
    `${each.label}: ${each.class}, ${Math.round(100 * each.confidence)}\u00a0%`));
  figure.replaceChildren(picture, element("figcaption", {}, element("div", {}, `true: ${image.true}`), ...predictions));
}

function showCell(button) {
  const images = data.cells[button.dataset.cell] ?? [];
  const figures = images.map((number) => {
    const figure = element("figure", { className: "picture" });
    fillPicture(figure, number);
    return figure;
  });
  const none = Object.keys(data.cells).length ? "This page has no image of it."
    : "The test images were not on the machine that made this page.";
  const what = element("p", { className: "hint" }, images.length ? `${button.getAttribute("aria-label")}; the most confident of them:` : none);
  what.style.flexBasis = "100%";
  byId("cell-images").replaceChildren(what, ...figures);
  byId("cell-images").scrollIntoView({ block: "nearest" });
}

// ---- the table of runs ----------------------------------------------------------------------------------------------

function runRows() {
  return [...document.querySelectorAll("#run-table tr.run")].map((row) => ({ row, details: row.nextElementSibling }));
}

function sortRuns(button) {
  const header = button.closest("th"), column = Number(button.dataset.column);
  const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of document.querySelectorAll("#run-table th[aria-sort]")) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  const text = (pair) => pair.row.children[column].textContent.trim();
  const compare = (a, b) => direction * text(a).localeCompare(text(b), undefined, { numeric: true });
  const body = document.querySelector("#run-table tbody");
  for (const pair of runRows().sort(compare)) body.append(pair.row, pair.details);
}

function filterRuns() {
  const wanted = byId("filter").value.trim().toLowerCase();
  let count = 0;
  for (const { row, details } of runRows()) {
    const cells = [...row.children].slice(0, -1).map((cell) => cell.textContent);  // the last is a button
    row.hidden = !cells.some((text) => text.toLowerCase().includes(wanted));
    if (row.hidden) details.hidden = true;
    else details.hidden = row.querySelector(".open").getAttribute("aria-expanded") === "false";
    count += row.hidden ? 0 : 1;
  }
  byId("count").textContent = `${count} of ${runRows().length} runs`;
}

function openRun(button) {
  const open = button.getAttribute("aria-expanded") === "false";
  button.setAttribute("aria-expanded", String(open));
  byId(button.getAttribute("aria-controls")).hidden = !open;
}

// ---- start ----------------------------------------------------------------------------------------------------------

buildLegend();
filterRuns();
for (const figure of document.querySelectorAll("figure[data-image]")) fillPicture(figure, figure.dataset.image);
for (const id of ["measure", "x"]) byId(id).addEventListener("change", updateCurves);
byId("curves-table").addEventListener("toggle", fillCurvesTable);
byId("filter").addEventListener("input", filterRuns);
byId("class-filter")?.addEventListener("input", filterClasses);
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.cell) showCell(button);
  else if (button?.dataset.column) sortRuns(button);
  else if (button?.classList.contains("open")) openRun(button);
});
Promise.all([drawCurves(), filterClasses(), drawCalibration()]).then(() => document.body.dataset.ready = "yes");
