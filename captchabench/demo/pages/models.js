// The models to choose from, grouped by training dataset.
import {make} from "./elements.js";

export class Models {
  constructor(element, models, changed) {
    this.about = new Map(models.map(model => [model.name, model.about]));
    this.element = element;
    this.changed = changed;
    for (const [dataset, names] of this.groups()) element.append(this.group(dataset, names));
    const first = this.groups().keys().next().value;
    this.only(first);
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

  chosen() { return this.boxes().filter(box => box.checked).map(box => box.value); }

  // Choose exactly the models trained on a dataset and open their group. Other groups stay open or closed.
  only(dataset) { this.choose(this.groups().get(dataset) ?? []); }

  // Choose exactly the named models, if any of them exists.
  choose(names) {
    if (!names.some(name => this.about.has(name))) return;
    for (const box of this.boxes()) {
      box.checked = names.includes(box.value);
      if (box.checked) box.closest("details").open = true;
    }
  }

  // Choose the models of a dataset unless some of them are chosen.
  include(dataset) {
    if (!this.chosen().some(name => this.about.get(name).dataset === dataset)) this.only(dataset);
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
