"use strict";
// What all pages share: their data, elements, packed arrays, charts in the colours of the scheme, tables that sort.

const data = JSON.parse(document.getElementById("data").textContent);
const charts = new Set();

const byId = id => document.getElementById(id);
const number = value => value.toLocaleString("en-US");
const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const faded = (name, percent) => `color-mix(in srgb, ${colour(name)} ${percent}%, transparent)`;

/** A new element with these properties and children; text is text, never markup. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** The bytes of a packed array: base64, deflated. */
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), sign => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function power(watts) {
  if (watts == null) return "–";
  const [unit, scale] = Math.abs(watts) >= 1e6 ? ["MW", 1e6] : Math.abs(watts) >= 1e4 ? ["kW", 1e3] : ["W", 1];
  return `${(watts / scale).toLocaleString("en-US", {maximumSignificantDigits: 4})} ${unit}`;
}

const SHORT = new Intl.NumberFormat("en-US", {notation: "compact", maximumFractionDigits: 1});
const DAY = {timeZone: "UTC", year: "numeric", month: "short", day: "numeric"};
const MINUTE = {...DAY, hour: "2-digit", minute: "2-digit", hourCycle: "h23"};
const SECOND = {...MINUTE, second: "2-digit"};
const time = (seconds, format) => new Date(seconds * 1000).toLocaleString("en-GB", format);

const DAY_S = 86400;
// At full seconds, minutes, hours, days, months and years.
const STEPS = [1, 2, 5, 10, 15, 30, ...[1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 480, 720].map(minutes => 60 * minutes),
  ...[1, 2, 3, 5, 7, 10, 15, 30, 60, 90, 120, 180, 365, 730, 1825].map(days => DAY_S * days)];

/** What stands at the marks of a time axis, so far apart: the larger unit below the first mark, and where it changes. */
function marks(_, times, __, ___, step) {
  const [unit, above] = step >= 28 * DAY_S ? [{month: "short"}, {year: "numeric"}]
    : step >= DAY_S ? [{day: "numeric", month: "short"}, {year: "numeric"}]
    : [{hour: "2-digit", minute: "2-digit", second: step < 60 ? "2-digit" : undefined, hourCycle: "h23"}, {day: "numeric", month: "short"}];
  const text = (at, format) => time(at, {timeZone: "UTC", ...format});
  return times.map((at, mark) => mark && text(at, above) === text(times[mark - 1], above) ? text(at, unit) : `${text(at, unit)}\n${text(at, above)}`);
}

/** A chart over time (UTC, seconds since 1970) in an element, as wide as it is; `series`, `more`: as uPlot has them. */
function chart(host, values, series, {height = 220, format = DAY, labels = SHORT, ...more} = {}) {
  const axis = {stroke: () => colour("faint"), grid: {stroke: () => colour("line"), width: 1}, ticks: {show: false}};
  const drawn = new uPlot({
    width: host.clientWidth || 600, height, tzDate: seconds => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
    axes: [{...axis, incrs: STEPS, values: marks}, {...axis, size: 66, values: (_, splits) => splits.map(each => labels.format(each))}],
    series: [{label: "UTC", value: (_, seconds) => seconds == null ? "–" : time(seconds, format)}, ...series],
    cursor: {drag: {x: true, y: false}, ...more.cursor}, ...more.options,
  }, values, host);
  new ResizeObserver(() => drawn.setSize({width: host.clientWidth, height})).observe(host);
  for (const item of host.querySelectorAll(".u-series th")) {  // uPlot's legend knows only the mouse
    item.tabIndex = 0;
    item.onkeydown = event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); item.click(); } };
  }
  charts.add(drawn);
  return drawn;
}

/** Let the header cells of a table sort its rows, but for totals. */
function sortable(table) {
  for (const header of table.tHead.rows[0].cells) {
    const button = element("button", {title: "Sort by this column"});
    button.append(...header.childNodes);
    header.append(button);
    button.onclick = () => {
      const isUp = header.ariaSort === "descending" || (!header.ariaSort && !header.classList.contains("n"));
      for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
      header.ariaSort = isUp ? "ascending" : "descending";
      const key = row => row.cells[header.cellIndex].textContent.trim();
      const value = row => Number(key(row).replaceAll(",", ""));
      const rows = [...table.tBodies[0].rows].filter(row => !row.classList.contains("total"));
      const isNumeric = rows.every(row => !Number.isNaN(value(row)));
      rows.sort((one, other) => isNumeric ? value(one) - value(other) : key(one).localeCompare(key(other)));
      table.tBodies[0].append(...(isUp ? rows : rows.reverse()));
    };
  }
}

document.querySelectorAll("table.sortable").forEach(sortable);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  charts.forEach(each => each.redraw(false));
  dispatchEvent(new Event("scheme"));
});
// The time until everything that is to be seen at first is there, for whoever measures: performance.getEntriesByName.
const markDrawn = () => requestAnimationFrame(() => setTimeout(() => performance.mark("drawn")));
