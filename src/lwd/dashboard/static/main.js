// The frame of the page: which part is shown, who is signed in, and the stream of news.

import { el, say } from "./dom.js";
import { follow, get, send } from "./server.js";
import { signIn } from "./ask.js";
import { recolour } from "./chart.js";
import * as fleet from "./fleet.js";
import * as learning from "./learning.js";
import * as episodes from "./episodes.js";
import * as episode from "./episode.js";
import * as policies from "./policies.js";
import * as record from "./record.js";
import * as robot from "./robot.js";

const PARTS = { fleet, learning, episodes, episode, policies, record, robot };
const content = document.getElementById("content");

/** What every part of the page shares. */
const state = { robots: new Map(), numbers: null, skew: 0, session: { open: false, scopes: [] } };
state.now = () => Date.now() / 1000 + state.skew;
state.mayOperate = () => state.session.scopes.includes("operate");

let shown = null;

async function route(moved) {
  const [name, ...rest] = (location.hash.replace(/^#\//, "") || "fleet").split("/");
  const part = PARTS[name] ?? fleet;
  shown?.leave?.();
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.hash === `#/${{ episode: "episodes", robot: "fleet" }[name] ?? name}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${part.TITLE} – lwd fleet`;
  const view = part.show(state, ...rest.map(decodeURIComponent));
  shown = view;
  content.replaceChildren(...view.elements);
  view.start?.();
  if (moved) content.focus();
}

function onNews(news) {
  state.skew = news.now - Date.now() / 1000;
  for (const robot of news.robots ?? []) state.robots.set(robot.robot, robot);
  if (news.numbers) state.numbers = news.numbers;
  shown?.news?.(news);
}

function onState(name) {
  const place = document.getElementById("connection");
  if (place.className === name) return;
  place.className = name;
  place.querySelector(".words").textContent = name === "live" ? "live" : "connection lost, trying again";
}

async function enter() {
  state.session = await get("/api/session");
  const button = document.getElementById("session");
  button.hidden = state.session.open;
  const inside = state.session.scopes.includes("read");
  button.textContent = inside ? "Sign out" : "Sign in";
  if (inside) {
    enter.stop?.();
    enter.stop = follow(onNews, onState);
    route(false);
  } else {
    content.replaceChildren(el("h1", {}, "Sign in"), el("p", {}, "This fleet is shown to whoever has a token."));
    if (await signIn()) await enter();
  }
}

document.getElementById("session").addEventListener("click", async () => {
  if (state.session.scopes.includes("read")) {
    await send("/api/session", undefined, "DELETE");
    location.reload();
  } else if (await signIn()) await enter();
});

const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = document.getElementById("theme");
function paint(name) {
  const now = name ?? (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = now;
  theme.textContent = now === "dark" ? "Light" : "Dark";
  theme.setAttribute("aria-label", `Use ${now === "dark" ? "light" : "dark"} colours`);
  recolour();
}
theme.addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("lwd-theme", next);
  paint(next);
});
dark.addEventListener("change", () => paint(localStorage.getItem("lwd-theme")));
paint(localStorage.getItem("lwd-theme"));

addEventListener("hashchange", () => route(true));
addEventListener("unhandledrejection", (event) => say(event.reason?.message ?? String(event.reason)));
enter();
