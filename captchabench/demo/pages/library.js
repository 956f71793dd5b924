// The labelled images: all of a dataset, or those that a model misread.
import {Notice, ask, make} from "./elements.js";
import {keep, kept} from "./session.js";

const PAGE = 24;
const MENUS = ["dataset", "shown", "fold", "order"];

export class Library {
  // chosen: called with the list of samples to read.
  constructor(models, chosen) {
    this.models = models;
    this.chosen = chosen;
    this.trouble = new Notice(document.getElementById("library-trouble"));
    for (const id of [...MENUS, "count", "samples", "all", "previous", "next"]) this[id] = document.getElementById(id);
    this.dataset.onchange = () => { this.offer(); this.from(0); };
    for (const menu of [this.shown, this.fold, this.order]) menu.onchange = () => this.from(0);
    this.previous.onclick = () => this.turn(-PAGE);
    this.next.onclick = () => this.turn(PAGE);
    this.all.onclick = () => { this.press(null); this.chosen(this.items.map(({sample}) => sample)); };
  }

  async open() {
    try {
      this.folds = (await ask("datasets")).datasets;
    } catch (error) {
      this.fail(error, () => this.open());
      return;
    }
    const datasets = Object.keys(this.folds);
    if (!datasets.length) {
      document.getElementById("library").hidden = true;
      return;
    }
    this.dataset.replaceChildren(...datasets.map(name => make("option", {}, name)));
    const before = kept("library") ?? {};
    const first = [before.dataset, ...this.models.groups().keys()].find(name => datasets.includes(name));
    if (first) this.dataset.value = first;
    this.offer();
    // Restore what this tab showed before it left the page.
    for (const name of MENUS) {
      if ([...this[name].options].some(({value}) => value === before[name])) this[name].value = before[name];
    }
    await this.from(before.offset ?? 0);
  }

  // Fill the menus for the chosen dataset: folds, held-out ones first, and the models whose errors can be shown.
  offer() {
    const mine = [...this.models.about].filter(([, about]) => about.dataset === this.dataset.value);
    const held = new Set(mine.map(([, about]) => about.fold));
    const folds = [...this.folds[this.dataset.value]].sort((a, b) => held.has(b) - held.has(a) || a - b);
    this.fold.replaceChildren(...folds.map(fold => make("option", {value: fold}, held.has(fold) ? `${fold} (held out)` : `${fold}`)));
    const several = held.size > 1;
    const errors = mine.map(([name, about]) => make("option", {value: name}, `misread by ${about.model}${several ? `, fold ${about.fold}` : ""}`));
    this.shown.replaceChildren(make("option", {value: ""}, "all images"), ...errors);
  }

  async from(offset) {
    this.offset = offset;
    const model = this.shown.value;
    this.fold.parentElement.hidden = Boolean(model);
    this.order.parentElement.hidden = !model;
    const range = `offset=${offset}&limit=${PAGE}`;
    const address = model
      ? `errors/${encodeURIComponent(model)}?surest=${this.order.value}&${range}`
      : `samples/${encodeURIComponent(this.dataset.value)}?fold=${this.fold.value}&${range}`;
    const asked = this.asked = {};
    this.trouble.clear();
    let answer;
    try {
      answer = await ask(address);
    } catch (error) {
      if (asked === this.asked) this.fail(error, () => this.from(offset));
      return;
    }
    // The choice changed meanwhile.
    if (asked !== this.asked) return;
    keep("library", {offset, ...Object.fromEntries(MENUS.map(name => [name, this[name].value]))});
    const items = model ? answer.misreadings : answer.samples.map(sample => ({sample}));
    const of = model ? `misread images, out of ${answer.images.toLocaleString("en")} held out` : "images";
    this.show(items, items.length
      ? `${offset + 1} to ${offset + items.length} of ${answer.total.toLocaleString("en")} ${of}`
      : `no ${of}`);
    this.next.disabled = offset + PAGE >= answer.total;
  }

  show(items, count) {
    this.items = items;
    this.count.textContent = count;
    const grids = [...this.models.about.values()].some(({dataset, task}) => dataset === this.dataset.value && task === "grid");
    this.samples.classList.toggle("grids", grids);
    this.samples.replaceChildren(...items.map(item => make("li", {}, this.button(item))));
    this.all.textContent = `Read these ${items.length}`;
    this.all.disabled = items.length < 2;
    this.previous.disabled = this.offset === 0;
    this.next.disabled = true;
  }

  // The images shown so far belong to another choice, so they are removed.
  fail(error, again) {
    this.show([], "");
    this.previous.disabled = true;
    this.trouble.show(error, again);
  }

  async turn(by) {
    await this.from(this.offset + by);
    this.samples.querySelector("button")?.focus();
  }

  press(button) {
    for (const other of this.samples.querySelectorAll("button")) other.ariaPressed = String(other === button);
  }

  button({sample, prediction, confidence}) {
    const image = make("img", {src: sample.image, alt: "", loading: "lazy"});
    const button = make("button", {type: "button", ariaPressed: "false"}, image, make("span", {}, make("code", {}, sample.label)));
    if (prediction !== undefined) {
      button.lastChild.append(" read as ", make("code", {}, prediction || "nothing"));
      button.append(make("span", {className: "soft"}, `confidence ${confidence.toFixed(2)}`));
    }
    button.onclick = () => { this.press(button); this.chosen([sample]); };
    return button;
  }
}
