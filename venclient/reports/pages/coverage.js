"use strict";
// The check page: what a search and the period leave, the loads of the chosen VEN, and load curves as they come in sight.

const ROWS_SHOWN = 200;
const HOURLY_BELOW_DAYS = 100;
const DASHES = [[], [6, 3], [2, 2]];
const day_s = index => (data.first + index) * 86400;
const all = {min: day_s(0), max: day_s(data.days)};
let loads, chosen, shownLoads = ROWS_SHOWN, wanted = "", onlyProblems = false;

const rows = [...byId("vens").querySelectorAll("[data-ven]")];
const groups = [...document.querySelectorAll(".group")].map(problemGroup);
const has = text => text.toLowerCase().includes(wanted);
const seriesOf = load => data.series[loads.series[load]];
const loadMatches = load => has(loads.name[load]) || has(loads.id[load]) || has(seriesOf(load)[0]);

/** The component's number in its name, or its place among all: the same colour on every page. */
function componentStyle(component) {
  const name = data.components[component];
  const place = /^load_(\d+)$/.test(name) ? Number(name.slice(5)) : component;
  return {name: `c${place % 8}`, dash: DASHES[Math.floor(place / 8) % DASHES.length]};
}

/** A table of problem loads: its rows, also those that are not laid out yet, and how many to show. */
function problemGroup(group) {
  const body = group.querySelector("tbody:last-of-type"), rest = group.querySelector("template")?.content.children ?? [];
  const more = group.querySelector(".more"), rows = [...body.rows, ...rest].map(row => [row, row.textContent.toLowerCase()]);
  let shown = ROWS_SHOWN;
  const show = () => {
    const found = rows.filter(([, text]) => text.includes(wanted)).map(([row]) => row);
    body.replaceChildren(...found.slice(0, shown));
    more.hidden = found.length <= shown;
    group.hidden = !found.length;
  };
  more.onclick = () => { shown += ROWS_SHOWN; show(); };
  return {show};
}

function filter() {
  wanted = byId("find").value.trim().toLowerCase();
  onlyProblems = byId("problems").checked;
  const vens = new Set(), meters = new Set();
  let count = 0;
  loads.name.forEach((_, load) => {
    if ((onlyProblems && !loads.note[load]) || !(loadMatches(load) || has(data.vens[loads.ven[load]]))) return;
    vens.add(loads.ven[load]);
    meters.add(seriesOf(load)[0]);
    count += 1;
  });
  for (const row of rows) row.hidden = !vens.has(Number(row.dataset.ven));
  for (const {show} of groups) show();
  for (const figure of byId("curves").children) figure.hidden = !meters.has(figure.meter);
  const found = [counted(vens.size, "VEN"), counted(count, "load"), counted(meters.size, "meter")].join(", ");
  byId("found").textContent = wanted || onlyProblems ? found : "";
  const first = rows.find(row => !row.hidden);
  if (first && (chosen === undefined || !vens.has(chosen))) chosen = Number(first.dataset.ven);
  showLoads();
}

function choose(ven) {
  chosen = ven;
  shownLoads = ROWS_SHOWN;
  showLoads();
  byId("ven").focus();
  byId("ven").closest("section").scrollIntoView({behavior: "smooth"});
}

function showLoads() {
  for (const row of rows) row.classList.toggle("chosen", Number(row.dataset.ven) === chosen);
  const ofVen = loads.byVen[chosen] ?? [];
  const isVenFound = has(data.vens[chosen] ?? "");
  const left = ofVen.filter(load => (isVenFound || loadMatches(load)) && (!onlyProblems || loads.note[load]));
  const of = left.length < ofVen.length ? `${number(left.length)} of ` : "";
  byId("ven").textContent = `${data.vens[chosen] ?? "Loads"}: ${of}${counted(ofVen.length, "load")}`;
  byId("loads").replaceChildren(...left.slice(0, shownLoads).map(loadRow));
  byId("more-loads").hidden = left.length <= shownLoads;
}

function loadRow(load) {
  const [meter, component, , share] = seriesOf(load);
  const canvas = element("canvas", {width: data.days, height: 1, role: "img"});
  canvas.setAttribute("aria-label", "Days with data");
  drawStrip(canvas, share, loads.fails[load]);
  const series = element("code", {}, `${meter} ${data.components[component]}`);
  const link = element(share ? "button" : "span", {title: loads.id[load]}, series);
  if (share) link.onclick = () => showCurves(meter);
  const note = element("td", {className: `note ${loads.fails[load] ? "bad" : "wait"}`}, loads.notes[loads.note[load]]);
  return element("tr", {}, element("td", {className: "name"}, loads.name[load], element("br"), link), element("td", {}, canvas), note);
}

