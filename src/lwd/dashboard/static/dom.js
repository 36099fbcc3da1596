// Elements, words and numbers as the whole page writes them.

/** An element with attributes (`on…` are listeners, `hidden` and the like are booleans) and children. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Say something to everybody, screen readers included, for a while. */
export function say(words) {
  const place = document.getElementById("said");
  place.textContent = words;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { place.textContent = ""; }, 8000);
}

export const whole = (value) => value === null || value === undefined ? "–" : value.toLocaleString("en");
export const percent = (value) => value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`;

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) < 0.95) return `${Math.round(value * 1000)} ms`;
  if (Math.abs(value) < 99.5) return `${value.toFixed(1)} s`;
  return span(value);
}

/** A length of time in one unit. */
export function span(value) {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (Math.abs(value) >= 2 * length) return `${Math.round(value / length)} ${unit}`;
  }
  return `${Math.round(value)} s`;
}

export const ago = (at, now) => at ? (now - at < 2 ? "now" : `${span(now - at)} ago`) : "never";

export function moment(at) {
  return new Date(at * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** Write a part of the page anew without taking the focus from whoever is in it. */
export function anew(place, ...children) {
  const name = (element) => element.getAttribute("aria-label") ?? element.getAttribute("href") ?? element.textContent;
  const inside = place.contains(document.activeElement) ? name(document.activeElement) : null;
  place.replaceChildren(...children);
  if (inside === null) return;
  [...place.querySelectorAll("a, button, [tabindex]")].find((element) => name(element) === inside)?.focus({ preventScroll: true });
}

/** Whether somebody reads or operates a part of the page just now, so that it should stay as it is. */
export const inUse = (place) => place.contains(document.activeElement) || place.querySelector("details[open]") !== null;

export const short = (id) => id.slice(0, 8);

export function table(caption, columns, rows, { cards = false } = {}) {
  const names = columns.map((column) => column.name);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", { class: cards ? "cards" : null, role: "table" },
      el("caption", { class: "hidden-words" }, caption),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, columns.map((column) =>
        el("th", { scope: "col", role: "columnheader", class: column.class }, column.name)))),
      el("tbody", { role: "rowgroup" }, rows.map((cells) => el("tr", { role: "row" },
        cells.map((cell, i) => el("td", { role: "cell", class: columns[i].class, "data-label": names[i] }, cell)))))));
}
