// Requests to the page's own server, and its stream of news.

export class Refused extends Error {
  constructor(status, words) { super(words); this.status = status; }
}

async function answer(response) {
  if (response.ok) return response.json();
  let words = `The server answered ${response.status}.`;
  try { words = (await response.json()).detail ?? words; } catch { /* no JSON: the status has to do */ }
  throw new Refused(response.status, words);
}

export const get = (path) => fetch(path).then(answer);

export const send = (path, body, method = "POST") => fetch(path, {
  method, headers: { "Content-Type": "application/json" }, body: body === undefined ? "" : JSON.stringify(body),
}).then(answer);

/** Follow the stream; `onNews` gets every event, `onState` "live" or "lost". Returns how to stop. */
export function follow(onNews, onState) {
  const source = new EventSource("/events");
  let last = Date.now();
  const heard = (event) => { last = Date.now(); onState("live"); onNews(JSON.parse(event.data)); };
  source.addEventListener("news", heard);
  source.addEventListener("alive", heard);
  source.addEventListener("error", () => onState("lost"));
  const watch = setInterval(() => { if (Date.now() - last > 15000) onState("lost"); }, 3000);
  return () => { source.close(); clearInterval(watch); };
}