/** A day is a pixel; `share`: packed, 0 to 250. */
async function drawStrip(canvas, share, fails) {
  const context = canvas.getContext("2d");
  const days = share ? await unpacked(share) : new Uint8Array(data.days);
  const kinds = ["k0", "k1", "k2", "k3", "k4", "k5"].map(colour), failing = colour("k-fails");
  let begin = 0;
  const kindOf = each => each === 0 ? 0 : each >= 250 ? 5 : 1 + (each >= 125) + (each >= 225) + (each >= 248);
  for (let day = 1; day <= days.length; day++) {
    if (day < days.length && kindOf(days[day]) === kindOf(days[begin])) continue;
    context.fillStyle = fails ? failing : kinds[kindOf(days[begin])];
    context.fillRect(begin, 0, day - begin, 1);
    begin = day;
  }
}

/** The values of a curve, null where it has none: 16 bits each, all low bytes first. */
async function curve(lowest, level, packed) {
  const bytes = await unpacked(packed), count = bytes.length / 2;
  return Array.from({length: count}, (_, at) => {
    const value = bytes[at] | bytes[count + at] << 8;
    return value === 0xffff ? null : lowest + level * value;
  });
}

async function daily(ofMeter) {
  const columns = await Promise.all(ofMeter.map(index => curve(...data.daily[index])));
  const days = Array.from({length: data.days}, (_, day) => day_s(day));
  return [days, ...columns.flatMap(values => [0, 1, 2].map(row => values.slice(row * data.days, (row + 1) * data.days)))];
}

async function hourly(ofMeter) {
  if (!ofMeter.every(index => data.hourly[index])) return null;
  const columns = await Promise.all(ofMeter.map(async index => [data.hourly[index][0], await curve(...data.hourly[index].slice(1))]));
  const first = data.first * 24, hours = Array.from({length: data.days * 24}, (_, hour) => (first + hour) * 3600);
  const none = hours.map(() => null);
  return [hours, ...columns.flatMap(([from, values]) => [none, hours.map((_, hour) => values[first + hour - from] ?? null), none])];
}

async function drawCurves(figure) {
  const ofMeter = figure.ofMeter, host = figure.querySelector(".chart");
  if (!data.daily[ofMeter[0]]) return host.replaceWith(element("p", {className: "faint"}, "Its curves did not fit into the page."));
  const byDay = await daily(ofMeter);
  let byHour, isHourly = false;
  const series = ofMeter.flatMap(index => {
    const [, component, name] = data.series[index], {name: key, dash} = componentStyle(component);
    const band = {class: "band", stroke: "transparent", points: {show: false}, show: byId("ranges").checked};
    const label = [data.components[component], name].filter(Boolean).join(" ");
    const mean = {label, stroke: () => colour(key), width: 1.4, dash, value: (_, watts) => power(watts)};
    return [{...band, label: "lowest"}, mean, {...band, label: "highest"}];
  });
  const bands = ofMeter.map((index, at) => {
    const key = componentStyle(data.series[index][1]).name;
    return {series: [3 * at + 3, 3 * at + 1], fill: () => faded(key, 14)};
  });
  const zoomed = async plot => {
    const {min, max} = plot.scales.x;
    const wantsHours = max - min < HOURLY_BELOW_DAYS * 86400;
    if (wantsHours && byHour === undefined) byHour = await hourly(ofMeter);
    if (wantsHours && byHour ? isHourly : !isHourly) return;
    isHourly = !isHourly;
    plot.setData(isHourly ? byHour : byDay, false);
    plot.setScale("x", {min, max});
  };
  const together = (plot, at, {show}) => {
    if (at % 3 === 2 && show !== undefined) for (const band of [at - 1, at + 1]) plot.setSeries(band, {show: show && byId("ranges").checked});
  };
  const labels = {format: power};
  figure.plot = chart(host, byDay, series, {format: MINUTE, labels, options: {bands, hooks: {setScale: [(plot, key) => { if (key === "x") zoomed(plot); }], setSeries: [together]}}});
  figure.plot.setScale("x", period());
}

function period() {
  const month = byId("period").value;
  return month === "" ? all : {min: day_s(data.monthStarts[month]), max: day_s(data.monthStarts[Number(month) + 1] ?? data.days)};
}

/** Show or hide the lowest and highest values of the components that are shown. */
function showRanges() {
  for (const {plot} of byId("curves").children) {
    plot?.batch(() => plot.series.forEach(({show}, at) => { if (at % 3 === 2) plot.setSeries(at, {show}); }));
  }
}

