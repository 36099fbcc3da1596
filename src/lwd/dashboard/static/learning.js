// What the fleet has learned: success of each task over time, and the learner's own curves.

import { el, inUse, percent, say } from "./dom.js";
import { get } from "./server.js";
import { chart } from "./chart.js";

export const TITLE = "Learning";
const EVERY_MS = 4000;

/** Curves that say most; a metric is shown where the recipe has it. */
const CURVES = [
  { title: "Quantile level τ and entropy of V", range: [0, 1], metrics: { "value/tau": "τ", "value/entropy": "entropy, share of the largest" } },
  { title: "What the critic says", metrics: { "critic/q": "Q of the replay's actions", "critic/target": "target", "value/bootstrap": "V at τ" } },
  { title: "Loss of V", metrics: { "value/loss": "loss" } },
  { title: "Loss of Q", metrics: { "critic/loss": "loss" } },
  { title: "Loss of the policy", metrics: { "policy/sft_loss": "flow matching", "policy/flow_loss": "flow matching, with advantage", "policy/loss": "loss", "policy/qam_loss": "QAM" } },
  { title: "How far the policy moves", metrics: { "policy/shift": "distance to the reference", "critic/spread": "disagreement of the Q heads" } },
];

export function show(state) {
  const unaided = el("input", { type: "checkbox", onchange: () => success() });
  const tasks = el("div", { class: "grid" }), curves = el("div", { class: "grid" }), other = el("select", { onchange: () => extra() });
  const one = el("div");
  let found = null, last = {}, timers = {};

  async function success() {
    const answer = await get(`/api/success?unaided=${unaided.checked}`);
    const names = Object.keys(answer.tasks);
    tasks.replaceChildren(...(names.length ? names.map((name) => ofTask(name, answer)) : [el("p", { class: "empty" }, "No policy has acted yet.")]));
  }

  async function learner() {
    found = await get("/api/learner");
    const shown = CURVES.map((wanted) => ({ ...wanted, lines: Object.entries(wanted.metrics).filter(([name]) => found.metrics[name]) }))
      .filter((wanted) => wanted.lines.length);
    curves.replaceChildren(...(shown.length ? shown.map((wanted) => metric(wanted)) : [el("p", { class: "empty" }, "No learner has reported under this root.")]));
    const names = Object.keys(found.metrics), chosen = other.value;
    other.replaceChildren(...names.map((name) => el("option", { value: name, selected: name === chosen }, name)));
    extra();
  }

  const metric = ({ title, range, lines }) => chart({
    title, range, x: found.update, xLabel: "updates",
    series: lines.map(([name, words], i) => ({ name: words, values: found.metrics[name], colour: `c${i + 1}`, spanGaps: false })),
    under: stages, note: found.stages.map((stage) => `${stage.stage} until update ${stage.to}`).join(", ") + ".",
  });

  /** Every other stage on a tint, with its name. */
  function stages(u, colour) {
    const { ctx, bbox } = u;
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    found.stages.forEach((stage, i) => {
      const [from, to] = [stage.from, stage.to].map((x) => u.valToPos(x, "x", true));
      if (i % 2) { ctx.fillStyle = colour("tint"); ctx.fillRect(from, bbox.top, to - from, bbox.height); }
      ctx.fillStyle = colour("soft");
      if (to - from > 40 * devicePixelRatio) ctx.fillText(stage.stage, from + 5 * devicePixelRatio, bbox.top + 13 * devicePixelRatio);
    });
  }

  function extra() {
    if (!other.value) return;
    one.replaceChildren(metric({ title: other.value, lines: [[other.value, other.value]] }));
  }

  /** Ask again for what has changed, but not more often than a person can look. */
  function soon(name, load) {
    const wait = Math.max(0, EVERY_MS - (Date.now() - (last[name] ?? 0)));
    clearTimeout(timers[name]);
    timers[name] = setTimeout(() => {
      const places = name === "success" ? [tasks] : [curves, one];
      if (places.some(inUse)) { last[name] = Date.now(); soon(name, load); return; }
      last[name] = Date.now();
      load().catch((error) => say(error.message));
    }, wait);
  }

  return {
    elements: [
      el("h1", {}, "Learning"),
      el("section", { class: "card", "aria-labelledby": "success" },
        el("div", { class: "head" }, el("h2", { id: "success" }, "Success by task"),
          el("label", { class: "check" }, unaided, "Count only success without help")),
        el("p", { class: "small soft" }, "Episodes in which a policy acted, by when they came in; bands are Wilson 95 % intervals."), tasks),
      el("section", { class: "card", "aria-labelledby": "curves" }, el("h2", { id: "curves" }, "Learner"), curves),
      el("section", { class: "card", "aria-labelledby": "any" }, el("h2", { id: "any" }, "Any other metric"),
        el("div", { class: "row" }, el("label", {}, "Metric", other)), one),
    ],
    start: () => { soon("success", success); soon("learner", learner); },
    leave: () => Object.values(timers).forEach(clearTimeout),
    news: ({ changed = [] }) => {
      if (changed.includes("success")) soon("success", success);
      if (changed.includes("learner")) soon("learner", learner);
    },
  };
}

function ofTask(name, answer) {
  const task = answer.tasks[name], { successes, episodes, interval } = task.total;
  const whole = `${percent(successes / episodes)} of ${episodes}, ${percent(interval[0])} to ${percent(interval[1])}`;
  return chart({
    title: `${name}: ${whole}`, x: answer.at, time: true, range: [0, 1], sync: "success", height: 180,
    note: `${successes} of ${episodes} episodes succeeded, interval ${percent(interval[0])} to ${percent(interval[1])}.`,
    series: [{ name: "success", values: task.rate, points: true, spanGaps: false }],
    bands: [{ name: "95 % interval", low: task.low, high: task.high, colour: "c1" }],
  });
}
