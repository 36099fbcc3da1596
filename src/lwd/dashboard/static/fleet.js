// The fleet: what its data come to, and every robot with its last sign of life.

import { ago, anew, el, percent, seconds, span, whole } from "./dom.js";

export const TITLE = "Fleet";
const STEPS = [["produced", "recorded by robots"], ["uploaded", "in the catalog"], ["in_snapshot", "in the data set"], ["sampled", "seen by a learner"]];
const COLUMNS = [
  { name: "Robot", key: (r) => r.robot, class: "wide" },
  { name: "State", key: (r) => r.state },
  { name: "Task", key: (r) => r.task },
  { name: "Policy", key: (r) => r.version ?? 0, class: "number" },
  { name: "Staleness", key: (r) => r.behind },
  { name: "Success", key: (r) => r.judged ? r.successes / r.judged : -1 },
  { name: "Helped", key: (r) => r.helped, class: "number" },
  { name: "Episodes", key: (r) => r.episodes, class: "number" },
  { name: "In spool", key: (r) => r.pending, class: "number" },
  { name: "Last heard", key: (r) => -r.seen_at },
];

export function show(state) {
  const steps = STEPS.map(([name, words]) => ({ name, value: el("b", {}, "–"), words }));
  const facts = el("div", { class: "facts" });
  const latencies = el("dl", { class: "pairs" });
  const robots = robotTable(state);
  const elements = [
    el("div", { class: "head" }, el("h1", {}, "Fleet"), robots.summary),
    el("section", { class: "card", "aria-labelledby": "way" }, el("h2", { id: "way" }, "Episodes on their way"),
      el("ol", { class: "pipeline" }, steps.map((step) => el("li", {}, step.value, el("span", {}, step.words)))),
      el("div", {}, facts)),
    el("section", { class: "card", "aria-labelledby": "how-long" }, el("h2", { id: "how-long" }, "How long it takes"), latencies,
      el("p", { class: "small soft" }, "Half of the last 1,000 were faster than the first number, 99 % faster than the second.")),
    robots.section,
  ];
  const numbers = () => {
    const found = state.numbers;
    if (!found) return;
    for (const step of steps) step.value.textContent = whole(found[step.name]);
    facts.replaceChildren(...[["Data set", `v${found.snapshot}`], ["Policy", found.policy === null ? "none" : `v${found.policy}`],
      ["Waiting for a snapshot", whole(found.waiting)], ["Corrections waiting", whole(found.amendments_waiting)],
      ["Notices waiting", whole(found.notices)], ["Given up", whole(found.dead_letters)]]
      .map(([name, value]) => el("p", { class: "fact" }, el("b", {}, value), el("span", {}, name))));
    latencies.replaceChildren(...Object.entries(found.latency_s).flatMap(([name, way]) => [el("div", {}, el("dt", {}, name),
      el("dd", {}, way.count ? `${seconds(way.p50)} / ${seconds(way.p99)}` : "not yet measured"))]));
  };
  numbers();
  return {
    elements,
    start: robots.start,
    leave: robots.stop,
    news: (news) => { if (news.numbers) numbers(); if (news.robots) robots.update(news.robots); },
  };
}

