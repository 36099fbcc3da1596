// Charts with a caption, a key, and their numbers as a table for whoever does not see them.

import uPlot from "./vendor/uPlot.esm.js";
import { el } from "./dom.js";

const live = new Set();
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Draw every chart anew: the colours of the page have changed. */
export function recolour() { for (const chart of live) chart.draw(); }

/**
 * A figure. `options`: title, note, x (numbers), time (x is UTC seconds), xLabel, series [{name, values, colour,
 * width, dash, points}], bands [{name, low, high, colour}], range [low, high] of y, height, under(u, colour) drawn
 * behind the lines, over(u, colour) before them, onPick(index), sync (key of charts whose cursors move together),
 * keys [{name, colour}] besides the series.
 */
export function chart(options) {
  const place = el("div", { class: "plot", role: "img", "aria-label": described(options) });
  const figure = el("figure", { class: "chart" },
    el("figcaption", {}, el("h3", {}, options.title), key(options)), place, numbers(options));
  const made = { plot: null, draw: () => draw(made, place, options) };
  const seen = new ResizeObserver(() => {
    if (!figure.isConnected) return forget(made, seen);
    if (made.plot === null) made.draw();
    else made.plot.setSize({ width: place.clientWidth, height: height(options) });
  });
  seen.observe(place);
  live.add(made);
  figure.redraw = () => made.plot?.redraw(false);
  return figure;
}

function forget(made, seen) {
  seen.disconnect();
  made.plot?.destroy();
  live.delete(made);
}

const height = (options) => options.height ?? 200;

function draw(made, place, options) {
  if (!place.clientWidth) return;
  made.plot?.destroy();
  const { data, series, bands } = columns(options);
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  made.plot = new uPlot({
    width: place.clientWidth, height: height(options), series, bands, pxAlign: 1,
    legend: { show: false },
    scales: { x: { time: Boolean(options.time) }, y: options.range ? { range: options.range } : {} },
    axes: [{ ...axis, size: 30, values: options.time ? clock : undefined, label: options.xLabel, labelSize: options.xLabel ? 16 : 0, labelFont: axis.font, space: options.time ? 74 : 60 },
      { ...axis, size: 48, values: (u, ticks) => ticks.map((v) => Math.abs(v) >= 1e4 || (v && Math.abs(v) < 1e-3) ? v.toExponential(0) : `${+v.toPrecision(4)}`) }],
    cursor: { drag: { x: false, y: false }, sync: options.sync ? { key: options.sync } : undefined, points: { size: 6 } },
    hooks: {
      drawClear: options.under ? [(u) => clipped(u, () => options.under(u, colour))] : [],
      draw: options.over ? [(u) => clipped(u, () => options.over(u, colour))] : [],
      ready: options.onPick ? [(u) => u.over.addEventListener("click", () => { if (u.cursor.idx !== null) options.onPick(u.cursor.idx); })] : [],
    },
  }, data, place);
}

/** Ticks of an axis of time, as fine as they need to be. */
function clock(u, ticks, axis, space, step) {
  const how = step < 60 ? { hour: "2-digit", minute: "2-digit", second: "2-digit" } : step < 86400 ? { hour: "2-digit", minute: "2-digit" } : { month: "short", day: "numeric" };
  return ticks.map((at) => new Date(at * 1000).toLocaleString(undefined, { ...how, hourCycle: step < 86400 ? "h23" : undefined }));
}

function clipped(u, paint) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  paint();
  ctx.restore();
}

/** uPlot's columns: x, then the edges of the bands, then the lines on top of them. */
function columns(options) {
  const data = [options.x], series = [{}], bands = [];
  for (const band of options.bands ?? []) {
    const stroke = "rgba(0,0,0,0)";
    data.push(band.high, band.low);
    series.push({ stroke, points: { show: false } }, { stroke, points: { show: false } });
    bands.push({ series: [data.length - 2, data.length - 1], fill: faded(colour(band.colour ?? "c1"), Number(colour("band"))) });
  }
  for (const line of options.series) {
    data.push(line.values);
    series.push({ label: line.name, stroke: faded(colour(line.colour ?? "c1"), line.alpha ?? 1), width: line.width ?? 1.7, dash: line.dash,
      spanGaps: line.spanGaps ?? true, points: { show: line.points ?? false, size: 5, fill: colour(line.colour ?? "c1") } });
  }
  return { data, series, bands };
}

export function faded(hex, alpha) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return `rgba(${r}, ${g}, ${b}, ${alpha})`;
}

function key(options) {
  const area = (options.bands ?? []).filter((band) => band.name).map((band) => ({ ...band, area: true }));
  const keys = [...options.series, ...area, ...(options.keys ?? [])];
  return el("p", { class: "key" }, keys.filter((k) => k.name).map((k) => {
    const sample = el("i", { class: k.area ? "area" : null });
    sample.style.background = k.fill ? `var(--${k.fill})` : `var(--${k.colour ?? "c1"})`;
    if (k.area && !k.fill) sample.style.opacity = "var(--band)";
    return el("span", {}, sample, k.name);
  }));
}

function described(options) {
  const parts = options.series.map((line) => {
    const values = line.values.filter((value) => value !== null);
    if (!values.length) return `${line.name}: no values`;
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return `${line.name}: ${values.length} values from ${figures(low)} to ${figures(high)}, last ${figures(values.at(-1))}`;
  });
  return `${options.title}. ${options.note ?? ""} ${parts.join("; ")}.`;
}

const figures = (value) => value === null || value === undefined ? "–" : `${+value.toPrecision(3)}`;
const MOST_ROWS = 60;

function numbers(options) {
  const lines = [...options.series, ...(options.bands ?? []).flatMap((band) => band.name
    ? [{ name: `${band.name}, low`, values: band.low }, { name: `${band.name}, high`, values: band.high }] : [])];
  const details = el("details", {}, el("summary", {}, "Numbers"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const stride = Math.ceil(options.x.length / MOST_ROWS);
    const rows = options.x.map((x, i) => [x, i]).filter(([, i]) => i % stride === 0 || i === options.x.length - 1);
    const head = [options.time ? "time" : options.xLabel ?? "x", ...lines.map((line) => line.name)];
    details.append(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Numbers of ${options.title}` },
      el("table", {}, el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, rows.map(([x, i]) => el("tr", {},
          el("th", { scope: "row" }, options.time ? new Date(x * 1000).toLocaleTimeString() : figures(x)),
          lines.map((line) => el("td", { class: "number" }, figures(line.values[i])))))))));
  });
  return details;
}