function showCurves(meter) {
  const figure = [...byId("curves").children].find(each => each.meter === meter);
  if (!figure) return;
  figure.hidden = false;
  figure.querySelector("button").focus();
  figure.scrollIntoView({behavior: "smooth"});
}

function meterFigure([meter, ofMeter]) {
  const sharers = loads.bySeries(ofMeter), vens = [...new Set(sharers.map(load => data.vens[loads.ven[load]]))].sort();
  const whose = `${counted(sharers.length, "load")} in ${vens.slice(0, 3).join(", ")}${vens.length > 3 ? ` and ${vens.length - 3} more` : ""}`;
  const notes = [...new Set(sharers.map(load => loads.notes[loads.note[load]]).filter(Boolean))].slice(0, 3).join("; ");
  const name = element("button", {title: "The loads with this meter"}, element("code", {}, meter));
  name.onclick = () => { byId("find").value = meter; filter(); byId("find").focus(); };
  const caption = element("figcaption", {}, name, element("span", {className: "faint"}, ` ${whose}`));
  if (notes) caption.append(element("span", {className: "wait"}, ` ${notes}`));
  const host = element("div", {className: "chart"});
  host.setAttribute("aria-label", `Load curves of ${meter}`);
  host.setAttribute("role", "img");
  return Object.assign(element("figure", {}, caption, host), {meter, ofMeter});
}

function describe() {
  const [meters, daily, hourly] = [data.meters.length, ...[data.daily, data.hourly].map(curves => data.meters.filter(([, of]) => of.every(at => curves[at])).length)];
  const some = (count, what) => count === meters ? `${what} of all meters` : `${what} of ${number(count)} of ${counted(meters, "meter")}`;
  byId("resolution").textContent = `Each meter's components, those with findings first. The page has ${some(daily, "daily means with the lowest and highest value")}, and ${some(hourly, "hourly means")}, to be seen below ${HOURLY_BELOW_DAYS} days. Values are rounded to a thousandth of their range, implausible ones left out. A line ends where there is no data. Drag to zoom, double-click for all.`;
  const legend = [["k5", "the whole day has data"], ["k3", "a part of it"], ["k0", "nothing"], ["k-fails", "cannot be uploaded"]];
  byId("day-legend").append(...legend.map(([kind, text]) => element("li", {}, element("i", {className: kind}), text)));
  const step = Math.ceil(data.monthNames.length / 13);
  data.monthStarts.forEach((start, month) => {
    if (month % step) return;
    const mark = element("span", {}, data.monthNames[month].slice(0, 3));
    mark.style.left = `${100 * start / data.days}%`;
    byId("axis").append(mark);
  });
}

async function begin() {
  loads = JSON.parse(new TextDecoder().decode(await unpacked(data.loads)));
  const group = column => {
    const groups = [];
    column.forEach((key, load) => (groups[key] ??= []).push(load));
    return groups;
  };
  const bySeries = group(loads.series);
  loads.bySeries = ofMeter => ofMeter.flatMap(index => bySeries[index]);
  loads.byVen = group(loads.ven);
  for (const ofVen of loads.byVen) ofVen.sort((one, other) => !loads.note[one] - !loads.note[other] || loads.name[one].localeCompare(loads.name[other]));
  const inSight = new IntersectionObserver(entries => {
    for (const {target, isIntersecting} of entries) if (isIntersecting) { inSight.unobserve(target); drawCurves(target); }
  }, {rootMargin: "200px"});
  byId("curves").append(...data.meters.map(meterFigure));
  for (const figure of byId("curves").children) inSight.observe(figure);
  describe();
  filter();
  markDrawn();
}

byId("find").oninput = byId("problems").onchange = filter;
byId("ranges").onchange = showRanges;
byId("more-loads").onclick = () => { shownLoads += ROWS_SHOWN; showLoads(); };
byId("period").onchange = () => { for (const figure of byId("curves").children) figure.plot?.setScale("x", period()); };
byId("vens").onclick = event => { const row = event.target.closest("[data-ven]"); if (row) choose(Number(row.dataset.ven)); };
byId("vens").onmouseover = ({target}) => {
  if (!target.matches("[class^=k]") || target.title) return;
  const name = target.parentElement.cells[0].textContent, month = byId("vens").tHead.rows[0].cells[target.cellIndex].title;
  target.title = `${name}, ${month}: ${target.textContent} % of the time has data`;
};
document.addEventListener("click", ({target}) => {
  const button = target.closest("[data-meter]");
  if (button) showCurves(button.dataset.meter);
});
addEventListener("scheme", showLoads);
begin();