/** The table keeps a row per robot and writes only cells that differ: a thousand robots stay quick. */
function robotTable(state) {
  const rows = new Map();
  const body = el("tbody", { role: "rowgroup" });
  const summary = el("p", { class: "soft", role: "status" });
  const filter = el("input", { type: "search", placeholder: "name or task" });
  const states = el("select", {}, ["any state", "acting", "correcting", "paused", "waiting", "reporting", "silent"].map((s) => el("option", { value: s === "any state" ? "" : s }, s)));
  let order = { column: 0, down: false }, timer = null, due = false;
  const heads = COLUMNS.map((column, i) => el("th", { scope: "col", role: "columnheader", class: column.class },
    el("button", { type: "button", onclick: () => { order = { column: i, down: order.column === i && !order.down }; sort(); } }, column.name)));
  const section = el("section", { class: "card", "aria-labelledby": "robots" },
    el("div", { class: "head" }, el("h2", { id: "robots" }, "Robots"),
      el("div", { class: "row" }, el("label", {}, "Search", filter), el("label", {}, "State", states))),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Robots" },
      el("table", { class: "cards", role: "table", id: "robot-table" }, el("caption", { class: "hidden-words" }, "Robots and their last signs of life"),
        el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, heads)), body)),
    el("p", { class: "small soft" }, "A name leads to the robot: what it sees and does now, and a person's hands on it."),
    el("p", { class: "empty" }, "No robot has been heard of yet."));
  const empty = section.lastChild;

  const fits = (robot) => (!states.value || robot.state === states.value)
    && `${robot.robot} ${robot.task}`.toLowerCase().includes(filter.value.toLowerCase());

  function update(changed) {
    let added = false;
    for (const robot of changed) {
      let row = rows.get(robot.robot);
      if (!row) { row = newRow(); rows.set(robot.robot, row); added = true; }
      row.robot = robot;
      write(row, state.now());
      row.element.hidden = !fits(robot);
    }
    if (added) sort();
    tally();
  }

  function newRow() {
    const cells = COLUMNS.map((column) => el("td", { role: "cell", class: column.class, "data-label": column.name }));
    return { cells, texts: [], element: el("tr", { role: "row" }, cells) };
  }

  function sort() {
    heads.forEach((head, i) => head.setAttribute("aria-sort", i === order.column ? (order.down ? "descending" : "ascending") : "none"));
    const { key } = COLUMNS[order.column], sign = order.down ? -1 : 1;
    const sorted = [...rows.values()].sort((a, b) => {
      const [x, y] = [key(a.robot), key(b.robot)];
      return sign * (x < y ? -1 : x > y ? 1 : a.robot.robot < b.robot.robot ? -1 : 1);
    });
    anew(body, ...sorted.map((row) => row.element));
  }

  function sift() {
    for (const row of rows.values()) row.element.hidden = !fits(row.robot);
    tally();
  }

  function tally() {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      const count = {};
      for (const { robot } of rows.values()) count[robot.state] = (count[robot.state] ?? 0) + 1;
      const words = `${whole(rows.size)} robots: ${Object.entries(count).sort().map(([s, n]) => `${n} ${s}`).join(", ")}`;
      if (summary.textContent !== words) summary.textContent = rows.size ? words : "";
      empty.hidden = rows.size > 0;
    });
  }

  filter.addEventListener("input", sift);
  states.addEventListener("change", sift);
  update([...state.robots.values()]);
  return {
    section, summary, update,
    start: () => { timer = setInterval(() => { const now = state.now(); for (const row of rows.values()) write(row, now); }, 5000); },
    stop: () => clearInterval(timer),
  };
}

function write(row, now) {
  const r = row.robot;
  const late = r.behind ? `${r.behind} behind, ${span(Math.max(now - r.behind_since, 0))}` : "newest";
  const texts = [r.robot, r.state, r.task || "–", r.version ? `v${r.version}` : "–", r.version ? late : "–",
    r.judged ? `${r.successes} of ${r.judged}` : "–", r.judged ? whole(r.helped) : "–", whole(r.episodes), whole(r.pending),
    ago(r.seen_at, now) + (r.clock_off_s ? `, clock ${seconds(Math.abs(r.clock_off_s))} ${r.clock_off_s > 0 ? "ahead" : "behind"}` : "")
      + (r.shared ? ", two processes have this name" : "")];
  texts.forEach((text, i) => {
    if (row.texts[i] === text) return;
    row.texts[i] = text;
    const cell = row.cells[i];
    if (i === 0) cell.replaceChildren(el("a", { href: `#/robot/${encodeURIComponent(r.robot)}` }, text));
    else if (i === 1) cell.replaceChildren(el("span", { class: `state ${r.state}` }, text));
    else if (i === 4) { cell.textContent = text; cell.classList.toggle("behind", r.version !== null && r.behind > 0); }
    else if (i === 5 && r.judged) {
      const bar = el("i");
      bar.style.width = percent(r.successes / r.judged).replace(" ", "");
      cell.replaceChildren(text, el("span", { class: "bar", "aria-hidden": "true" }, bar));
    } else cell.textContent = text;
  });
}
