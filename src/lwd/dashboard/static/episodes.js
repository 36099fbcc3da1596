// The newest episodes, by robot, task, kind and outcome.

import { ago, anew, el, moment, say, short } from "./dom.js";
import { get } from "./server.js";

export const TITLE = "Episodes";
const KINDS = ["demo", "play", "rollout", "online"], OUTCOMES = ["success", "failure", "timeout", "interrupted", "invalid"];
const COLUMNS = ["Episode", "Robot", "Task", "Kind", "Outcome", "Policy", "Length", "By a person", "Came in"];

export function show(state, query = "") {
  const given = new URLSearchParams(query);
  const field = (name, element) => { element.name = name; if (given.get(name)) element.value = given.get(name); return element; };
  const choice = (name, options) => field(name, el("select", {}, el("option", { value: "" }, "any"), options.map((o) => el("option", {}, o))));
  const form = el("form", { class: "row", role: "search", "aria-label": "Episodes" },
    el("label", {}, "Robot", field("robot", el("input", { type: "search", list: "robot-names", autocomplete: "off" }))),
    el("label", {}, "Task", field("task", el("input", { type: "search", list: "task-names", autocomplete: "off" }))),
    el("label", {}, "Kind", choice("kind", KINDS)), el("label", {}, "Outcome", choice("outcome", OUTCOMES)),
    el("button", { type: "submit" }, "Show"),
    el("datalist", { id: "robot-names" }, [...state.robots.keys()].map((name) => el("option", { value: name }))),
    el("datalist", { id: "task-names" }, [...new Set([...state.robots.values()].map((r) => r.task))].map((name) => el("option", { value: name }))));
  const body = el("tbody", { role: "rowgroup" }), note = el("p", { class: "soft", role: "status" });
  const more = el("button", { type: "button", onclick: () => { limit += 100; load(); } }, "Show more");
  let limit = 50, timer = null;

  async function load() {
    const wanted = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    wanted.set("limit", limit);
    const rows = await get(`/api/episodes?${wanted}`);
    anew(body, ...rows.map((row) => line(row, state.now())));
    note.textContent = rows.length ? "" : "No episode fits.";
    more.hidden = rows.length < limit || limit >= 500;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    history.replaceState(null, "", `#/episodes/${new URLSearchParams([...new FormData(form)].filter(([, v]) => v))}`);
    load().catch((error) => say(error.message));
  });
  return {
    elements: [el("h1", {}, "Episodes"),
      el("section", { class: "card", "aria-label": "Newest episodes" }, form,
        el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Newest episodes" },
          el("table", { class: "cards", role: "table", id: "episode-table" }, el("caption", { class: "hidden-words" }, "Newest episodes, as they were recorded"),
            el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, COLUMNS.map((name) => el("th", { scope: "col", role: "columnheader" }, name)))), body)),
        note, more)],
    start: () => load().catch((error) => say(error.message)),
    leave: () => clearTimeout(timer),
    news: ({ changed = [] }) => {
      if (!changed.includes("episodes") || timer) return;
      timer = setTimeout(() => { timer = null; load().catch((error) => say(error.message)); }, 3000);
    },
  };
}

function line(row, now) {
  const share = row.interventions / row.ticks;
  const cells = [el("a", { href: `#/episode/${row.episode_id}`, class: "mono" }, short(row.episode_id)), row.robot, row.task,
    row.held_out ? `${row.kind}, held out` : row.kind, el("span", { class: `state ${row.outcome}` }, row.outcome),
    row.policy_version ? `v${row.policy_version}` : "–", `${(row.ticks / row.rate_hz).toFixed(1)} s`,
    row.interventions ? `${Math.round(share * 100) || "<1"} %` : "–", el("time", { title: moment(row.inserted_at) }, ago(row.inserted_at, now))];
  return el("tr", { role: "row" }, cells.map((cell, i) => el("td", { role: "cell", "data-label": COLUMNS[i] }, cell)));
}
