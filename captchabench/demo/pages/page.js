// The main page: pictures are chosen, dropped, pasted or taken from the library, and the chosen models read them.
import {Notice, ask, load} from "./elements.js";
import {Library} from "./library.js";
import {Models} from "./models.js";
import {Results} from "./results.js";
import {asFile, forgetPictures, keep, keepPictures, kept} from "./session.js";
import {shrink} from "./shrink.js";

// Pictures per request. Results are shown after each request.
const TOGETHER = 8;

const byId = id => document.getElementById(id);
const status = byId("status"), progress = byId("progress"), results = byId("results"), drop = byId("drop"), files = byId("files");
const trouble = new Notice(byId("trouble"));

let models, limits;
// The current pictures, each {file, note, address, sample}. note: how the file was changed, if at all. address: an object
// URL to show it. sample: the library's sample, or null.
let current = [];
let asking = null;
// Identifies the latest choice of pictures. Asynchronous work for an earlier choice is discarded.
let choice = null;

function end(message) {
  byId("reading").ariaBusy = "false";
  progress.hidden = true;
  status.textContent = message;
}

// Remove the pictures and show what to do next.
function clear(message = "Choose a picture. Every chosen model reads it.") {
  asking?.abort();
  choice = null;
  for (const {address} of current) URL.revokeObjectURL(address);
  current = [];
  forgetPictures();
  results.replaceChildren();
  trouble.clear();
  end(message);
}

function refuse(message) {
  clear();
  trouble.show(new Error(message));
}

async function read() {
  asking?.abort();
  trouble.clear();
  keep("models", models.state());
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
      const answer = await ask(`predict?${asked}`, {method: "POST", body, signal});
      shown.add(answer.results);
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

// A form with the first pictures, as many as fit in one request.
function form(pictures) {
  const data = new FormData();
  let size = 0;
  for (const {file} of pictures.slice(0, TOGETHER)) {
    size += file.size;
    if (size > limits.upload && size > file.size) break;
    data.append("files", file, file.name);
  }
  return data;
}

// Show and read pictures, each {file, note, sample}.
function look(pictures) {
  for (const {address} of current) URL.revokeObjectURL(address);
  current = pictures.map(picture => ({...picture, address: URL.createObjectURL(picture.file)}));
  return read();
}

// Scroll to the readings unless they are visible, and focus their heading.
function goToReadings() {
  const head = byId("reading-head");
  const {top} = head.getBoundingClientRect();
  if (top < document.querySelector(".bar").offsetHeight || top > innerHeight / 2) head.scrollIntoView();
  head.focus({preventScroll: true});
}

async function take(chosen) {
  // The server did not answer at the start; that error is already shown.
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
    // Shrinking a photo takes a second.
    if (picture.note && chosen.length > 1) status.textContent = `Preparing, ${pictures.length} of ${chosen.length} images done.`;
  }
  const size = pictures.reduce((sum, {file}) => sum + file.size, 0);
  const most = `more than ${limits.upload >> 20} MiB`;
  if (size > limits.upload) {
    refuse(pictures.length > 1 ? `Together ${most}; choose fewer or smaller images` : `This is ${most}; choose a smaller image`);
    return;
  }
  models.show(models.own);
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

// The pictures of samples. null if they cannot be loaded, with an error shown, or if others were chosen meanwhile.
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

// Restore what this tab showed before it left the page.
async function restore() {
  const before = kept("models");
  if (before) models.restore(before);
  const pictures = kept("pictures");
  if (!pictures) return;
  if (!pictures.length) {
    end("The pictures were too large for this tab to keep; choose them again.");
    return;
  }
  const fetched = await fetchAll(pictures.filter(({sample}) => sample).map(({sample}) => sample));
  if (!fetched) return;
  await look(pictures.map(picture => picture.sample ? fetched.shift() : {file: asFile(picture), note: picture.note, sample: null}));
}

// If there is no report, show the error on this page.
byId("report").onclick = async event => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  try {
    await load("report");
    location.href = "report";
  } catch (error) {
    trouble.show(error);
    goToReadings();
  }
};

async function start() {
  const answer = await ask("models");
  limits = answer.limits;
  byId("limits").textContent = `Up to ${limits.images} images, ${limits.upload >> 20} MiB together, ${limits.pixels / 1e6} million pixels each. `
    + "A larger photo is made smaller in this browser first.";
  models = new Models(byId("models"), byId("kinds"), answer.models, read);
  const library = new Library(models, choose);
  await Promise.all([library.open(), restore()]);
}

function begin() {
  return start().catch(error => trouble.show(error, begin)).finally(() => { document.body.dataset.ready = "drawn"; });
}

begin();
