// Images whose labels are known: those held out, and those that a model misread.
import {ask, make} from "./elements.js";

const PAGE = 24;

export class Library {
  constructor(models, chosen, failed) {
    this.models = models;
    this.chosen = chosen;
    this.failed = failed;
    for (const id of ["dataset", "shown", "fold", "order", "count", "samples", "previous", "next"]) this[id] = document.getElementById(id);
    this.dataset.onchange = () => { this.offer(); this.from(0); };
    for (const menu of [this.shown, this.fold, this.order]) menu.onchange = () => this.from(0);
    this.previous.onclick = () => this.turn(-PAGE);
    this.next.onclick = () => this.turn(PAGE);
  }

  async open() {
    this.folds = (await ask("/datasets")).datasets;
    const datasets = Object.keys(this.folds);
    if (!datasets.length) {
      document.getElementById("library").hidden = true;
      return;
    }
    this.dataset.replaceChildren(...datasets.map(name => make("option", {}, name)));
    const first = [...this.models.groups().keys()].find(name => datasets.includes(name));
    if (first) this.dataset.value = first;
    this.offer();
    await this.from(0);
  }

  // What there is of the dataset chosen: folds, those held out from a model first, and models with their errors.
  offer() {
    const mine = [...this.models.about].filter(([, about]) => about.dataset === this.dataset.value);
    const held = new Set(mine.map(([, about]) => about.fold));
    const folds = [...this.folds[this.dataset.value]].sort((a, b) => held.has(b) - held.has(a) || a - b);
    this.fold.replaceChildren(...folds.map(fold => make("option", {value: fold}, held.has(fold) ? `${fold} (held out)` : `${fold}`)));
    const several = held.size > 1;
    const errors = mine.map(([name, about]) => make("option", {value: name}, `misread by ${about.model}${several ? `, fold ${about.fold}` : ""}`));
    this.shown.replaceChildren(make("option", {value: ""}, "all"), ...errors);
  }

  async from(offset) {
    this.offset = offset;
    const model = this.shown.value;
    this.fold.parentElement.hidden = Boolean(model);
    this.order.parentElement.hidden = !model;
    const range = `offset=${offset}&limit=${PAGE}`;
    const address = model
      ? `/errors/${encodeURIComponent(model)}?surest=${this.order.value}&${range}`
      : `/samples/${encodeURIComponent(this.dataset.value)}?fold=${this.fold.value}&${range}`;
    const asked = this.asked = {};
    let found;
    try {
      found = await ask(address);
    } catch (error) {
      this.failed(error);
      return;
    }
    // Another choice was made meanwhile.
    if (asked !== this.asked) return;
    const items = model ? found.misreadings : found.samples.map(sample => ({sample}));
    const of = model ? `misread images, of ${found.images.toLocaleString("en")} held out` : "images";
    this.count.textContent = items.length
      ? `${offset + 1} to ${offset + items.length} of ${found.total.toLocaleString("en")} ${of}`
      : `no ${of}`;
    this.samples.replaceChildren(...items.map(item => make("li", {}, this.button(item))));
    this.previous.disabled = offset === 0;
    this.next.disabled = offset + PAGE >= found.total;
  }

  async turn(by) {
    await this.from(this.offset + by);
    this.samples.querySelector("button")?.focus();
  }

  button({sample, prediction, confidence}) {
    const image = make("img", {src: sample.image, alt: "", loading: "lazy"});
    const button = make("button", {type: "button", ariaPressed: "false"}, image, make("span", {}, make("code", {}, sample.label)));
    if (prediction !== undefined) {
      button.lastChild.append(" read as ", make("code", {}, prediction || "nothing"));
      button.append(make("span", {className: "soft"}, `confidence ${confidence.toFixed(2)}`));
    }
    button.onclick = () => {
      for (const other of this.samples.querySelectorAll("button")) other.ariaPressed = String(other === button);
      this.chosen(sample);
    };
    return button;
  }
}
