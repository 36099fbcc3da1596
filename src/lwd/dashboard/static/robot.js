// One robot: what it sees and does now, and a person's hands on it.

import { el, say } from "./dom.js";
import { get, send } from "./server.js";

export const TITLE = "Robot";
const NAME = "lwd-author", WORD_MS = 100, LOOK_MS = 250, AWAY_MS = 2000, STEP_MS = 250;
const PRESSES = [["pause", " ", "grave"], ["take over", "t", "main"], ["hand back", "h"], ["success", "y"], ["failure", "n"], ["stop", "q"]];
const KEYS = { ArrowUp: ["forward", 1], ArrowDown: ["forward", -1], ArrowLeft: ["left", 1], ArrowRight: ["left", -1], w: ["up", 1], s: ["up", -1],
  a: ["turn", 1], d: ["turn", -1], i: ["tilt", 1], k: ["tilt", -1], j: ["roll", -1], l: ["roll", 1], o: ["open", 1], c: ["open", -1] };
const WORDS = { forward: ["Forward", "Back"], left: ["Left", "Right"], up: ["Up", "Down"], turn: ["Turn left", "Turn right"], tilt: ["Tilt down", "Tilt up"],
  roll: ["Roll right", "Roll left"], open: ["Open", "Close"] };
const SAYS = { autonomous: "The policy acts.", paused: "Paused: the robot rests and nothing is recorded.", correcting: "A person acts; what is recorded counts as a person's." };

