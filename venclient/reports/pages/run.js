"use strict";
// The run's page: throughput with pauses, the limits below it, and what a search leaves.

const wall = seconds => seconds.map(each => data.began + each);
const steps = uPlot.paths.stepped({align: 1});
const cursor = {drag: {x: true, y: false}, sync: {key: "run", scales: ["x", null]}};
const TIME = {timeZone: "UTC", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23"};

/** Shade the pauses, behind grid and lines. */
function shade({ctx, bbox, valToPos}) {
  ctx.save();
  ctx.fillStyle = faded("wait", 18);
  for (const [begin, end] of data.pauses) {
    const [left, right] = [begin, end].map(each => valToPos(data.began + each, "x", true));
    const from = Math.max(left, bbox.left), to = Math.min(right, bbox.left + bbox.width);
    if (to > from) ctx.fillRect(from, bbox.top, Math.max(to - from, 1), bbox.height);
  }
  ctx.restore();
}

function draw(id, values, series, height) {
  chart(byId(id), values, series, {height, format: TIME, options: {cursor, scales: {y: {range: (_, __, most) => [0, 1.1 * most || 1]}}, hooks: {drawClear: [shade]}}});
}

const round = value => value == null ? "–" : number(Math.round(value));
const [starts, rates] = data.bars;
draw("rate", [wall(starts), rates], [{label: "points a second", stroke: () => colour("c0"), fill: () => faded("c0", 22), width: 1.5, paths: steps, points: {show: false}, value: (_, rate) => round(rate)}], 240);
if (data.limits[0].length) {
  const [times, concurrency] = data.limits;
  draw("limit", [wall(times), concurrency], [{label: "requests in flight, at most", stroke: () => colour("c5"), width: 1.5, paths: steps, points: {show: false}, value: (_, limit) => round(limit)}], 140);
}

function filter() {
  const wanted = byId("find").value.trim().toLowerCase(), onlyProblems = byId("problems").checked;
  for (const row of document.querySelectorAll("#vens tbody tr, #slowest-loads tbody tr")) {
    const isFound = row.textContent.toLowerCase().includes(wanted) && (!onlyProblems || "problem" in row.dataset);
    row.hidden = !row.classList.contains("total") && !isFound;
  }
}

if (byId("find")) byId("find").oninput = byId("problems").onchange = filter;
markDrawn();
