// One episode: frames, value and its distribution, actions and who acted; and what people correct about it.

import { el, moment, percent, say, short } from "./dom.js";
import { get } from "./server.js";
import { ask } from "./ask.js";
import { chart } from "./chart.js";

export const TITLE = "Episode";
const SOURCES = ["policy", "person", "demonstrator", "play"];
const OUTCOMES = ["success", "failure", "timeout", "interrupted", "invalid"];

export function show(state, id) {
  const facts = el("section", { class: "card", "aria-label": "About the episode" }, el("p", { class: "soft" }, "Loading …"));
  const frames = el("section", { class: "card", "aria-labelledby": "frames", hidden: true });
  const values = el("section", { class: "card", "aria-labelledby": "value" }, el("h2", { id: "value" }, "Value"),
    el("p", { class: "empty", role: "status" }, "The critic reads the episode …"));
  const actions = el("section", { class: "card", "aria-labelledby": "action" }, el("h2", { id: "action" }, "Actions"));
  const buttons = el("div", { class: "row" });
  const player = { tick: 0, ticks: null, listeners: [], timer: null };
  player.go = (tick) => {
    player.tick = Math.max(0, Math.min(tick, player.last ?? 0));
    for (const listener of player.listeners) listener(player.tick);
  };

  async function load() {
    const life = await get(`/api/episodes/${id}`);
    describe(facts, life);
    score(facts, player.ticks);
    if (state.mayOperate()) buttons.replaceChildren(...corrections(state, life, load));
    if (player.ticks) return;
    player.ticks = await get(`/api/episodes/${id}/ticks`);
    player.last = player.ticks.seconds.length - 1;
    score(facts, player.ticks);
    showFrames(frames, id, player);
    showActions(actions, player);
    try {
      showValues(values, await get(`/api/episodes/${id}/values`), player);
    } catch (error) {
      values.querySelector("p").textContent = error.message;
    }
  }

  return {
    elements: [el("div", { class: "head" }, el("h1", {}, "Episode ", el("span", { class: "mono" }, short(id))), buttons), facts, frames, values, actions],
    start: () => load().catch((error) => { facts.replaceChildren(el("p", { role: "alert" }, error.message)); values.remove(); actions.remove(); }),
    leave: () => clearInterval(player.timer),
  };
}

function describe(place, { row, acted, joined, amendments, trained }) {
  const pairs = [["Task", row.task], ["Instruction", row.instruction], ["Robot", el("a", { href: `#/episodes/robot=${encodeURIComponent(row.robot)}` }, row.robot)],
    ["Kind", row.held_out ? `${row.kind}, held out` : row.kind], ["Outcome as recorded", el("span", { class: `state ${row.outcome}` }, row.outcome)],
    ["Length", `${(row.ticks / row.rate_hz).toFixed(1)} s, ${row.ticks} ticks`], ["By a person", `${row.interventions} ticks`],
    ["Policy", acted ? `v${acted.version}, ${acted.stage}` : "none"], ["Recorded", moment(row.produced_at)],
    ["In the data set", joined === null ? "not yet" : `since v${joined}`], ["Trained", trained.length ? trained.map((v) => `v${v}`).join(", ") : "no policy yet"],
    ["Episode, and its trace", el("code", {}, row.episode_id)]];
  const list = el("dl", { class: "pairs" }, pairs.map(([name, value]) =>
    el("div", { class: name === "Instruction" ? "long" : null }, el("dt", {}, name), el("dd", {}, value))));
  place.replaceChildren(list, ...(amendments.length ? [ el("div", {}, el("h2", {}, "Corrections"), el("ul", { class: "plain" }, amendments.map((entry) => el("li", { class: "entry" },
      el("b", {}, `${entry.change} ${entry.value}`), ` ${entry.version ? `since v${entry.version}` : "from the next snapshot on"}, by ${entry.author}: ${entry.reason}`))))] : []));
}

/** The step-wise score of a task that has annotated sub-steps, as the recording or a person says. */
function score(place, ticks) {
  const parts = ticks?.substeps ?? [];
  if (parts.length) place.querySelector("dl").append(el("div", {}, el("dt", {}, "Step-wise score"),
    el("dd", {}, `${percent(parts.reduce((sum, part) => sum + part, 0) / parts.length)}, steps ${parts.join(", ")}`)));
}

