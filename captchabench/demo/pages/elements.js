// Helpers that make elements and send requests to the server.

// How often a request to a busy demo is retried.
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

// A phrase as a sentence: "too large" becomes "Too large."
export function sentence(phrase) {
  return `${phrase.charAt(0).toUpperCase()}${phrase.slice(1)}${/[.?!]$/.test(phrase) ? "" : "."}`;
}

// The response of the demo. While the demo is busy, the request is retried.
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

const failure = answer => new Error(answer?.error ?? "The demo failed or is stopping; its terminal says why");

// null if the response is truncated or is not JSON.
async function json(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return null;
  }
}

// The answer as JSON. Throws an Error with the demo's message if the request failed.
export async function ask(address, options) {
  const response = await request(address, options);
  const answer = await json(response);
  // A failed request may still have results, which state why each picture was not read.
  if (!response.ok && !answer?.results || !answer) throw failure(answer);
  return answer;
}

// The bytes at an address. Throws an Error as `ask` does.
export async function load(address) {
  const response = await request(address);
  if (!response.ok) throw failure(await json(response));
  return response.blob();
}

// An error message, with a button to try again if that may help.
export class Notice {
  constructor(element) { this.element = element; }

  show(error, again) {
    this.element.replaceChildren(make("span", {}, sentence(error.message)));
    if (again) {
      const button = make("button", {type: "button"}, "Try again");
      button.onclick = () => { this.clear(); again(); };
      this.element.append(" ", button);
    }
    this.element.hidden = false;
  }

  clear() { this.element.hidden = true; }
}
