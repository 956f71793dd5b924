"""The demo as a person uses it, in headless Chromium."""

import base64
import csv
import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from PIL import Image

from captchabench.demo.app import create_app
from captchabench.demo.service import Service
from tests.browser import SMALL

SVC, CRNN, GRID_SVC = "written-hog_svc-0", "written-crnn-0", "grid-hog_svc-0"
MIB = 1 << 20


@pytest.fixture(scope="module")
def address(
    make_service: Callable[..., Service], trained: Any, trained_grids: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a demo of texts and grids, with an upload limit of 1 MiB."""
    folder = tmp_path_factory.mktemp("both")
    for project in (trained, trained_grids):
        for path in project.data.glob("*/*"):
            (folder / "data" / path.parent.name).mkdir(parents=True, exist_ok=True)
            (folder / "data" / path.parent.name / path.name).symlink_to(path)
    (folder / "reports").symlink_to(trained.folder / "reports")
    project = type(trained)(folder, trained.samples, trained.images, trained.texts)
    config = uvicorn.Config(create_app(make_service(project=project, upload=MIB)), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def see(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """A function that opens the page in the browser with text models and images, before anything is read."""
    models = json.dumps({"ticked": [CRNN, SVC], "kind": "text", "own": "text"})
    fresh = f"sessionStorage.clear(); sessionStorage['/models'] = {json.dumps(models)};"

    def show(**how: Any) -> Any:
        browser.open(address, **how)
        browser.evaluate(fresh + """sessionStorage['/library'] = '{"dataset": "written"}'""")
        browser.open(address, **how)
        return browser

    yield show
    browser.call("Fetch.disable")
    connect(browser)


def connect(browser: Any, connected: bool = True) -> None:
    """Disconnect the browser from the demo, as if the demo had ended, or reconnect it."""
    speed = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.call("Network.emulateNetworkConditions", offline=not connected, **speed)


def readings(browser: Any) -> list[str]:
    """The visible texts, one per model."""
    return list(browser.evaluate("[...document.querySelectorAll('.reading .text')].map(e => e.textContent)"))


def text(browser: Any, selector: str) -> str:
    return str(browser.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))


def wait_for_reading(browser: Any, number: int = 1) -> None:
    browser.wait(f"document.body.dataset.read === '{number}'")


# The models that are shown: those for the kind of picture that is chosen.
SHOWN = "#models details:not([hidden]) input"


KEYS: dict[str, dict[str, Any]] = {
    "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"},
    "Tab": {"windowsVirtualKeyCode": 9},
}


def press(browser: Any, key: str, **more: Any) -> None:
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **KEYS.get(key, {}), **more)


def choose(browser: Any, menu: str, value: str) -> None:
    """Choose an option of a menu and fire its change event."""
    browser.evaluate(
        f"(() => {{ const menu = document.getElementById('{menu}'); menu.value = '{value}';"
        "menu.dispatchEvent(new Event('change')); })()"
    )


GIVE = """(() => {
  const transfer = new DataTransfer();
  for (const [name, text] of %s) {
    const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
    transfer.items.add(new File([bytes], name, {type: name.endsWith("jpg") ? "image/jpeg" : "image/png"}));
  }
  return transfer;
})()"""


def give(*images: bytes, name: str = "dropped.png") -> str:
    """A script that makes the DataTransfer of dropped or pasted images; several have numbered names."""
    named = [(name if len(images) == 1 else f"{index}-{name}", image) for index, image in enumerate(images)]
    return GIVE % json.dumps([(name, base64.b64encode(image).decode()) for name, image in named])


def paste(browser: Any, transfer: str) -> None:
    event = f"new ClipboardEvent('paste', {{clipboardData: {transfer}, bubbles: true}})"
    browser.evaluate(f"void document.body.dispatchEvent({event})")


def go(browser: Any, script: str, path: str) -> None:
    """Run a script that navigates to another page of the demo, and wait until that is drawn."""
    browser.evaluate(f"void ({script})")
    there = f"location.pathname === '{path}' && document.body?.dataset.ready === 'drawn'"
    arrived = False
    while not arrived:
        # During navigation there is no page to evaluate scripts in.
        with suppress(AssertionError):
            arrived = browser.evaluate(there)
        time.sleep(0.02)


@pytest.mark.parametrize("how", [{}, {"dark": True}, {"width": 390}], ids=["desktop", "dark", "phone"])
def test_the_page_opens_without_an_error_and_asks_nobody_else(see: Callable[..., Any], address: str, how: Any) -> None:
    browser = see(**how)
    assert browser.problems == []
    assert all(asked.startswith((address, "data:")) for asked in browser.requests)
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert browser.evaluate("document.querySelectorAll('#samples img').length") == 24
    assert "4 million pixels each" in text(browser, "#limits")


def test_a_dropped_image_is_read_and_the_page_shows_how(see: Callable[..., Any], trained: Any) -> None:
    browser = see()
    drop = f"new DragEvent('drop', {{dataTransfer: {give(trained.images[0])}, bubbles: true, cancelable: true}})"
    browser.evaluate(f"document.getElementById('drop').dispatchEvent({drop})")
    wait_for_reading(browser)
    crnn, svc = readings(browser)
    assert svc == trained.texts[SVC][0]
    assert crnn == (trained.texts[CRNN][0] or "nothing")
    # Time steps are in a strip, characters in boxes over the model's input.
    assert browser.evaluate("document.querySelectorAll('.how')[0].querySelectorAll('.strip i').length") > 10
    assert browser.evaluate("document.querySelectorAll('.how')[1].querySelectorAll('.box').length") == len(svc)
    assert browser.evaluate("[...document.images].filter(i => i.closest('#results')).every(i => i.naturalWidth)")
    assert svc in text(browser, "#status")
    assert browser.problems == []


def test_a_pasted_image_is_read_and_a_pasted_address_is_not(see: Callable[..., Any], trained: Any) -> None:
    browser = see()
    paste(browser, give(trained.images[1]))
    wait_for_reading(browser)
    assert readings(browser)[1] == trained.texts[SVC][1]
    asked = len(browser.requests)
    link = "(() => { const t = new DataTransfer(); t.setData('text/plain', 'http://example.org/a.png'); return t; })()"
    paste(browser, link)
    assert "addresses are not fetched" in text(browser, "#trouble")
    assert len(browser.requests) == asked


def test_what_cannot_be_read_is_said(see: Callable[..., Any]) -> None:
    browser = see()
    paste(browser, give(b"no image", name="<b>note.txt"))
    wait_for_reading(browser)
    kinds = "PNG, JPEG, GIF, BMP, TIFF, WebP, AVIF, PNM"
    assert f"This is not an image that can be read here ({kinds})." in text(browser, "#results")
    assert "<b>note.txt" in text(browser, "#results")


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ([2 * MIB], "This is more than 1 MiB; choose a smaller image."),
        ([MIB // 2, MIB // 2 + 1], "Together more than 1 MiB; choose fewer or smaller images."),
        ([9] * 65, "More than 64 images; choose fewer."),
    ],
    ids=["one", "together", "many"],
)
def test_after_a_refused_upload_nothing_old_stays(
    see: Callable[..., Any], trained: Any, sizes: list[int], says: str
) -> None:
    browser = see()
    paste(browser, give(trained.images[0]))
    wait_for_reading(browser)
    assert readings(browser)
    paste(browser, give(*map(bytes, sizes)))
    browser.wait("!document.getElementById('trouble').hidden")
    assert text(browser, "#trouble") == says
    assert text(browser, "#results") == ""
    # Choosing other models does not bring it back.
    browser.evaluate(f"document.querySelector('{SHOWN}').click()")
    assert text(browser, "#results") == ""


def test_a_page_without_models_is_not_busy(see: Callable[..., Any], trained: Any) -> None:
    browser = see()
    # The answer is delayed, so that all models are unticked while the page waits for it.
    browser.call("Fetch.enable", patterns=[{"urlPattern": "*/predict*"}])
    paste(browser, give(trained.images[0]))
    browser.wait("document.getElementById('reading').ariaBusy === 'true'")
    browser.evaluate(f"document.querySelectorAll('{SHOWN}:checked').forEach(box => box.click())")
    assert browser.evaluate("document.getElementById('reading').ariaBusy") == "false"
    assert text(browser, "#status") == "Choose a model."
    browser.call("Fetch.disable")
    browser.evaluate("document.querySelectorAll('#models input')[2].click()")
    wait_for_reading(browser)
    assert readings(browser) == [trained.texts[SVC][0]]


def test_other_pages_lead_back_to_the_readings(see: Callable[..., Any], trained: Any, address: str) -> None:
    browser = see()
    choose(browser, "fold", "2")
    browser.wait("document.querySelectorAll('#samples li').length === 24")
    browser.evaluate(f"document.querySelector('[value=\"{CRNN}\"]').click()")
    paste(browser, give(*trained.images[:2]))
    wait_for_reading(browser)
    before = text(browser, "#results")
    assert trained.texts[SVC][1] in before
    go(browser, "document.querySelector('nav [href=docs]').click()", "/docs")
    go(browser, "document.querySelector('nav [href=\".\"]').click()", "/")
    wait_for_reading(browser)
    assert text(browser, "#results") == before
    assert browser.evaluate("document.getElementById('fold').value") == "2"
    # The same with the browser's back button and an image from the library.
    browser.evaluate("document.querySelectorAll('#samples button')[5].click()")
    browser.wait("document.querySelectorAll('.reading').length === 1")
    before = text(browser, "#results")
    assert "fold 2" in before
    browser.call("Page.navigate", url=f"{address}/report")
    go(browser, "history.back()", "/")
    browser.wait("document.querySelectorAll('.reading').length === 1")
    assert text(browser, "#results") == before
    # Cleared pictures are not restored.
    browser.evaluate("[...document.querySelectorAll('#results button')].find(b => b.textContent === 'Clear').click()")
    browser.open(address)
    assert text(browser, "#results") == ""


def test_pictures_too_large_to_keep_are_asked_for_again(see: Callable[..., Any], trained: Any, address: str) -> None:
    browser = see()
    # Simulates session storage with room for 100 characters per value.
    browser.evaluate("""{
      const real = Storage.prototype.setItem;
      Storage.prototype.setItem = function (name, value) {
        if (value.length > 100) throw new DOMException("full", "QuotaExceededError");
        return real.call(this, name, value);
      };
    }""")
    paste(browser, give(trained.images[0]))
    wait_for_reading(browser)
    browser.wait("sessionStorage['/pictures'] === '[]'")
    browser.open(address)
    assert text(browser, "#status") == "The pictures were too large for this tab to keep; choose them again."


def test_where_there_is_no_report_the_page_says_so(see: Callable[..., Any]) -> None:
    browser = see()
    missing = 'new Response(\'{"error": "there is no report; run `dvc repro report`"}\', {status: 404})'
    browser.evaluate(f"window.fetch = () => Promise.resolve({missing}); document.getElementById('report').click()")
    browser.wait("!document.getElementById('trouble').hidden")
    assert text(browser, "#trouble") == "There is no report; run `dvc repro report`."
    assert browser.evaluate("location.pathname") == "/"


def test_with_the_demo_gone_no_other_datasets_pictures_stay(see: Callable[..., Any], trained: Any) -> None:
    browser = see()
    connect(browser, False)
    choose(browser, "dataset", "grid")
    browser.wait("!document.getElementById('library-trouble').hidden")
    assert "The demo does not answer; is it still running?" in text(browser, "#library-trouble")
    assert text(browser, "#samples") == text(browser, "#count") == ""
    paste(browser, give(trained.images[0]))
    wait_for_reading(browser)
    assert "is it still running?" in text(browser, "#trouble")
    connect(browser)
    for notice in ("library-trouble", "trouble"):
        browser.evaluate(f"document.querySelector('#{notice} button').click()")
    wait_for_reading(browser, 2)
    assert readings(browser)[1] == trained.texts[SVC][0]
    browser.wait("document.getElementById('samples').innerText.includes(', ')")


def test_a_busy_demo_is_asked_again_and_a_failing_one_is_named(see: Callable[..., Any], trained: Any) -> None:
    browser = see()
    answers = """{
      const real = fetch, answers = [[503, {"retry-after": "0.01"}], null, [500, {}]];
      window.fetch = (...asked) => {
        const answer = answers.shift();
        if (!answer) return real(...asked);
        return Promise.resolve(new Response("no", {status: answer[0], headers: answer[1]}));
      };
    }"""
    browser.evaluate(answers)
    paste(browser, give(trained.images[0]))
    wait_for_reading(browser)
    assert readings(browser)[1] == trained.texts[SVC][0]
    browser.evaluate(f"document.querySelector('{SHOWN}:checked').click()")
    wait_for_reading(browser, 2)
    assert "The demo failed or is stopping; its terminal says why." in text(browser, "#trouble")


def test_a_choice_that_fails_after_a_later_one_changes_nothing(see: Callable[..., Any], trained: Any) -> None:
    browser = see()
    browser.evaluate("""{
      const real = fetch;
      window.fetch = (address, options) => address.startsWith("samples/")
        ? new Promise((done, failed) => { window.end = () => failed(new TypeError("gone")); })
        : real(address, options);
    }""")
    browser.evaluate("document.querySelectorAll('#samples button')[5].click()")
    paste(browser, give(trained.images[0]))
    wait_for_reading(browser)
    browser.evaluate("window.end(); new Promise(done => setTimeout(done, 50))")
    assert readings(browser)[1] == trained.texts[SVC][0]
    assert browser.evaluate("document.getElementById('trouble').hidden")


# Records the files sent to the demo, and reads the pixels of the pictures shown.
SENT = """window.sent = []; { const real = fetch; window.fetch = (address, options) => {
  if (options?.body instanceof FormData) sent.push(...options.body.getAll("files"));
  return real(address, options);
}; }"""
BYTES = "Promise.all(sent.map(async file => [...new Uint8Array(await file.arrayBuffer())]))"


def test_a_photo_is_made_smaller_and_kept_upright(see: Callable[..., Any]) -> None:
    browser = see()
    # A portrait photo as phones save it: rotated, with the orientation in Exif.
    photo = Image.new("L", (4032, 3024), 255)
    photo.paste(0, (0, 0, 2016, 3024))
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = io.BytesIO()
    photo.save(encoded, "JPEG", exif=exif)
    browser.evaluate(SENT)
    paste(browser, give(encoded.getvalue(), name="IMG_2041.jpg"))
    wait_for_reading(browser)
    assert len(readings(browser)) == 2
    assert "made smaller in this browser, from 3024x4032 to 1732x2309" in text(browser, "#results")
    (sent,) = browser.evaluate(BYTES)
    with Image.open(io.BytesIO(bytes(sent))) as received:
        assert received.size == (1732, 2309)
        assert 3_990_000 < 1732 * 2309 <= 4_000_000
        shades = [received.convert("L").getpixel((x, y)) for y in (100, 2200) for x in (100, 1600)]
    # After rotation, the left edge of the stored image is on top.
    assert shades == [0, 0, 255, 255]


def test_what_is_small_enough_is_sent_as_it_is(see: Callable[..., Any], trained: Any) -> None:
    browser = see()
    encoded = io.BytesIO()
    Image.new("L", (2000, 2000), 200).save(encoded, "PNG")
    browser.evaluate(SENT)
    paste(browser, give(trained.images[0], encoded.getvalue()))
    wait_for_reading(browser)
    assert [bytes(sent) for sent in browser.evaluate(BYTES)] == [trained.images[0], encoded.getvalue()]
    assert "smaller" not in text(browser, "#results")


# Records each status text with the number of table rows at that time.
WATCH = """{
  window.seen = [];
  const status = document.getElementById("status");
  const look = () => seen.push([status.textContent, document.querySelectorAll("#results tbody tr").length]);
  new MutationObserver(look).observe(status, {childList: true});
}"""
ROWS = "[...document.querySelectorAll('#results tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))"
NASTY = '=1+1,"x"'


def test_thirty_images_are_a_table_with_the_details_folded(
    see: Callable[..., Any], trained: Any, tmp_path: Path
) -> None:
    browser = see()
    images = [*trained.images[:29], b"no image"]
    browser.evaluate(WATCH)
    paste(browser, give(*images, name=f"{NASTY}.png").replace('["0-', '["'))
    wait_for_reading(browser)
    # Results are shown after each request.
    assert browser.evaluate("seen") == [
        ["Preparing…", 0],
        ["Reading…", 0],
        ["8 of 30 images read.", 8],
        ["16 of 30 images read.", 16],
        ["24 of 30 images read.", 24],
        ["29 of 30 images read; 1 cannot be read.", 30],
    ]
    assert browser.evaluate("document.documentElement.scrollHeight") < 5000
    rows = browser.evaluate(ROWS)
    assert [row[3] for row in rows[:-1]] == trained.texts[SVC][:29]
    assert all(re.fullmatch(r"[01]\.\d\d", row[4]) for row in rows[:-1])
    assert rows[-1][1].startswith("This is not an image")
    # A click on a name opens its details, which show the same as a single picture.
    assert browser.evaluate("document.querySelectorAll('#results .how').length") == 0
    browser.evaluate("document.querySelectorAll('#results tbody button')[4].click()")
    browser.wait("document.querySelectorAll('#results .how').length === 2")
    assert readings(browser)[1] == trained.texts[SVC][4]
    assert browser.evaluate("document.activeElement === document.querySelectorAll('.details summary')[4]")

    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.evaluate("document.querySelector('#results button').click()")
    path = tmp_path / "readings.csv"
    while not path.exists():
        time.sleep(0.02)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    # A spreadsheet must not interpret a file name as a formula.
    assert rows[0]["file"] == f"'{NASTY}.png"
    assert [row["file"] for row in rows[2::2]] == [f"{index}-{NASTY}.png" for index in range(1, 30)]
    assert [row["text"] for row in rows if row["model"] == SVC] == [*trained.texts[SVC][:29], ""]
    assert all(0 <= float(row["confidence"]) <= 1 and not row["error"] for row in rows[:-2])
    assert rows[-1]["error"].startswith("This is not an image")


def test_images_of_the_library_are_read_together_and_compared_with_their_labels(
    see: Callable[..., Any], trained: Any
) -> None:
    browser = see()
    browser.evaluate("document.getElementById('all').click()")
    wait_for_reading(browser)
    texts, labels = trained.texts[SVC][:24], list(trained.samples.labels[:24])
    right = sum(text == label for text, label in zip(texts, labels, strict=True))
    assert f"hog_svc: {right} of 24 right." in text(browser, "#status")
    rows = browser.evaluate(ROWS)
    assert [row[1] for row in rows] == labels
    marks = [("✓" if read == label else "✗") for read, label in zip(texts, labels, strict=True)]
    assert [row[4].split() for row in rows] == [[*read.split(), mark] for read, mark in zip(texts, marks, strict=True)]


@pytest.mark.parametrize("number", [1, 2])
def test_nothing_is_wider_than_a_phone(see: Callable[..., Any], trained: Any, number: int) -> None:
    browser = see(width=390)
    paste(browser, give(*trained.images[:number], name="x" * 200 + ".png"))
    wait_for_reading(browser)
    assert "x" * 200 in text(browser, "#results")
    assert browser.evaluate("document.documentElement.scrollWidth") == 390


HEAD = "document.getElementById('reading-head').getBoundingClientRect().top"
ABOVE = f"document.querySelector('.bar').getBoundingClientRect().bottom <= {HEAD}"


def test_on_a_phone_the_heading_does_not_lie_under_the_bar(see: Callable[..., Any], trained: Any) -> None:
    browser = see(width=390)
    browser.evaluate("document.querySelectorAll('#samples button')[20].click()")
    wait_for_reading(browser)
    assert browser.evaluate(ABOVE)
    browser.evaluate("scrollBy(0, 40)")
    assert not browser.evaluate(ABOVE)
    paste(browser, give(trained.images[0]))
    wait_for_reading(browser, 2)
    assert browser.evaluate(ABOVE)
    assert browser.evaluate(HEAD) < 200


@pytest.mark.parametrize(("width", "least"), [(1280, 24), (390, 44)])
def test_what_is_clicked_is_large_enough(see: Callable[..., Any], trained: Any, width: int, least: int) -> None:
    browser = see(width=width)
    paste(browser, give(*trained.images[:2]))
    wait_for_reading(browser)
    browser.evaluate("document.querySelectorAll('.details details').forEach(details => { details.open = true; })")
    browser.wait("document.querySelectorAll('.how').length === 4")
    assert browser.evaluate(SMALL % least) == []


# Elements whose text has a contrast below 4.5 to 1 (WCAG 2.2, 1.4.3).
PALE = """(selector => {
  const linear = value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(value => linear(value / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = element => {
    const {backgroundColor} = getComputedStyle(element);
    if (!backgroundColor.startsWith("rgba") || !element.parentElement) return backgroundColor;
    return ground(element.parentElement);
  };
  const speaks = element => element.checkVisibility() && !element.closest(":disabled")
    && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll(selector)].filter(speaks).filter(element => {
    const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
    return (Math.max(a, b) + .05) / (Math.min(a, b) + .05) < 4.5;
  }).map(element => element.outerHTML);
})"""


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_their_ground(see: Callable[..., Any], dark: bool) -> None:
    browser = see(dark=dark)
    browser.evaluate("document.querySelectorAll('#samples button')[0].click()")
    wait_for_reading(browser)
    paste(browser, "new DataTransfer()")
    browser.wait("!document.getElementById('trouble').hidden")
    assert browser.evaluate(f"{PALE}('body *')") == []


def test_by_keyboard_alone_from_choosing_a_picture_to_reading_its_steps(
    see: Callable[..., Any], trained: Any, tmp_path: Path
) -> None:
    browser = see()
    picture = tmp_path / "picture.png"
    picture.write_bytes(trained.images[0])
    ringed = "(e => e.matches(':focus-visible') && getComputedStyle(e).outlineStyle !== 'none')"

    def tab_to(condition: str) -> None:
        for _ in range(40):
            press(browser, "Tab")
            if browser.evaluate(f"(e => {condition})(document.activeElement)"):
                return
        raise AssertionError(condition)

    browser.call("Page.setInterceptFileChooserDialog", enabled=True)
    tab_to("e.id === 'files'")
    # The file input itself is hidden, so the button next to it shows the focus.
    assert browser.evaluate("getComputedStyle(document.querySelector('#files + .button')).outlineStyle") == "solid"
    press(browser, "Enter")
    while "Page.fileChooserOpened" not in browser.events:
        browser.evaluate("0")
    field = browser.events["Page.fileChooserOpened"]["backendNodeId"]
    browser.call("DOM.setFileInputFiles", files=[str(picture)], backendNodeId=field)
    browser.call("Page.setInterceptFileChooserDialog", enabled=False)
    wait_for_reading(browser)
    assert readings(browser)[1] == trained.texts[SVC][0]
    assert browser.evaluate("document.activeElement.id") == "reading-head"
    assert browser.evaluate(f"{ringed}(document.activeElement)")
    tab_to("e.matches('.how summary') && e.textContent.startsWith('Characters')")
    assert browser.evaluate(f"{ringed}(document.activeElement)")
    press(browser, "Enter")
    browser.wait("document.querySelector('.how table')")
    symbols = browser.evaluate("[...document.querySelectorAll('.how table tbody th')].map(e => e.innerText)")
    assert "".join(symbols) == trained.texts[SVC][0]


def test_a_sample_is_read_by_keyboard_and_compared_with_its_label(see: Callable[..., Any], trained: Any) -> None:
    browser = see()
    browser.evaluate("document.querySelectorAll('#samples button')[3].focus()")
    press(browser, "Enter")
    wait_for_reading(browser)
    right = trained.texts[SVC][3] == trained.samples.labels[3]
    assert browser.evaluate("document.querySelectorAll('.reading')[1].innerText.includes('✓ right')") is right
    assert browser.evaluate("document.querySelectorAll('.reading')[0].innerText.includes('✗ wrong')")
    assert browser.evaluate("document.activeElement.id") == "reading-head"
    # Models can be toggled by keyboard too, which reads the image again.
    browser.evaluate(f"document.querySelector('{SHOWN}:checked').focus()")
    press(browser, " ", windowsVirtualKeyCode=32, text=" ")
    wait_for_reading(browser, 2)
    assert len(readings(browser)) == 1
    # The choice also applies to the next sample.
    browser.evaluate("document.querySelectorAll('#samples button')[4].click()")
    wait_for_reading(browser, 3)
    assert readings(browser) == [trained.texts[SVC][4]]


def test_errors_of_a_model_can_be_browsed(see: Callable[..., Any], trained: Any) -> None:
    browser = see()
    choose(browser, "shown", CRNN)
    browser.wait("document.getElementById('count').textContent.includes('misread')")
    assert "read as" in text(browser, "#samples button")
    browser.evaluate("document.getElementById('next').click()")
    browser.wait("document.getElementById('count').textContent.startsWith('25 to')")
    assert browser.evaluate("document.activeElement.closest('#samples') !== null")


def test_a_grid_can_be_seen_chosen_and_read(see: Callable[..., Any], trained_grids: Any) -> None:
    browser = see()
    choose(browser, "dataset", "grid")
    browser.wait("document.getElementById('samples').innerText.includes(', ')")
    browser.evaluate("document.getElementById('library').scrollIntoView()")
    browser.wait("[...document.querySelectorAll('#samples img')].slice(0, 6).every(i => i.complete && i.naturalWidth)")
    browser.evaluate("document.querySelectorAll('#samples button')[1].click()")
    wait_for_reading(browser)
    assert readings(browser) == [trained_grids.texts[GRID_SVC][1]]
    assert browser.evaluate("document.querySelectorAll('.how .box').length") == 9
    assert browser.evaluate("document.querySelector('.image img').naturalWidth") == 48
    assert browser.problems == []


KIND = "document.querySelector('#kinds input:checked').value"


def test_a_grid_does_not_change_what_reads_texts(
    see: Callable[..., Any], trained: Any, trained_grids: Any, address: str
) -> None:
    browser = see()
    browser.evaluate(f"document.querySelector('[value=\"{CRNN}\"]').click()")
    choose(browser, "dataset", "grid")
    browser.wait("document.getElementById('samples').innerText.includes(', ')")
    browser.evaluate("document.querySelectorAll('#samples button')[1].click()")
    wait_for_reading(browser)
    assert readings(browser) == [trained_grids.texts[GRID_SVC][1]]
    assert browser.evaluate(KIND) == "grid"
    # A picture of one's own is a text unless one says otherwise.
    paste(browser, give(trained.images[0]))
    wait_for_reading(browser, 2)
    assert readings(browser) == [trained.texts[SVC][0]]
    assert browser.evaluate(KIND) == "text"
    browser.evaluate("document.querySelector('#kinds [value=grid]').click()")
    wait_for_reading(browser, 3)
    paste(browser, give(trained_grids.images[2]))
    wait_for_reading(browser, 4)
    assert readings(browser) == [trained_grids.texts[GRID_SVC][2]]
    # Only models of the chosen kind are shown, and a reload changes nothing.
    browser.open(address)
    wait_for_reading(browser)
    assert readings(browser) == [trained_grids.texts[GRID_SVC][2]]
    shown = "[...document.querySelectorAll('#models input')].filter(i => i.checkVisibility()).map(i => i.value)"
    assert browser.evaluate(shown) == [GRID_SVC]
    browser.evaluate("document.querySelector('#kinds [value=text]').click()")
    assert browser.evaluate(shown) == [CRNN, SVC]
    wait_for_reading(browser, 2)
    assert len(readings(browser)) == 1


def test_a_table_wider_than_its_place_says_so(see: Callable[..., Any], trained: Any) -> None:
    browser = see(width=390)
    paste(browser, give(*trained.images[:2]))
    wait_for_reading(browser)
    browser.wait("document.querySelector('#results').innerText.includes('Scroll the table sideways')")
    assert browser.evaluate("(f => f.scrollWidth > f.clientWidth)(document.querySelector('#results .scroll'))")
    size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    browser.wait("!document.querySelector('#results').innerText.includes('Scroll the table sideways')")


UNNAMED = """[...document.querySelectorAll("button, input, select, a, img, [role=img]")].filter(element =>
  !(element.ariaLabel || element.getAttribute("alt") !== null || element.textContent.trim() || element.labels?.length)
).map(element => element.outerHTML)"""


def test_everything_has_a_name_for_who_cannot_see_it(see: Callable[..., Any], trained: Any) -> None:
    browser = see()
    paste(browser, give(trained.images[0]))
    wait_for_reading(browser)
    assert browser.evaluate(UNNAMED) == []
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]}
    assert {("heading", "Readings"), ("navigation", "Pages"), ("group", "written")} <= named
    assert any(role == "checkbox" and name.startswith("crnn") for role, name in named)
    assert any(role == "image" and name.startswith("characters: ") for role, name in named)
    assert {role for role, _ in named} >= {"status", "main", "combobox"}


@pytest.mark.parametrize("dark", [False, True])
def test_the_interface_is_described_in_either_theme_without_a_network(browser: Any, address: str, dark: bool) -> None:
    browser.open(f"{address}/docs", dark=dark)
    assert browser.evaluate("document.querySelectorAll('.opblock').length") == 8
    assert browser.problems == []
    assert all(asked.startswith((address, "data:")) for asked in browser.requests)
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    shades = [int(shade) for shade in re.findall(r"\d+", ground)[:3]]
    assert max(shades) < 64 if dark else min(shades) > 192
    selector = ".info p, .opblock-summary-path, .opblock-summary-description, nav *"
    assert browser.evaluate(f"{PALE}('{selector}')") == []
