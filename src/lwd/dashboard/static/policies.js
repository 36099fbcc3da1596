// Published policies: who has which, and releases with their reasons.

import { ago, anew, el, moment, say, table } from "./dom.js";
import { get } from "./server.js";
import { ask } from "./ask.js";

export const TITLE = "Policies";
const COLUMNS = [{ name: "Version", class: "wide" }, { name: "Stage" }, { name: "Update", class: "number" }, { name: "Data set", class: "number" }, { name: "Published" },
  { name: "For" }, { name: "Acting with it" }, { name: "Note", class: "wide" }, { name: "Release", class: "wide" }];

export function show(state) {
  const place = el("section", { class: "card", "aria-label": "Published policies" }, el("p", { class: "empty" }, "Loading …"));
  const summary = el("p", { class: "soft", role: "status" });
  let timer = null;

  async function load() {
    const found = (await get("/api/policies")).reverse();
    const held = found.find((row) => /^(promoted|rolled back to) /.test(row.note))?.note.startsWith("rolled back");
    summary.textContent = held ? "A roll-back holds: what the learner publishes reaches no robot until something is promoted." : "";
    anew(place, found.length ? table("Published policies", COLUMNS, found.map((row, i) => line(row, i === 0, state, load)), { cards: true })
      : el("p", { class: "empty" }, "The learner has published nothing yet."));
  }
  return {
    elements: [el("div", { class: "head" }, el("h1", {}, "Policies"), summary), place],
    start: () => load().catch((error) => say(error.message)),
    leave: () => clearTimeout(timer),
    news: ({ changed = [] }) => {
      if (!changed.includes("policies") || timer) return;
      timer = setTimeout(() => { timer = null; load().catch((error) => say(error.message)); }, 1000);
    },
  };
}

function line(row, newest, state, again) {
  const audience = row.audience === "" ? "all" : row.audience.replace(/^,|,$/g, "").split(",").filter(Boolean).join(", ") || "nobody";
  const acting = row.acting.length > 6 ? `${row.acting.length} robots` : row.acting.join(", ") || "–";
  return [`v${row.version}`, row.stage, row.update.toLocaleString("en"), `v${row.snapshot}`,
    el("time", { title: moment(row.published_at) }, ago(row.published_at, state.now())), audience, acting, row.note,
    state.mayOperate() ? releases(row, newest, state, again) : "–"];
}

function releases({ version }, newest, state, again) {
  const robots = [...state.robots.keys()].sort(), named = !state.session.open;
  const open = (kind, options) => ask({ path: `/api/policies/${version}/${kind}`, named, ...options }).then((done) => { if (done) again(); });
  const promote = () => open("promote", { title: `Promote version ${version}`, confirm: "Promote it",
    explanation: `All ${robots.length} robots get this policy at their next episode, and from then on whatever the learner publishes.` });
  const rollback = () => open("rollback", { title: `Roll back to version ${version}`, confirm: "Roll back", grave: true,
    explanation: `All ${robots.length} robots get this policy at their next episode. Nothing that the learner publishes reaches a robot until something is promoted.` });
  const canary = () => {
    const chosen = el("select", { multiple: true, size: String(Math.min(8, Math.max(robots.length, 2))), required: true }, robots.map((name) => el("option", {}, name)));
    return open("canary", { title: `Try version ${version} on some robots`, confirm: "Try it", fields: [el("label", {}, "Robots that get it", chosen)],
      explanation: "Only the robots that you choose get this policy at their next episode, until something newer is meant for them.",
      body: () => ({ robots: [...chosen.selectedOptions].map((option) => option.value) }) });
  };
  const button = (words, act, kind) => el("button", { type: "button", class: kind, onclick: act, "aria-label": `${words} version ${version} …` }, `${words} …`);
  return el("div", { class: "row" }, button("Promote", promote), button("Canary", canary), newest ? null : button("Roll back to", rollback, "grave"));
}
