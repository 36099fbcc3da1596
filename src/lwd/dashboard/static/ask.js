// Dialogs that ask before something is changed: what will happen, who does it, and why.

import { el, say } from "./dom.js";
import { send } from "./server.js";

const NAME = "lwd-author";

/**
 * Ask and do. `options`: title, explanation, fields (elements with labels), confirm (words of the button), grave,
 * path, body() (the fields' part of what is sent), named (a token says who it is, so that no name is asked for).
 * Resolves to true once it is done.
 */
export function ask(options) {
  const author = el("input", { name: "author", required: true, maxlength: "100", autocomplete: "name", value: localStorage.getItem(NAME) ?? "" });
  const reason = el("textarea", { name: "reason", required: true, maxlength: "500", rows: "2" });
  const fault = el("p", { class: "fault", role: "alert" });
  const confirm = el("button", { type: "submit", class: options.grave ? "grave" : "main" }, options.confirm);
  const cancel = el("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const form = el("form", {},
    el("h2", { id: "ask-title" }, options.title),
    el("p", { id: "ask-words" }, options.explanation),
    options.fields ?? [],
    options.named ? null : el("label", {}, "Your name, for the record", author),
    el("label", {}, "Why, for the record", reason),
    fault, el("div", { class: "row" }, cancel, confirm));
  const dialog = el("dialog", { "aria-labelledby": "ask-title", "aria-describedby": "ask-words" }, form);
  document.body.append(dialog);
  let done = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    fault.textContent = "";
    try {
      localStorage.setItem(NAME, author.value);
      const answer = await send(options.path, { ...(options.body?.() ?? {}), author: author.value, reason: reason.value });
      done = true;
      say(answer.done);
      dialog.close();
    } catch (error) {
      fault.textContent = error.message;
      confirm.disabled = false;
    }
  });
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => { dialog.remove(); resolve(done); });
    dialog.showModal();
  });
}

/** Ask for a token; resolves to true once the server has taken it. */
export function signIn(words = "") {
  const token = el("input", { name: "token", type: "password", required: true, autocomplete: "current-password" });
  const fault = el("p", { class: "fault", role: "alert" }, words);
  const form = el("form", {},
    el("h2", { id: "sign-title" }, "Sign in"),
    el("p", {}, "Give a token of this fleet. ", el("code", {}, "lwd token NAME --scopes read operate"), " makes one."),
    el("label", {}, "Token", token), fault,
    el("div", { class: "row" }, el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
      el("button", { type: "submit", class: "main" }, "Sign in")));
  const dialog = el("dialog", { "aria-labelledby": "sign-title" }, form);
  document.body.append(dialog);
  let done = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await send("/api/session", { token: token.value });
      done = true;
      dialog.close();
    } catch (error) { fault.textContent = error.message; }
  });
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => { dialog.remove(); resolve(done); });
    dialog.showModal();
  });
}
