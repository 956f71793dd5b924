// The readings. One picture is shown in full. Several are shown as a table, with the details of each collapsed.
import {make, sentence} from "./elements.js";
import {describeProblem, isLong, share, showPicture} from "./readings.js";

export class Results {
  // element: the element to fill. pictures: the pictures that the models `chosen` read.
  constructor(element, pictures, models, chosen, clear) {
    Object.assign(this, {element, pictures, models, chosen, clear, results: []});
    this.known = pictures.some(({sample}) => sample);
  }

  // Show the next results, in the order of the pictures.
  add(results) {
    if (!this.results.length) this.begin();
    for (const result of results) {
      const position = this.results.push(result) - 1;
      if (this.pictures.length === 1) this.element.append(showPicture(result, this.pictures[0], this.models));
      else this.addRow(result, position);
    }
  }

  begin() {
    const download = make("button", {type: "button"}, "Download as CSV");
    download.onclick = () => this.download();
    const clear = make("button", {type: "button"}, "Clear");
    clear.onclick = this.clear;
    this.element.replaceChildren(make("p", {className: "tools"}, download, " ", clear));
    if (this.pictures.length === 1) return;
    this.rows = make("tbody");
    this.details = make("div", {className: "details"});
    const table = make("table", {}, this.head(), this.rows);
    const frame = make("div", {className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Readings as a table"}, table);
    const hint = make("p", {className: "soft", hidden: true}, "Scroll the table sideways to see all its columns.");
    const observer = new ResizeObserver(() => { hint.hidden = frame.scrollWidth <= frame.clientWidth; });
    for (const element of [frame, table]) observer.observe(element);
    this.element.append(hint, frame, make("h3", {}, "How each image was read"), this.details);
  }

  head() {
    const [first, second] = [make("tr"), make("tr")];
    for (const title of ["file", ...this.known ? ["label"] : []]) first.append(make("th", {scope: "col", rowSpan: 2}, title));
    for (const name of this.chosen) {
      const {model, dataset} = this.models.about.get(name);
      first.append(make("th", {scope: "colgroup", colSpan: 2}, model, " ", make("small", {}, dataset)));
      second.append(make("th", {scope: "col"}, "reading"), make("th", {scope: "col"}, "confidence"));
    }
    return make("thead", {}, first, second);
  }

  addRow(result, position) {
    const picture = this.pictures[position];
    const {file, sample, note, address} = picture;
    const name = sample ? `${sample.dataset} ${sample.sample_id.slice(0, 8)}` : file.name;
    const details = this.addDetails(result, picture, name);
    const open = make("button", {type: "button", className: "link", title: `${name}: how it was read`}, make("span", {}, name));
    open.onclick = () => {
      details.open = true;
      details.scrollIntoView();
      details.firstChild.focus({preventScroll: true});
    };
    const head = make("th", {scope: "row"}, make("div", {className: "file"}, thumbnail(address), open));
    if (note) head.append(make("small", {}, note));
    const row = make("tr", {}, head);
    if (this.known) row.append(make("td", {className: sample && isLong(sample.label) ? "read long" : "read"}, make("code", {}, sample?.label ?? "")));
    if (result.problem) row.append(make("td", {colSpan: 2 * this.chosen.length, className: "problem"}, make("span", {}, describeProblem(result.problem))));
    else row.append(...result.readings.flatMap(reading => cells(reading, sample)));
    this.rows.append(row);
  }

  addDetails(result, picture, name) {
    const details = make("details", {}, make("summary", {}, thumbnail(picture.address), make("span", {}, name)));
    details.ontoggle = () => {
      if (details.childElementCount === 1) details.append(showPicture(result, picture, this.models));
    };
    this.details.append(details);
    return details;
  }

  // A summary in one line.
  summary() {
    const {results, pictures} = this;
    if (results.length === 1) return this.summaryOfOne(results[0]);
    const failed = results.filter(({problem}) => problem).length;
    const sentences = [failed ? `${results.length - failed} of ${results.length} images read; ${failed} cannot be read.` : `${results.length} images read.`];
    for (const [column, name] of this.chosen.entries()) {
      const known = results.flatMap(({problem, readings}, row) => problem || !pictures[row].sample ? [] : [readings[column].text === pictures[row].sample.label]);
      if (known.length) sentences.push(`${this.models.called(name, this.chosen)}: ${known.filter(Boolean).length} of ${known.length} right.`);
    }
    return sentences.join(" ");
  }

  summaryOfOne({problem, readings}) {
    if (problem) return "This image cannot be read; the reason is below.";
    return `${readings.map(({model, text, error}) => `${this.models.called(model, this.chosen)}: ${error ? "failed" : text || "nothing"}`).join("; ")}.`;
  }

  download() {
    const blob = new Blob([this.csv()], {type: "text/csv"});
    const link = make("a", {href: URL.createObjectURL(blob), download: "readings.csv"});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  // One row per image and model, in the format of RFC 4180.
  csv() {
    const rows = [["file", "model", "text", "confidence", "label", "right", "error"]];
    for (const [row, {problem, readings}] of this.results.entries()) {
      const {file, sample} = this.pictures[row];
      const label = sample?.label;
      for (const [column, model] of this.chosen.entries()) {
        const {text, confidence, error} = problem ? {error: describeProblem(problem)} : readings[column];
        const right = label === undefined || error ? "" : String(text === label);
        rows.push([file.name, model, text ?? "", confidence ?? "", label ?? "", right, error ?? ""]);
      }
    }
    return rows.map(row => `${row.map(quoted).join(",")}\r\n`).join("");
  }
}

// Text that a spreadsheet would read as a formula is prefixed with an apostrophe.
function quoted(value) {
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@＝＋－＠\t\r\n]/.test(value) ? `'${value}` : value;
  return /[",\r\n']/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function cells({text, confidence, error}, sample) {
  if (error) return [make("td", {colSpan: 2, className: "problem"}, make("span", {}, sentence(error)))];
  const read = make("td", {className: isLong(text) ? "read long" : "read"}, make("code", {}, text || "nothing"));
  if (sample) {
    const right = text === sample.label;
    read.append(" ", make("span", {className: right ? "right" : "worse", role: "img", ariaLabel: right ? "right" : "wrong"}, right ? "✓" : "✗"));
  }
  return [read, make("td", {}, share(confidence))];
}

function thumbnail(address) {
  const image = make("img", {src: address, alt: ""});
  // Models may read formats that the browser cannot show.
  image.onerror = () => image.remove();
  return image;
}