function corrections(state, { row, amendments }, again) {
  const named = !state.session.open, path = `/api/episodes/${row.episode_id}/amend`;
  const gone = amendments.map((entry) => entry.change).filter((c) => c === "tombstone" || c === "restore").at(-1) === "tombstone";
  const open = (options) => ask({ path, named, ...options }).then((done) => { if (done) again(); });
  const outcome = () => {
    const choice = el("select", {}, OUTCOMES.map((name) => el("option", { selected: name === row.outcome }, name)));
    return open({ title: "Correct the outcome", confirm: "Correct it", fields: [el("label", {}, "How the episode really ended", choice)],
      explanation: "The recording stays as it is. From the next version of the data set on, rewards follow what you say here; earlier versions keep what they had.",
      body: () => ({ change: "outcome", value: JSON.stringify(choice.value) }) });
  };
  const human = () => {
    const ranges = el("input", { placeholder: "30-45, 60-80", pattern: "[0-9,\\s\\-]*" });
    return open({ title: "Correct who acted", confirm: "Correct it", fields: [el("label", {}, `Ticks in which a person acted, of ${row.ticks}; empty for none`, ranges)],
      explanation: "From the next version of the data set on, these ticks count as a person's and all others as the policy's.",
      body: () => ({ change: "human", value: JSON.stringify(ranges.value.split(",").filter((part) => part.trim()).map((part) => part.split("-").map(Number))) }) });
  };
  const tombstone = () => open({ title: "Take the episode out", confirm: "Take it out", grave: true, body: () => ({ change: "tombstone" }),
    explanation: "From the next version of the data set on, no learner sees it. Earlier versions keep it, and it can be brought back." });
  const restore = () => open({ title: "Bring the episode back", confirm: "Bring it back", body: () => ({ change: "restore" }),
    explanation: "It is in the data set again from the next version on." });
  return [el("button", { type: "button", onclick: outcome }, "Correct outcome …"), el("button", { type: "button", onclick: human }, "Correct who acted …"),
    gone ? el("button", { type: "button", onclick: restore }, "Bring back …") : el("button", { type: "button", class: "grave", onclick: tombstone }, "Take out …")];
}

function showFrames(place, id, player) {
  const { cameras, seconds, source, events } = player.ticks, names = Object.keys(cameras);
  const pictures = names.map((name) => ({ name, kept: cameras[name], image: el("img", { alt: `camera ${name}` }) }));
  const slider = el("input", { type: "range", min: "0", max: String(player.last), value: "0", "aria-label": "Tick" });
  const words = el("output", { class: "small soft" });
  const play = el("button", { type: "button", onclick: () => toggle() }, "Play");
  const happened = events.length ? el("details", {}, el("summary", {}, `${events.length} events`),
    el("ul", {}, events.slice(0, 200).map(([tick, name]) => el("li", {}, el("button", { type: "button", onclick: () => player.go(tick) }, `${seconds[tick].toFixed(1)} s`), ` ${name}`)))) : null;
  place.hidden = false;
  place.replaceChildren(...[el("h2", { id: "frames" }, names.length ? "Cameras" : "Time"),
    names.length ? el("div", { class: "frames" }, pictures.map(({ name, image }) => el("figure", {}, image, el("figcaption", { class: "small soft" }, name))))
      : el("p", { class: "small soft" }, "This episode was recorded without images."),
    el("div", { class: "player" }, play, slider, words), happened].filter(Boolean));
  const stop = () => { clearInterval(player.timer); player.timer = null; play.textContent = "Play"; };
  function toggle() {
    if (player.timer) return stop();
    if (player.tick >= player.last) player.go(0);
    play.textContent = "Pause";
    const step = Math.max(1000 * seconds.at(-1) / player.last, 50), stride = Math.max(1, Math.round(50 * player.last / (1000 * seconds.at(-1))));
    player.timer = setInterval(() => { player.go(player.tick + stride); if (player.tick >= player.last) stop(); }, step);
    return undefined;
  }
  slider.addEventListener("input", () => player.go(Number(slider.value)));
  player.listeners.push((tick) => {
    slider.value = tick;
    const who = SOURCES[source[Math.min(tick, source.length - 1)]];
    words.textContent = `${seconds[tick].toFixed(1)} s, ${who}`;
    slider.setAttribute("aria-valuetext", words.textContent);
    for (const { name, kept, image } of pictures) {
      const at = kept.filter((t) => t <= tick).at(-1) ?? kept[0];
      if (at !== undefined && image.dataset.tick !== String(at)) {
        image.dataset.tick = at;
        image.src = `/api/episodes/${id}/frames/${encodeURIComponent(name)}/${at}`;
      }
    }
  });
  player.go(0);
}

