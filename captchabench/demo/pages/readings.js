// What the models read, and how.
import {make} from "./elements.js";

const share = value => value.toFixed(2);

// One image of an answer. picture: its address; sample: what is known of it, or null.
export function showResult(result, picture, sample, models) {
  const caption = make("figcaption", {}, result.name);
  if (sample) caption.replaceChildren("label ", make("code", {}, sample.label), ` · ${sample.dataset}, fold ${sample.fold}`);
  const image = make("img", {src: picture, alt: sample ? `The picture; its label is ${sample.label}` : "The picture"});
  // What the browser cannot show may be read all the same.
  image.onerror = () => image.remove();
  const article = make("article", {className: "image"}, make("figure", {}, image, caption));
  if (result.problem) {
    const reason = result.problem.reason.replaceAll("_", " ");
    article.append(make("p", {className: "worse"}, `This image cannot be read: ${reason} (${result.problem.detail}).`));
  }
  article.append(...result.readings.map(reading => showReading(reading, sample, models)));
  return article;
}

// All that was read of an image in one line, for the status.
export function summary(result, models) {
  if (result.problem) return `${result.name || "The image"} cannot be read.`;
  const abouts = result.readings.map(reading => models.about.get(reading.model));
  const several = new Set(abouts.map(about => about.dataset)).size > 1;
  const texts = result.readings.map((reading, place) => {
    const {model, dataset} = abouts[place];
    return `${model}${several ? ` (${dataset})` : ""}: ${reading.text || "nothing"}`;
  });
  return `${texts.join(", ")}.`;
}

function showReading(reading, sample, models) {
  const {model, dataset} = models.about.get(reading.model);
  const head = make("h4", {}, model, " ", make("span", {className: "tag"}, dataset));
  if (reading.error) return make("div", {className: "reading"}, make("div", {}, head, make("p", {className: "worse"}, reading.error)));
  const said = make("div", {}, head, make("p", {className: reading.text ? "text" : "text empty"}, reading.text || "nothing"));
  if (sample) {
    const right = reading.text === sample.label;
    said.append(make("p", {className: right ? "right" : "worse"}, right ? "✓ right" : `✗ wrong, it is ${sample.label}`));
    const relation = models.relation(reading.model, sample);
    if (relation) said.append(make("p", {className: "soft"}, relation));
  }
  const sure = make("meter", {min: 0, max: 1, value: reading.confidence});
  sure.setAttribute("aria-hidden", "true");
  said.append(make("p", {className: "soft"}, `confidence ${share(reading.confidence)} `, sure));
  const others = reading.alternatives.filter(other => other.text !== reading.text);
  if (others.length) {
    said.append(make("p", {className: "soft"}, "or ", others.map(other => `${other.text || "nothing"} ${share(other.probability)}`).join(", ")));
  }
  return make("div", {className: "reading"}, said, reading.how ? showHow(reading.how) : "");
}

const CAPTIONS = {
  "time steps": "One column a time step: its likeliest symbol, or a dot for the blank; the higher the filling, the surer.",
  characters: "The characters that it cut out, and what it took each for.",
  cells: "The cells that it looked at, and what it took each for.",
  none: "This model does not look at the picture.",
};

function showHow(how) {
  const seen = make("div", {className: "seen"}, make("img", {src: how.picture, alt: ""}));
  seen.firstChild.style.aspectRatio = `${how.width} / ${how.height}`;
  const drawn = make("div", {role: "img", ariaLabel: describe(how)}, seen);
  // What takes the whole height is written below the picture, other places into it.
  const columns = how.steps.every(step => step.top <= 0 && step.bottom >= how.height);
  if (how.kind !== "time steps") seen.append(...how.steps.map(step => box(step, how, !columns)));
  if (columns && how.steps.length) drawn.append(make("div", {className: "strip"}, ...how.steps.map(step => mark(step, how))));
  return make("figure", {className: "how"}, drawn, make("figcaption", {}, CAPTIONS[how.kind]));
}

function place(element, {left, right}, {width}) {
  const [from, to] = [Math.max(left, 0), Math.min(right, width)];
  element.style.left = `${100 * from / width}%`;
  element.style.width = `${100 * (to - from) / width}%`;
  return element;
}

function box(step, how, named) {
  const element = place(make("div", {className: "box"}), step, how);
  const [top, bottom] = [Math.max(step.top, 0), Math.min(step.bottom, how.height)];
  element.style.top = `${100 * top / how.height}%`;
  element.style.height = `${100 * (bottom - top) / how.height}%`;
  if (named) element.append(make("span", {}, `${step.symbol || "·"} ${share(step.probability)}`));
  return element;
}

function mark(step, how) {
  // Windows of neighbours overlap; their marks stand in the middle half.
  const overlap = how.kind === "characters" ? (step.right - step.left) / 4 : 0;
  const element = make("i", {className: step.symbol ? "" : "blank", title: `${step.symbol || "blank"} ${share(step.probability)}`});
  element.style.setProperty("--sure", step.probability);
  element.append(make("b", {}, step.symbol || "·"));
  return place(element, {left: step.left + overlap, right: step.right - overlap}, how);
}

// The same for who cannot see it: every place where a symbol was seen.
function describe(how) {
  const seen = how.steps.filter(step => step.symbol).map(step => `${step.symbol} ${share(step.probability)} at ${Math.round(step.left)} to ${Math.round(step.right)} pixels`);
  return seen.length ? `${how.kind}: ${seen.join("; ")}` : `${how.kind}: no symbol was seen`;
}
