// Draws the charts, sorts tables, filters by dataset and switches the panels of the gallery.
const page = JSON.parse(document.getElementById("page-data").textContent);
const views = {};
const darkTheme = matchMedia("(prefers-color-scheme: dark)");

function signal(view, name, value) {
  // Not every chart has a signal for every menu.
  try { view.signal(name, value); } catch { return; }
}

async function draw([id, spec]) {
  for (const parameter of spec.params ?? []) if (parameter.name === "dark") parameter.value = darkTheme.matches;
  const result = await vegaEmbed("#" + id, spec, {actions: false, renderer: "svg"});
  views[id] = result.view;
}

darkTheme.addEventListener("change", () => {
  for (const view of Object.values(views)) { signal(view, "dark", darkTheme.matches); view.runAsync(); }
});

// Menus set the signals of their charts, or select one panel of several. `data-for` names the charts and panels.
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

// Each picture is stored once, even if several models misread it.
function load(container) {
  for (const image of container.querySelectorAll("img[data-picture]")) image.src ||= page.pictures[image.dataset.picture];
}

function sort(button) {
  const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
  const column = [...head.parentElement.children].indexOf(head);
  const reversed = {ascending: "descending", descending: "ascending"};
  const order = reversed[head.ariaSort] ?? head.dataset.first;
  for (const other of head.parentElement.children) other.ariaSort = other === head ? order : "none";
  const sign = order === "ascending" ? 1 : -1;
  const key = row => {
    const cell = row.children[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1; // rows without a number go last in both orders
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
  // Charts measure their width on resize. A chart that was hidden has none yet.
  window.dispatchEvent(new Event("resize"));
  const rows = document.querySelectorAll("#leaderboard tbody tr:not([hidden])").length;
  document.getElementById("shown").textContent = `${rows} result${rows === 1 ? "" : "s"}`;
}

for (const button of document.querySelectorAll("table.sortable th button")) button.onclick = () => sort(button);
for (const menus of document.querySelectorAll(".menus")) menus.onchange = () => apply(menus);
for (const image of document.querySelectorAll("img[data-picture]")) if (!image.closest("[data-panel]")) load(image.parentElement);
const chooser = document.getElementById("dataset");
chooser.onchange = () => filter(chooser.value);
// If the demo serves this page, link back to the demo.
if (location.protocol !== "file:" && location.pathname.endsWith("/report")) {
  const [item, link] = [document.createElement("li"), document.createElement("a")];
  Object.assign(link, {href: ".", textContent: "← Demo"});
  item.append(link);
  document.querySelector(".bar ul").prepend(item);
}
document.body.dataset.ready = "drawing";
Promise.all(Object.entries(page.figures).map(draw)).then(() => {
  // After a reload the browser may have kept the values of the menus.
  for (const menus of document.querySelectorAll(".menus")) apply(menus);
  if (chooser.value !== "all") filter(chooser.value);
  document.body.dataset.ready = "drawn";
});