/** Ticks in which a person acted, tinted behind a chart, and a line at the tick that is shown. */
function actors(player) {
  const spans = [];
  player.ticks.source.forEach((source, tick) => {
    if (source === 0) return;
    if (spans.at(-1)?.to === tick) spans.at(-1).to = tick + 1;
    else spans.push({ from: tick, to: tick + 1 });
  });
  const who = [...new Set(player.ticks.source)].filter((source) => source !== 0).map((source) => SOURCES[source]).join(" or ");
  const at = (u, tick) => u.valToPos(player.ticks.seconds[Math.min(tick, player.last)], "x", true);
  return {
    under: (u, colour) => {
      u.ctx.fillStyle = colour("human");
      for (const { from, to } of spans) u.ctx.fillRect(at(u, from), u.bbox.top, at(u, to) - at(u, from), u.bbox.height);
    },
    over: (u, colour) => {
      u.ctx.fillStyle = colour("ink");
      u.ctx.fillRect(at(u, player.tick) - 1, u.bbox.top, 1.5 * devicePixelRatio, u.bbox.height);
    },
    keys: spans.length ? [{ name: `${who} acted`, fill: "human", area: true }] : [],
    words: spans.length ? `${who} acted in ${spans.map(({ from, to }) => `ticks ${from} to ${to}`).slice(0, 8).join(", ")}.` : "The policy acted throughout.",
  };
}

function showValues(place, found, player) {
  const who = actors(player), seconds = player.ticks.seconds.slice(0, found.mean.length), spread = found.distribution;
  const common = { x: seconds, xLabel: "seconds", sync: "episode", onPick: player.go, over: who.over };
  const curve = chart({ ...common, title: "Value along the episode", under: who.under, keys: who.keys, note: who.words, range: [-0.1, 1.1],
    series: [{ name: "mean of V", values: found.mean }, { name: "median", values: found.median, colour: "c6", dash: [4, 4], width: 1 }],
    bands: [{ name: "10 to 90 %", low: found.low, high: found.high, colour: "c1" }] });
  const heat = spread && chart({ ...common, title: "Distribution of the value", range: [spread.values[0][0], spread.values.at(-1)[1]],
    note: "Darker where the critic puts more probability.", series: [{ name: "mean of V", values: found.mean, colour: "c2", width: 1.3 }],
    under: (u, colour) => paintDensity(u, spread, seconds, colour("heat")), keys: [{ name: "probability", fill: "c1", area: true }], height: 240 });
  const { stage, update } = found.checkpoint;
  place.replaceChildren(el("h2", { id: "value" }, "Value"), el("p", { class: "small soft" }, `By the critic of the newest checkpoint: ${stage}, update ${update}. A click moves the time.`),
    el("div", { class: "grid" }, curve, heat ?? el("p", { class: "empty" }, "This critic has a single value, no distribution.")));
  player.listeners.push(() => { curve.redraw(); heat?.redraw(); });
}

/** The distribution as one picture, a pixel for each column and level, stretched over the plot. */
function paintDensity(u, spread, seconds, rgb) {
  const columns = spread.ticks.length, levels = spread.values.length;
  const [red, green, blue] = rgb.split(",").map(Number);
  const picture = new ImageData(columns, levels);
  spread.density.forEach((row, level) => row.forEach((weight, column) => {
    picture.data.set([red, green, blue, 255 * Math.sqrt(weight / 1000)], 4 * ((levels - 1 - level) * columns + column));
  }));
  const canvas = new OffscreenCanvas(columns, levels);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  const [left, right] = [seconds[0], seconds.at(-1)].map((x) => u.valToPos(x, "x", true));
  const [top, bottom] = [spread.values.at(-1)[1], spread.values[0][0]].map((y) => u.valToPos(y, "y", true));
  u.ctx.drawImage(canvas, left, top, right - left, bottom - top);
}

function showActions(place, player) {
  const { action, action_policy: wanted, seconds } = player.ticks, who = actors(player);
  const moved = action.map((values) => Math.max(...values) - Math.min(...values));
  const choice = el("select", {}, el("option", { value: "all" }, "all together"),
    action.map((_, i) => el("option", { value: i, selected: moved[i] === Math.max(...moved) }, `${i + 1} of ${action.length}`)));
  const shown = el("div");
  const draw = () => {
    const x = seconds.slice(0, action[0].length), common = { x, xLabel: "seconds", sync: "episode", onPick: player.go, ...who, note: who.words };
    const series = choice.value === "all"
      ? action.map((values, i) => ({ name: `${i + 1}`, values, colour: `c${i % 6 + 1}`, width: 1.1, dash: i > 5 ? [4, 3] : undefined }))
      : [{ name: "what the policy wanted", values: wanted[choice.value], colour: "c2", alpha: 0.5, width: 5, spanGaps: false }, { name: "executed", values: action[choice.value] }];
    const figure = chart({ ...common, title: choice.value === "all" ? "All dimensions" : `Dimension ${Number(choice.value) + 1}`, series });
    shown.replaceChildren(figure);
    shown.figure = figure;
  };
  choice.addEventListener("change", draw);
  player.listeners.push(() => shown.figure?.redraw());
  place.replaceChildren(el("h2", { id: "action" }, "Actions"), el("div", { class: "row" }, el("label", {}, "Dimension", choice)), shown);
  draw();
}
