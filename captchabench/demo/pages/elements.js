// Making elements, and asking the server.

// An element with properties and children; text is never taken for markup.
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value; else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

// The answer as JSON; throws an Error with the server's own words where there is none to show.
export async function ask(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The demo does not answer. Is it still running?");
  }
  const found = await response.json().catch(() => ({error: `the demo answered ${response.status}`}));
  if (!response.ok && !found.results) throw new Error(found.error ?? `the demo answered ${response.status}`);
  return found;
}
