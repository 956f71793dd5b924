// Making elements, and asking the server.

// How often a busy demo is asked again.
const TRIES = 5;

// An element with properties and children; text is never taken for markup.
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value; else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

// Words as a sentence: "too large" becomes "Too large."
export function sentence(words) {
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}${/[.?!]$/.test(words) ? "" : "."}`;
}

// What the demo answers; while it is busy it is asked again.
async function request(address, options = {}) {
  for (let tries = TRIES; ; tries--) {
    let response;
    try {
      response = await fetch(address, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The demo does not answer; is it still running?");
    }
    const pause = Number(response.headers.get("retry-after"));
    if (response.status !== 503 || !pause || tries === 0) return response;
    await new Promise(done => { setTimeout(done, 1000 * pause); });
    options.signal?.throwIfAborted();
  }
}

const failure = found => new Error(found?.error ?? "The demo failed or is stopping; its terminal says why");

// Null where it is cut off, or was not meant for a program.
async function json(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return null;
  }
}

// The answer as JSON. Throws an Error with the demo's own words where there is none to show.
export async function ask(address, options) {
  const response = await request(address, options);
  const found = await json(response);
  // Results may say for each picture why it was not read.
  if (!response.ok && !found?.results || !found) throw failure(found);
  return found;
}

// The bytes at an address. Throws an Error as `ask` does.
export async function load(address) {
  const response = await request(address);
  if (!response.ok) throw failure(await json(response));
  return response.blob();
}

// A message in a place of its own, with a button that tries again where that may help.
export class Notice {
  constructor(place) { this.place = place; }

  show(error, again) {
    this.place.replaceChildren(make("span", {}, sentence(error.message)));
    if (again) {
      const button = make("button", {type: "button"}, "Try again");
      button.onclick = () => { this.clear(); again(); };
      this.place.append(" ", button);
    }
    this.place.hidden = false;
  }

  clear() { this.place.hidden = true; }
}
