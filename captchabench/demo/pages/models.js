// The models to choose from, grouped by training dataset. Those for texts and those for grids are chosen separately.
import {make} from "./elements.js";

// The tasks of models, and what the page calls their pictures.
const KINDS = {text: "texts", grid: "grids of tiles"};

export class Models {
  // element: the element for the models. menu: the one for the kind of picture. changed: called when the user chooses.
  constructor(element, menu, models, changed) {
    this.about = new Map(models.map(model => [model.name, model.about]));
    this.element = element;
    this.menu = menu;
    this.changed = changed;
    this.kinds = Object.keys(KINDS).filter(kind => models.some(({about}) => about.task === kind));
    // The kind whose models are shown and read.
    this.kind = this.kinds[0];
    // The kind that the user's own pictures show. Only the user changes it.
    this.own = this.kind;
    for (const [dataset, names] of this.groups()) element.append(this.group(dataset, names));
    for (const kind of this.kinds) this.only(models.find(({about}) => about.task === kind).about.dataset);
    menu.append(...this.kinds.map(kind => this.kindChoice(kind)));
    menu.hidden = this.kinds.length < 2;
    this.show(this.kind);
  }

  kindChoice(kind) {
    const radio = make("input", {type: "radio", name: "kind", value: kind, autocomplete: "off"});
    radio.onchange = () => { this.own = kind; this.show(kind); this.changed(); };
    return make("label", {}, radio, ` ${KINDS[kind]}`);
  }

  groups() {
    const groups = new Map();
    for (const [name, {dataset}] of this.about) groups.set(dataset, [...groups.get(dataset) ?? [], name]);
    return groups;
  }

  group(dataset, names) {
    const folds = new Set([...this.about.values()].map(about => about.fold)).size > 1;
    const only = make("button", {type: "button", className: "link", ariaLabel: `Only the models trained on ${dataset}`}, "only these");
    only.onclick = () => { this.only(dataset); this.changed(); };
    const choices = names.map(name => {
      const about = this.about.get(name);
      const box = make("input", {type: "checkbox", value: name, autocomplete: "off"});
      box.onchange = this.changed;
      const size = `${about.parameter_count.toLocaleString("en")} parameters`;
      return make("label", {}, box, ` ${about.model}${folds ? `, fold ${about.fold}` : ""} `, make("span", {className: "soft"}, size));
    });
    const head = make("summary", {}, make("b", {}, dataset), " ", sourceTag(this.about.get(names[0]).source));
    const group = make("fieldset", {ariaLabel: dataset}, only, ...choices);
    return make("details", {}, head, group);
  }

  boxes() { return [...this.element.querySelectorAll("input")]; }

  ticked() { return this.boxes().filter(box => box.checked).map(box => box.value); }

  // The models that read: those ticked among the models of the kind that is shown.
  chosen() { return this.ticked().filter(name => this.about.get(name).task === this.kind); }

  // Show the models of a kind, if there are any. What is ticked among the others stays so.
  show(kind) {
    if (!this.kinds.includes(kind)) return;
    this.kind = kind;
    for (const radio of this.menu.querySelectorAll("input")) radio.checked = radio.value === kind;
    for (const box of this.boxes()) box.closest("details").hidden = this.about.get(box.value).task !== kind;
  }

  // Choose exactly the models trained on a dataset and open their group. Other groups stay open or closed.
  only(dataset) { this.choose(this.groups().get(dataset) ?? []); }

  // Choose exactly the named models among those of the same kinds.
  choose(names) {
    const kinds = new Set(names.map(name => this.about.get(name)?.task));
    for (const box of this.boxes()) {
      if (!kinds.has(this.about.get(box.value).task)) continue;
      box.checked = names.includes(box.value);
      if (box.checked) box.closest("details").open = true;
    }
  }

  // Show the models for a dataset's pictures. Choose those trained on it unless some of them are chosen.
  include(dataset) {
    const mine = this.groups().get(dataset) ?? [];
    this.show(mine.length ? this.about.get(mine[0]).task : "text");
    if (!this.chosen().some(name => mine.includes(name))) this.only(dataset);
  }

  // What `restore` needs to show the same choice again.
  state() { return {ticked: this.ticked(), kind: this.kind, own: this.own}; }

  restore({ticked, kind, own}) {
    this.choose(ticked);
    if (this.kinds.includes(own)) this.own = own;
    this.show(kind);
  }

  // A model's display name, with its dataset if `others` come from several.
  called(name, others) {
    const {model, dataset} = this.about.get(name);
    const several = new Set(others.map(other => this.about.get(other).dataset)).size > 1;
    return several ? `${model} (${dataset})` : model;
  }

  // Whether a model was trained on a sample or on another dataset.
  relation(name, sample) {
    const {dataset, fold} = this.about.get(name);
    if (dataset !== sample.dataset && dataset !== "union") return "trained on another dataset";
    return fold === sample.fold ? "" : "was trained on this image";
  }
}

function sourceTag(source) {
  const standin = source === "standin";
  return make("span", {className: standin ? "tag standin" : "tag"}, standin ? "drawn stand-ins" : source);
}
