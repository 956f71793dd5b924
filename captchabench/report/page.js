// Draws the charts, and lets a reader sort tables, choose a dataset and turn the pages of the gallery.
const page = JSON.parse(document.getElementById("page-data").textContent);
const views = {};
const night = matchMedia("(prefers-color-scheme: dark)");

function signal(view, name, value) {
  // Not every chart knows every menu.
  try { view.signal(name, value); } catch { return; }
}

async function draw([id, spec]) {
  for (const parameter of spec.params ?? []) if (parameter.name === "dark") parameter.value = night.matches;
  const result = await vegaEmbed("#" + id, spec, {actions: false, renderer: "svg"});
  views[id] = result.view;
}

night.addEventListener("change", () => {
  for (const view of Object.values(views)) { signal(view, "dark", night.matches); view.runAsync(); }
});

// A menu says what the charts named beside it show, or which panel of several.
function apply(menus) {
  const choice = [...menus.querySelectorAll("select")].map(select => [select.name, select.value]);
  for (const id of menus.dataset.for.split(" ")) {
    if (views[id]) {
      for (const [name, value] of choice) signal(views[id], name, value);
      views[id].runAsync();
    } else {
      for (const panel of document.getElementById(id).querySelectorAll(":scope > [data-panel]")) {
        panel.hidden = panel.dataset.panel !== choice.map(([, value]) => value).join(" ");
        if (!panel.hidden) load(panel);
      }
    }
  }
}

// Pictures are kept once, however many models misread them.
function load(place) {
  for (const image of place.querySelectorAll("img[data-picture]")) image.src ||= page.pictures[image.dataset.picture];
}

function sort(button) {
  const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
  const column = [...head.parentElement.children].indexOf(head);
  const turned = {ascending: "descending", descending: "ascending"};
  const order = turned[head.ariaSort] ?? head.dataset.first;
  for (const other of head.parentElement.children) other.ariaSort = other === head ? order : "none";
  const sign = order === "ascending" ? 1 : -1;
  const key = row => {
    const cell = row.children[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1; // what has no number goes last, either way
    return sign * (typeof x === "number" ? x - y : x.localeCompare(y));
  };
  body.append(...[...body.rows].sort(compare));
}

function filter(dataset) {
  for (const part of document.querySelectorAll("[data-only]")) {
    part.hidden = dataset !== "all" && part.dataset.only !== dataset;
  }
  for (const menus of document.querySelectorAll(".menus")) {
    const select = menus.querySelector("select[name=dataset]");
    if (select && [...select.options].some(option => option.value === dataset)) {
      select.value = dataset;
      apply(menus);
    }
  }
  // Charts measure their places when the window changes; a hidden one had no width to measure.
  window.dispatchEvent(new Event("resize"));
  const rows = document.querySelectorAll("#leaderboard tbody tr:not([hidden])").length;
  document.getElementById("shown").textContent = `${rows} results`;
}

for (const button of document.querySelectorAll("table.sortable th button")) button.onclick = () => sort(button);
for (const menus of document.querySelectorAll(".menus")) menus.onchange = () => apply(menus);
for (const image of document.querySelectorAll("img[data-picture]")) if (!image.closest("[data-panel]")) load(image.parentElement);
const chooser = document.getElementById("dataset");
chooser.onchange = () => filter(chooser.value);
// Where the demo serves this page, it leads back there.
if (location.pathname === "/report") {
  const [item, link] = [document.createElement("li"), document.createElement("a")];
  Object.assign(link, {href: "/", textContent: "← Demo"});
  item.append(link);
  document.querySelector(".bar ul").prepend(item);
}
document.body.dataset.ready = "drawing";
Promise.all(Object.entries(page.figures).map(draw)).then(() => {
  // A reload may have kept the reader's choices.
  for (const menus of document.querySelectorAll(".menus")) apply(menus);
  if (chooser.value !== "all") filter(chooser.value);
  document.body.dataset.ready = "drawn";
});