export function show(state, robot) {
  const seat = crypto.getRandomValues(new Uint32Array(4)).join("-");
  const held = new Map();
  let sight = null, gone = false, timer = null, speed = 0.6, group = "", drawn = "", shown = "";
  let words = Promise.resolve();

  const name = el("input", { name: "author", maxlength: "100", autocomplete: "name", value: localStorage.getItem(NAME) ?? "" });
  const canvas = el("canvas", { width: "480", height: "240", role: "img", "aria-label": "No picture of the robot." });
  const status = el("p", { role: "status" }, "Asking the robot …");
  const facts = el("dl", { class: "pairs" }), pad = el("div", { class: "pad" }), hands = el("div", { class: "row" });
  const speeds = el("select", { onchange: (event) => { speed = Number(event.target.value); } },
    [["0.3", "slow"], ["0.6", "middle"], ["1", "fast"]].map(([value, label]) => el("option", { value, selected: value === "0.6" }, label)));
  const buttons = PRESSES.map(([press, key, kind]) => el("button", { type: "button", class: kind ?? null, onclick: (event) => { tell(press); if (event.detail) settle(); } },
    press[0].toUpperCase() + press.slice(1), el("kbd", { "aria-hidden": "true" }, key === " " ? "space" : key)));
  const panel = el("section", { class: "card drive", tabindex: "0", role: "application", "aria-label": `Hands on ${robot}`, "aria-describedby": "keys" },
    el("div", { class: "row presses" }, buttons), status, el("div", { class: "sides" }, canvas, el("div", {}, hands, pad)), facts);
  const named = state.session.open ? el("label", {}, "Your name, for the record", name) : null;
  const help = el("details", {}, el("summary", {}, "Keys"), el("p", { id: "keys", class: "small" },
    "While the focus is in the frame above: t takes over, space pauses, h hands back; y success, n failure and q stop end the episode. 1 and 2 choose the hand. ",
    "Arrows move it forward, back, left and right, w and s up and down, a and d turn it, i and k tilt it, j and l roll it, o and c open and close the gripper. ",
    "A key or button that is held moves on; one that is pressed with Enter moves a step. Whoever is not heard for a second pauses the robot."));
  const elements = [el("div", { class: "head" }, el("h1", {}, "Robot ", robot), el("a", { href: `#/episodes/robot=${encodeURIComponent(robot)}` }, "Its episodes")),
    ...(state.mayOperate() ? [panel, el("div", { class: "row" }, named, el("label", {}, "Speed", speeds)), help] : [el("section", { class: "card" }, status, canvas, facts)]).filter(Boolean)];

  const motion = () => (sight?.live.axes ?? []).map((axis) => Math.max(-1, Math.min(1, speed * [...held.values()].filter((h) => h.axis === axis).reduce((sum, h) => sum + h.sign, 0))));

  async function exchange(press = "") {
    const body = { robot, seat, press, motion: motion(), author: name.value };
    const mine = sight?.mine && state.mayOperate();
    draw(press || mine ? await send("/api/seat", body) : await get(`/api/seat?${new URLSearchParams({ robot, seat })}`));
  }

  /** One request at a time, in order; a press does not wait for the next turn. */
  function tell(press) {
    localStorage.setItem(NAME, name.value);
    words = words.then(() => exchange(press)).catch((error) => { say(error.message); if (named && !name.value) name.focus(); });
  }

  function turn() {
    if (gone) return;
    const before = performance.now();
    words = words.then(() => gone ? undefined : exchange()).then(() => sight?.mine ? WORD_MS : LOOK_MS, (error) => { lost(error); return sight?.mine ? WORD_MS : AWAY_MS; })
      .then((pause) => { timer = setTimeout(turn, Math.max(0, pause - (performance.now() - before))); });
  }

  function lost(error) {
    const text = sight?.mine ? `Not heard: ${error.message} A robot that a person corrects pauses by itself.` : error.message;
    if (status.textContent !== text) status.textContent = text;
    shown = "";
  }

  function draw(found) {
    const had = sight?.mine, { live } = found;
    sight = found;
    if (had && !found.mine) held.clear();
    panel.dataset.mode = live.mode;
    const who = found.mine ? "You have it." : found.person ? `${found.person} has it.` : "";
    const text = [found.age_s > 6 ? `Silent for ${Math.round(found.age_s)} s.` : SAYS[live.mode], who, live.task ? `Task: ${live.instruction || live.task}.` : ""].filter(Boolean).join(" ");
    if (text !== shown) { shown = text; status.textContent = text; }
    const axes = live.axes.join("|");
    if (axes !== drawn) { drawn = axes; layOut(live.axes); }
    facts.replaceChildren(...Object.entries({ time: `${live.seconds.toFixed(1)} s`, ...live.facts }).map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, value))));
    paint(live);
    for (const [i, [press]] of PRESSES.entries()) buttons[i].disabled = !sensible(press, live.mode);
  }

  async function paint(live) {
    if (!live.picture) return;
    const bytes = Uint8Array.from(atob(live.picture), (character) => character.charCodeAt(0));
    const picture = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
    if (canvas.width !== picture.width) canvas.width = picture.width;
    if (canvas.height !== picture.height) canvas.height = picture.height;
    canvas.getContext("2d").drawImage(picture, 0, 0);
    canvas.setAttribute("aria-label", "The robot now, from beside the table and from its head; the words below say where its hands are.");
  }

  /** The buttons of what can be moved; where axes belong to hands, those of one hand at a time. */
  function layOut(axes) {
    const groups = [...new Set(axes.map((axis) => axis.split(": ").length > 1 ? axis.split(": ")[0] : axis))];
    if (!groups.includes(group)) group = groups[0] ?? "";
    hands.replaceChildren(...groups.map((one, i) => el("button", { type: "button", "aria-pressed": String(one === group), onclick: () => { group = one; held.clear(); layOut(axes); } },
      one, groups.length < 10 ? el("kbd", { "aria-hidden": "true" }, String(i + 1)) : null)));
    pad.replaceChildren(...axes.filter((axis) => axis === group || axis.startsWith(`${group}: `)).flatMap((axis) => {
      const kind = axis.split(": ")[1] ?? axis, labels = WORDS[kind] ?? [`${kind} +`, `${kind} −`];
      return [1, -1].map((sign, i) => lever(axis, sign, labels[i], Object.entries(KEYS).find(([, [k, s]]) => k === kind && s === sign)?.[0]));
    }));
  }

  function lever(axis, sign, label, key) {
    const id = `${axis}${sign}`, release = () => held.delete(id);
    return el("button", { type: "button", "aria-label": `${label}, ${group}`,
      onpointerdown: (event) => { if (event.button) return; event.currentTarget.setPointerCapture(event.pointerId); held.set(id, { axis, sign }); },
      onpointerup: () => { release(); settle(); }, onpointercancel: release, onlostpointercapture: release, oncontextmenu: (event) => event.preventDefault(),
      onclick: (event) => { if (event.detail === 0) { held.set(id, { axis, sign }); setTimeout(release, STEP_MS); } } },
    label, key ? el("kbd", { "aria-hidden": "true" }, key.replace("Arrow", "").toLowerCase()) : null);
  }

  panel.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || (event.target.tagName === "BUTTON" && (event.key === " " || event.key === "Enter"))) return;
    const press = PRESSES.find(([, key]) => key === event.key.toLowerCase()), way = KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
    if (!press && !way && !/^[1-9]$/.test(event.key)) return;
    event.preventDefault();
    if (event.repeat) return;
    if (press) tell(press[0]);
    else if (way) {
      const axes = sight?.live.axes ?? [], axis = axes.find((one) => one === `${group}: ${way[0]}`) ?? (way[0] === "forward" ? axes.find((one) => one === group) : undefined);
      if (axis) held.set(`key ${event.code}`, { axis, sign: way[1] });
    } else hands.children[Number(event.key) - 1]?.click();
  });
  panel.addEventListener("keyup", (event) => held.delete(`key ${event.code}`));
  panel.addEventListener("focusout", (event) => { if (!panel.contains(event.relatedTarget)) held.clear(); });

  /** Whoever looks away does not drive. */
  const hide = () => {
    held.clear();
    if (sight?.mine && sight.live.mode === "correcting") {
      fetch("/api/seat", { method: "POST", keepalive: true, headers: { "Content-Type": "application/json" }, body: JSON.stringify({ robot, seat, press: "pause", author: name.value }) }).catch(() => {});
    }
  };
  const hidden = () => { if (document.hidden) hide(); };
  return {
    elements,
    start: () => { turn(); addEventListener("pagehide", hide); document.addEventListener("visibilitychange", hidden); addEventListener("blur", release); },
    leave: () => { hide(); gone = true; clearTimeout(timer); removeEventListener("pagehide", hide); document.removeEventListener("visibilitychange", hidden); removeEventListener("blur", release); },
  };

  function release() { held.clear(); }

  /** After a mouse or a finger the keys are the frame's, so that space pauses and presses no button again. */
  function settle() { panel.focus({ preventScroll: true }); }
}

/** Whether a press means anything now. */
function sensible(press, mode) {
  if (press === "pause") return mode !== "paused";
  if (press === "take over") return mode !== "correcting";
  return mode !== "autonomous";
}
