// The page: pictures come in by choice, drop or paste, or from the library; the chosen models read them.
import {ask, make} from "./elements.js";
import {Library} from "./library.js";
import {Models} from "./models.js";
import {showResult, summary} from "./readings.js";

const byId = id => document.getElementById(id);
const status = byId("status"), trouble = byId("trouble"), results = byId("results"), drop = byId("drop"), files = byId("files");

let models, limits;
// What is being looked at: files, and what is known of the one from the library.
let current = null;
let asking = null;

function fail(error) {
  trouble.textContent = error.message;
  trouble.hidden = false;
}

async function read() {
  asking?.abort();
  if (!current) return;
  const chosen = models.chosen();
  trouble.hidden = true;
  if (!chosen.length) {
    results.replaceChildren();
    status.textContent = "Choose a model.";
    return;
  }
  asking = new AbortController();
  const {signal} = asking;
  const {pictures, sample, addresses} = current;
  const form = new FormData();
  for (const picture of pictures) form.append("files", picture, picture.name);
  const asked = new URLSearchParams([...chosen.map(name => ["model", name]), ["explain", "true"], ["top_k", "3"]]);
  byId("reading").ariaBusy = "true";
  status.textContent = "Reading…";
  try {
    const found = await ask(`/predict?${asked}`, {method: "POST", body: form, signal});
    results.replaceChildren(...found.results.map((result, place) => showResult(result, addresses[place], sample, models)));
    status.textContent = found.results.length > 3
      ? `${found.results.length} images read.`
      : found.results.map(result => summary(result, models)).join(" ");
  } catch (error) {
    if (signal.aborted) return;
    results.replaceChildren();
    status.textContent = "Nothing was read.";
    fail(error);
  }
  byId("reading").ariaBusy = "false";
  document.body.dataset.read = String(Number(document.body.dataset.read ?? 0) + 1);
}

function take(pictures, sample = null) {
  const size = pictures.reduce((sum, picture) => sum + picture.size, 0);
  if (pictures.length > limits.images) return fail(new Error(`More than ${limits.images} images; choose fewer.`));
  if (size > limits.upload) return fail(new Error(`More than ${limits.upload >> 20} MiB; choose a smaller image.`));
  current?.addresses.forEach(URL.revokeObjectURL);
  current = {pictures, sample, addresses: pictures.map(picture => URL.createObjectURL(picture))};
  // On a narrow screen the readings are out of sight, below the models; and so they are from the library.
  const {top, bottom} = byId("reading-head").getBoundingClientRect();
  if (top < 0 || bottom > innerHeight) byId("reading").scrollIntoView();
  return read();
}

async function choose(sample) {
  try {
    const response = await fetch(sample.image);
    if (!response.ok) throw new Error("This image is gone; load the page anew.");
    const picture = new File([await response.blob()], sample.sample_id);
    models.only(sample.dataset);
    await take([picture], sample);
  } catch (error) {
    fail(error);
  }
  byId("reading-head").focus({preventScroll: true});
}

function receive(transfer) {
  const pictures = [...transfer.files];
  if (pictures.length) take(pictures);
  else fail(new Error("There is no file in that. Save the picture first: addresses are not fetched."));
}

files.onchange = () => { if (files.files.length) take([...files.files]); files.value = ""; };
document.ondragover = event => { event.preventDefault(); drop.classList.add("over"); };
document.ondragleave = event => { if (!event.relatedTarget) drop.classList.remove("over"); };
document.ondrop = event => { event.preventDefault(); drop.classList.remove("over"); receive(event.dataTransfer); };
document.onpaste = event => { if (!event.target.closest("input, select, textarea")) receive(event.clipboardData); };

async function start() {
  const found = await ask("/models");
  limits = found.limits;
  byId("limits").textContent = `Up to ${limits.images} images, ${limits.upload >> 20} MiB together.`;
  models = new Models(byId("models"), found.models, read);
  await new Library(models, choose, fail).open();
}

start().catch(fail).finally(() => { document.body.dataset.ready = "drawn"; });
