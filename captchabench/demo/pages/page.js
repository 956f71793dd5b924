// The page: pictures come in by choice, drop or paste, or from the library; the chosen models read them.
import {Notice, ask, load} from "./elements.js";
import {Library} from "./library.js";
import {Models} from "./models.js";
import {Results} from "./results.js";
import {asFile, forgetPictures, keep, keepPictures, kept} from "./session.js";
import {shrink} from "./shrink.js";

// Pictures in one request: results come in as they are read.
const TOGETHER = 8;

const byId = id => document.getElementById(id);
const status = byId("status"), progress = byId("progress"), results = byId("results"), drop = byId("drop"), files = byId("files");
const trouble = new Notice(byId("trouble"));

let models, limits;
// What is being looked at: each a file, a note of what was done to it, an address to show it by, and the sample that
// it is if it came from the library.
let current = [];
let asking = null;
// The latest choice of pictures: what an earlier one still waits for comes to nothing.
let choice = null;

function end(words) {
  byId("reading").ariaBusy = "false";
  progress.hidden = true;
  status.textContent = words;
}

// Forget the pictures, and say what to do.
function clear(words = "Choose a picture. Every chosen model reads it.") {
  asking?.abort();
  choice = null;
  for (const {address} of current) URL.revokeObjectURL(address);
  current = [];
  forgetPictures();
  results.replaceChildren();
  trouble.clear();
  end(words);
}

function refuse(words) {
  clear();
  trouble.show(new Error(words));
}

async function read() {
  asking?.abort();
  trouble.clear();
  keep("models", models.chosen());
  if (!current.length) return;
  const chosen = models.chosen();
  if (!chosen.length) {
    results.replaceChildren();
    end("Choose a model.");
    return;
  }
  const {signal} = asking = new AbortController();
  const pictures = current;
  const shown = new Results(results, pictures, models, chosen, () => { clear(); byId("files").focus(); });
  const asked = new URLSearchParams([...chosen.map(name => ["model", name]), ["explain", "true"], ["top_k", "3"]]);
  byId("reading").ariaBusy = "true";
  Object.assign(progress, {max: pictures.length, value: 0, hidden: pictures.length <= TOGETHER});
  status.textContent = "Reading…";
  try {
    while (shown.results.length < pictures.length) {
      if (shown.results.length) status.textContent = `${shown.results.length} of ${pictures.length} images read.`;
      const body = form(pictures.slice(shown.results.length));
      const found = await ask(`/predict?${asked}`, {method: "POST", body, signal});
      shown.add(found.results);
      progress.value = shown.results.length;
    }
    end(shown.summary());
  } catch (error) {
    if (signal.aborted) return;
    if (!shown.results.length) results.replaceChildren();
    end(shown.results.length ? `${shown.results.length} of ${pictures.length} images read.` : "Nothing was read.");
    trouble.show(error, read);
  }
  document.body.dataset.read = String(Number(document.body.dataset.read ?? 0) + 1);
}

// The first of the pictures, as many as one request brings.
function form(pictures) {
  const found = new FormData();
  let size = 0;
  for (const {file} of pictures.slice(0, TOGETHER)) {
    size += file.size;
    if (size > limits.upload && size > file.size) break;
    found.append("files", file, file.name);
  }
  return found;
}

// Look at pictures, each {file, note, sample}.
function look(pictures) {
  for (const {address} of current) URL.revokeObjectURL(address);
  current = pictures.map(picture => ({...picture, address: URL.createObjectURL(picture.file)}));
  return read();
}

// The readings may be out of sight: below the models, above the library, or under the bar.
function goToReadings() {
  const head = byId("reading-head");
  const {top} = head.getBoundingClientRect();
  if (top < document.querySelector(".bar").offsetHeight || top > innerHeight / 2) head.scrollIntoView();
  head.focus({preventScroll: true});
}

async function take(chosen) {
  // It never answered; that is said already.
  if (!limits) return;
  goToReadings();
  if (chosen.length > limits.images) {
    refuse(`More than ${limits.images} images; choose fewer`);
    return;
  }
  const mine = choice = {};
  asking?.abort();
  status.textContent = "Preparing…";
  const pictures = [];
  for (const file of chosen) {
    const picture = await shrink(file, limits);
    if (mine !== choice) return;
    pictures.push({...picture, sample: null});
    // A photo takes a second.
    if (picture.note && chosen.length > 1) status.textContent = `Preparing, ${pictures.length} of ${chosen.length} images done.`;
  }
  const size = pictures.reduce((sum, {file}) => sum + file.size, 0);
  const most = `more than ${limits.upload >> 20} MiB`;
  if (size > limits.upload) {
    refuse(pictures.length > 1 ? `Together ${most}; choose fewer or smaller images` : `This is ${most}; choose a smaller image`);
    return;
  }
  keepPictures(pictures);
  await look(pictures);
}

async function choose(samples) {
  const pictures = await fetchAll(samples);
  goToReadings();
  if (!pictures) return;
  models.include(samples[0].dataset);
  keepPictures(pictures);
  await look(pictures);
}

// The pictures of samples; null where they cannot be had, which is said, or where others were chosen meanwhile.
async function fetchAll(samples) {
  const mine = choice = {};
  try {
    const pictures = await Promise.all(samples.map(async sample => (
      {file: new File([await load(sample.image)], sample.sample_id), note: "", sample}
    )));
    return mine === choice ? pictures : null;
  } catch (error) {
    if (mine === choice) refuse(error.message);
    return null;
  }
}

function receive(transfer) {
  const pictures = [...transfer.files];
  if (pictures.length) {
    take(pictures);
  } else {
    goToReadings();
    trouble.show(new Error("No file came with that; save the picture first, since addresses are not fetched"));
  }
}

files.onchange = () => { if (files.files.length) take([...files.files]); files.value = ""; };
document.ondragover = event => { event.preventDefault(); drop.classList.add("over"); };
document.ondragleave = event => { if (!event.relatedTarget) drop.classList.remove("over"); };
document.ondrop = event => { event.preventDefault(); drop.classList.remove("over"); receive(event.dataTransfer); };
document.onpaste = event => { if (!event.target.closest("input, select, textarea")) receive(event.clipboardData); };

// What this tab looked at before another page was opened in it.
async function restore() {
  models.choose(kept("models") ?? []);
  const pictures = kept("pictures");
  if (!pictures) return;
  if (!pictures.length) {
    end("The pictures were too large for this tab to keep; choose them again.");
    return;
  }
  const found = await fetchAll(pictures.filter(({sample}) => sample).map(({sample}) => sample));
  if (!found) return;
  await look(pictures.map(picture => picture.sample ? found.shift() : {file: asFile(picture), note: picture.note, sample: null}));
}

// Where there is no report, this page says so.
byId("report").onclick = async event => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  try {
    await load("/report");
    location.href = "/report";
  } catch (error) {
    trouble.show(error);
    goToReadings();
  }
};

async function start() {
  const found = await ask("/models");
  limits = found.limits;
  byId("limits").textContent = `Up to ${limits.images} images, ${limits.upload >> 20} MiB together, ${limits.pixels / 1e6} million pixels each. `
    + "A larger photo is made smaller in this browser first.";
  models = new Models(byId("models"), found.models, read);
  const library = new Library(models, choose);
  await Promise.all([library.open(), restore()]);
}

function begin() {
  return start().catch(error => trouble.show(error, begin)).finally(() => { document.body.dataset.ready = "drawn"; });
}

begin();
