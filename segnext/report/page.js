"use strict";
let data;
const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 640px)");
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

async function unpackPlotly() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), c => c.charCodeAt(0));
  const script = document.createElement("script");
  script.text = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(script);
}

// The theme's colours and what fits the width, around a chart's own layout.
function themed(layout) {
  const ink = colour("--ink"), line = colour("--line");
  const axis = own => ({ gridcolor: line, linecolor: line, zerolinecolor: line, ...own, title: { standoff: 8, ...own?.title } });
  return {
    margin: { l: 52, r: 12, t: 12, b: 46 }, ...layout, autosize: true, width: undefined,
    xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
    annotations: layout.annotations?.map(text => ({ bgcolor: colour("--page"), opacity: .85, borderpad: 0, ...text })),
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 12, family: "system-ui, sans-serif" },
    hoverlabel: { bgcolor: colour("--tint"), bordercolor: line, font: { color: ink }, align: "left", namelength: -1 },
    legend: { orientation: "h", y: -0.16, yanchor: "top", x: 0, font: { size: 11 }, itemwidth: 30 },
    showlegend: layout.showlegend !== false && !(narrow.matches && layout.showlegend !== true),
  };
}

function draw(place, figure) {
  const layout = themed(figure.layout), many = figure.data.filter(trace => trace.showlegend !== false).length;
  if (layout.showlegend && many > 8) layout.showlegend = false; // the hover names them
  if (layout.showlegend && many > 2) { // a line of the legend for every other entry, below the chart
    const rows = Math.ceil(many / (narrow.matches ? 1 : 2));
    layout.margin = { ...layout.margin, b: 70 + 19 * rows };
    layout.height = (layout.height || 380) + 19 * rows;
    layout.legend.y = -70 / (layout.height - layout.margin.b);
  }
  place.style.height = layout.height + "px";
  Plotly.react(place, figure.data, layout, { responsive: true, displaylogo: false, displayModeBar: narrow.matches ? false : undefined });
}

// A chart inside a hidden part has no width yet.
const drawAll = () => document.querySelectorAll("[data-figure]").forEach(place => {
  if (place.offsetParent !== null) draw(place, data.figures[place.dataset.figure]);
});

function choose(name) {
  const select = document.getElementById("chosen");
  if (!select || ![...select.options].some(option => option.value === name)) return false;
  select.value = name;
  document.querySelectorAll("#closely article").forEach(article => { article.hidden = article.id !== `run:${name}`; });
  drawAll();
  return true;
}

function openTarget() {
  if (choose(decodeURIComponent(location.hash).replace(/^#run:/, ""))) document.getElementById("closely").scrollIntoView();
}

function compare() {
  const find = id => data.compared.find(run => run.name === document.getElementById(id).value);
  const [a, b] = [find("compared-a"), find("compared-b")], verdict = document.getElementById("verdict");
  const [histogram, classes] = ["differences", "classes-compared"].map(id => document.getElementById(id));
  const alike = a.key === b.key;
  histogram.parentNode.hidden = classes.parentNode.hidden = !alike;
  if (!alike) { verdict.textContent = "These runs were evaluated on different images: they cannot be compared."; return; }
  const signed = value => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1);
  const differences = b.draws.map((draw, k) => draw - a.draws[k]), sorted = [...differences].sort((x, y) => x - y);
  const at = share => sorted[Math.min(sorted.length - 1, Math.round(share * (sorted.length - 1)))];
  const [low, middle, high] = [at(.025), at(.5), at(.975)];
  const told = low > 0 ? "B is better" : high < 0 ? "A is better" : "they cannot be told apart";
  verdict.innerHTML = "";
  const bold = document.createElement("strong");
  bold.textContent = told;
  verdict.append(bold, `: B − A is ${signed(middle)} points mIoU, 95 % interval ${signed(low)} to ${signed(high)} (paired bootstrap, ${a.images} images, ${sorted.length} draws).`);
  draw(histogram, { data: [{ type: "histogram", x: differences, nbinsx: 40, marker: { color: "#0072B2" }, hovertemplate: "%{x}: %{y} draws<extra></extra>" }],
    layout: { height: 320, showlegend: false, bargap: .05, xaxis: { title: { text: "points mIoU" } }, yaxis: { title: { text: "draws" } },
      shapes: [[0, colour("--ink"), "solid"], [low, "#D55E00", "dot"], [high, "#D55E00", "dot"]].map(([x, c, dash]) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: c, dash, width: 2 } })) } });
  const names = Object.keys(a.classes).filter(name => a.classes[name] !== null && b.classes[name] != null);
  const gain = name => b.classes[name] - a.classes[name];
  names.sort((x, y) => gain(x) - gain(y));
  if (names.length > 30) names.splice(15, names.length - 30); // those that lose most and those that gain most
  draw(classes, { data: [{ type: "bar", orientation: "h", y: names, x: names.map(gain), marker: { color: names.map(name => gain(name) < 0 ? "#D55E00" : "#0072B2") }, hovertemplate: "<b>%{y}</b>: %{x:+.1f} points<extra></extra>" }],
    layout: { height: Math.max(320, 90 + 22 * names.length), showlegend: false, xaxis: { title: { text: "points IoU" } }, yaxis: { automargin: true } } });
}

function makeSortable(table) {
  table.querySelectorAll("th button").forEach((button, place) => button.addEventListener("click", () => {
    const head = button.closest("th"), body = table.tBodies[0], numeric = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const up = before === null ? !numeric || place === 0 : before === "descending"; // numbers: the largest first
    table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => row.children[place].dataset.sort;
    [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1;
      const order = numeric ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
      return up ? order : -order;
    }).forEach(row => body.append(row));
  }));
}

function start() {
  data = JSON.parse(document.getElementById("data").textContent);
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.getElementById("chosen")?.addEventListener("change", event => choose(event.target.value));
  drawAll();
  if (data.compared?.length) {
    for (const id of ["compared-a", "compared-b"]) document.getElementById(id).addEventListener("change", compare);
    compare();
  }
}

// Served by `report live=true`: the page is renewed in place whenever a run has logged something.
async function renew(version) {
  let said = " · live", news = version, page = null;
  try {
    news = await (await fetch("version", { cache: "no-store" })).text();
    if (version !== null && news !== version) page = await (await fetch(".", { cache: "no-store" })).text();
  } catch { // nobody answers
    said = " · the server is gone, these are the last figures";
  }
  if (page !== null) replacePage(page);
  document.getElementById("live").textContent = said;
  setTimeout(() => renew(news), 3000);
}

function replacePage(text) {
  const kept = ["chosen", "compared-a", "compared-b"].map(id => [id, document.getElementById(id)?.value]);
  document.querySelector("main").replaceWith(new DOMParser().parseFromString(text, "text/html").querySelector("main"));
  for (const [id, value] of kept) {
    const select = document.getElementById(id);
    if (select && [...select.options].some(option => option.value === value)) select.value = value;
  }
  start();
  choose(document.getElementById("chosen")?.value);
}

unpackPlotly().then(() => {
  start();
  openTarget();
  addEventListener("hashchange", openTarget);
  const again = () => { drawAll(); if (data.compared?.length) compare(); };
  dark.addEventListener("change", again);
  narrow.addEventListener("change", again);
  document.documentElement.dataset.ready = "true";
  if (data.live) renew(null);
});
