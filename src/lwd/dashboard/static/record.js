// The record: everything that people have changed, newest first.

import { anew, el, moment, say, short } from "./dom.js";
import { get } from "./server.js";

export const TITLE = "Record";

export function show() {
  const list = el("ul", { class: "plain" }, el("li", { class: "empty" }, "Loading …"));
  async function load() {
    const entries = await get("/api/audit");
    anew(list, ...(entries.length ? entries.map(line) : [el("li", { class: "empty" }, "Nobody has changed anything yet.")]));
  }
  const again = () => load().catch((error) => say(error.message));
  return {
    elements: [el("h1", {}, "Record"), el("section", { class: "card", "aria-label": "What people have changed" },
      el("p", { class: "small soft" }, "Corrections of episodes, releases of policies, and hands on robots. Entries are never changed or removed."), list)],
    start: again,
    news: ({ changed = [] }) => { if (changed.includes("audit")) again(); },
  };
}

function line(entry) {
  const what = entry.press
    ? [el("b", {}, entry.press), " told to ", el("a", { href: `#/robot/${encodeURIComponent(entry.robot)}` }, entry.robot), ` by ${entry.author}`]
    : entry.note
    ? [el("b", {}, `Policy v${entry.version}`), ` ${entry.note}`]
    : [el("b", {}, `${entry.change} ${entry.value}`), " of ", el("a", { href: `#/episode/${entry.episode_id}`, class: "mono" }, short(entry.episode_id)),
      ` by ${entry.author}: ${entry.reason}`, el("span", { class: "soft" }, entry.version ? ` (since v${entry.version})` : " (waits for the next snapshot)")];
  return el("li", { class: "entry" }, what, el("div", { class: "small soft" }, moment(entry.at)));
}
