// The readings of one picture, with explanations.
import {make, sentence} from "./elements.js";

// Whether a text is a list of words: the class names of a grid's tiles.
export const isLong = text => text.includes(", ");

export const share = value => value.toFixed(2);

// Alternatives below this would be shown as 0.00.
const UNLIKELY = 0.005;

export const describeProblem = ({detail}) => sentence(detail);

// One result of an answer, in full.
export function showPicture(result, {file, address, note, sample}, models) {
  const caption = make("figcaption", {}, file.name);
  if (sample) caption.replaceChildren("label ", make("code", {}, sample.label), ` · ${sample.dataset}, fold ${sample.fold}`);
  if (note) caption.append(` (${note})`);
  const image = make("img", {src: address, alt: sample ? `The picture; its label is ${sample.label}` : "The picture"});
  // Models may read formats that the browser cannot show.
  image.onerror = () => image.remove();
  const article = make("article", {className: "image"}, make("figure", {}, image, caption));
  if (result.problem) article.append(make("p", {className: "worse"}, describeProblem(result.problem)));
  article.append(...result.readings.map(reading => showReading(reading, sample, models)));
  return article;
}

function kindOf(text) {
  if (!text) return "text empty";
  return isLong(text) ? "text long" : "text";
}

function showReading(reading, sample, models) {
  const {model, dataset} = models.about.get(reading.model);
  const head = make("h3", {}, model, " ", make("span", {className: "tag"}, dataset));
  if (reading.error) return make("div", {className: "reading"}, make("div", {}, head, make("p", {className: "worse"}, sentence(reading.error))));
  const result = make("div", {}, head, make("p", {className: kindOf(reading.text)}, reading.text || "nothing"));
  if (sample) {
    const right = reading.text === sample.label;
    result.append(make("p", {className: right ? "right" : "worse"}, right ? "✓ right" : `✗ wrong, it is ${sample.label}`));
    const relation = models.relation(reading.model, sample);
    if (relation) result.append(make("p", {className: "soft"}, relation));
  }
  const sure = make("meter", {min: 0, max: 1, value: reading.confidence});
  sure.setAttribute("aria-hidden", "true");
  result.append(make("p", {className: "soft"}, `confidence ${share(reading.confidence)} `, sure));
  const others = reading.alternatives.filter(({text, probability}) => text !== reading.text && probability >= UNLIKELY);
  if (others.length) {
    result.append(make("p", {className: "soft"}, "or ", others.map(other => `${other.text || "nothing"} ${share(other.probability)}`).join("; ")));
  }
  return make("div", {className: "reading"}, result, reading.how ? showHow(reading.how) : "");
}

const CAPTIONS = {
  "time steps": "One column per time step: its most probable symbol, or a dot for the blank. A fuller bar means a higher probability.",
  characters: "The characters that it segmented, and what it read each as.",
  cells: "The cells that the picture was divided into, and what it read each as.",
  none: "This model does not look at the picture.",
};

function showHow(how) {
  const seen = make("div", {className: "seen"}, make("img", {src: how.picture, alt: ""}));
  seen.firstChild.style.aspectRatio = `${how.width} / ${how.height}`;
  const drawn = make("div", {role: "img", ariaLabel: describe(how)}, seen);
  // Regions of full height are labelled below the picture, others inside it.
  const columns = how.steps.every(step => step.top <= 0 && step.bottom >= how.height);
  if (how.kind !== "time steps") seen.append(...how.steps.map(step => box(step, how, !columns)));
  if (columns && how.steps.length) drawn.append(make("div", {className: "strip"}, ...how.steps.map(step => mark(step, how))));
  return make("figure", {className: "how"}, drawn, make("figcaption", {}, CAPTIONS[how.kind]), how.steps.length ? stepsAsTable(how) : "");
}

function setHorizontalPosition(element, {left, right}, {width}) {
  const [from, to] = [Math.max(left, 0), Math.min(right, width)];
  element.style.left = `${100 * from / width}%`;
  element.style.width = `${100 * (to - from) / width}%`;
  return element;
}

function box(step, how, named) {
  const element = setHorizontalPosition(make("div", {className: "box"}), step, how);
  const [top, bottom] = [Math.max(step.top, 0), Math.min(step.bottom, how.height)];
  element.style.top = `${100 * top / how.height}%`;
  element.style.height = `${100 * (bottom - top) / how.height}%`;
  if (named) element.append(make("span", {}, `${step.symbol || "·"} ${share(step.probability)}`));
  return element;
}

function mark(step, how) {
  // Neighbouring windows overlap, so each mark covers only the middle half of its window.
  const overlap = how.kind === "characters" ? (step.right - step.left) / 4 : 0;
  const element = make("i", {className: step.symbol ? "" : "blank", title: `${step.symbol || "blank"} ${share(step.probability)}`});
  element.style.setProperty("--sure", step.probability);
  element.append(make("b", {}, step.symbol || "·"));
  return setHorizontalPosition(element, {left: step.left + overlap, right: step.right - overlap}, how);
}

// The same as text, for screen readers: every region where a symbol was read.
function describe(how) {
  const seen = how.steps.filter(step => step.symbol).map(step => `${step.symbol} ${share(step.probability)} at ${Math.round(step.left)} to ${Math.round(step.right)} pixels`);
  return seen.length ? `${how.kind}: ${seen.join("; ")}` : `${how.kind}: no symbol was seen`;
}

// A table of all steps, for keyboard and screen reader users. It is filled when it is opened.
function stepsAsTable(how) {
  const details = make("details", {}, make("summary", {}, `${how.kind.charAt(0).toUpperCase()}${how.kind.slice(1)} as a table`));
  details.ontoggle = () => {
    if (details.childElementCount > 1) return;
    const titles = ["symbol", "probability", "pixels"].map(title => make("th", {scope: "col"}, title));
    const rows = how.steps.map(({symbol, probability, left, right, top, bottom}) => make("tr", {},
      make("th", {scope: "row"}, symbol || "blank"),
      make("td", {}, share(probability)),
      make("td", {}, `${Math.round(left)} to ${Math.round(right)}${top > 0 || bottom < how.height ? `, ${Math.round(top)} to ${Math.round(bottom)} down` : ""}`)));
    details.append(make("table", {}, make("thead", {}, make("tr", {}, ...titles)), make("tbody", {}, ...rows)));
  };
  return details;
}
