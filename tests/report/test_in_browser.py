"""The page as a reader meets it, in headless Chromium."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from captchabench.report.findings import Findings
from captchabench.report.page import page
from captchabench.scoring.leaderboard import CLASSES, CONFUSIONS
from captchabench.storage.files import write_text
from captchabench.studies.cost import COST, SPEED
from tests.browser import SMALL


@pytest.fixture(scope="module")
def place(findings: Findings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with all its parts, in a file."""
    written = tmp_path_factory.mktemp("page") / "index.html"
    write_text(written, page(findings))
    return written


@pytest.fixture
def opened(browser: Any, place: Path) -> Callable[..., Any]:
    """A function that opens the page in the browser, in a given width and theme."""

    def show(**how: Any) -> Any:
        browser.open(place, **how)
        return browser

    return show


def rows(browser: Any) -> list[str]:
    """The rows of the leaderboard that are in sight, as "dataset model"."""
    result = browser.evaluate(
        "[...document.querySelectorAll('#leaderboard tbody tr')].filter(row => row.offsetParent)"
        ".map(row => row.cells[1].textContent + ' ' + row.cells[0].textContent)"
    )
    return list(result)


def choose(browser: Any, selector: str, value: str) -> None:
    """Choose an option of a menu, as a reader does."""
    browser.evaluate(
        f"{{ const menu = document.querySelector({json.dumps(selector)}); menu.value = {json.dumps(value)};"
        "menu.dispatchEvent(new Event('change', {bubbles: true})); }"
    )


@pytest.mark.parametrize("how", [{}, {"dark": True}, {"width": 390}], ids=["desktop", "dark", "phone"])
def test_it_opens_without_an_error_and_asks_the_network_for_nothing(opened: Callable[..., Any], how: Any) -> None:
    browser = opened(**how)
    assert browser.problems == []
    asked = [address for address in browser.requests if not address.startswith("data:")]
    assert [address.partition(":")[0] for address in asked] == ["file"]
    charts = browser.evaluate("[...document.querySelectorAll('.chart')].map(c => c.querySelectorAll('svg').length)")
    assert charts == [1] * len(charts)
    assert len(charts) >= 9
    # Nothing but a table is wider than the screen.
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_click_on_a_head_sorts_and_a_second_one_turns(opened: Callable[..., Any]) -> None:
    browser = opened()
    ranked = ["numbers6 crnn", "numbers6 crnn (trained on union)", "numbers6 hog_svc", "union crnn"]
    assert rows(browser) == ranked

    def click(column: int) -> str:
        return str(
            browser.evaluate(
                f"(() => {{ const head = document.querySelectorAll('#leaderboard thead th')[{column}];"
                "head.querySelector('button').click(); return head.ariaSort; })()"
            )
        )

    exact, cer = 2, 5
    assert click(cer) == "ascending"
    by_error = rows(browser)
    assert by_error[0] == "numbers6 crnn"
    assert by_error[-1] == "numbers6 hog_svc"
    assert click(cer) == "descending"
    assert rows(browser)[0] == "numbers6 hog_svc"
    assert click(exact) == "descending"
    sorts = browser.evaluate("[...document.querySelectorAll('#leaderboard th[aria-sort]')].map(h => h.ariaSort)")
    assert [state for state in sorts if state != "none"] == ["descending"]
    assert rows(browser)[0] == "numbers6 crnn"
    assert click(0) == "ascending"
    assert rows(browser)[-1] == "numbers6 hog_svc"


def test_a_head_can_be_sorted_by_keyboard(opened: Callable[..., Any]) -> None:
    browser = opened()
    browser.evaluate("document.querySelectorAll('#leaderboard th button')[5].focus()")
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, **enter)
    assert browser.evaluate("document.querySelectorAll('#leaderboard th')[5].ariaSort") == "ascending"


def test_what_has_no_number_goes_last_either_way(opened: Callable[..., Any]) -> None:
    browser = opened()
    order = (
        "(() => { const head = [...document.querySelectorAll('#cost th')].find(h => h.textContent === 'FLOPs');"
        "head.querySelector('button').click();"
        "return [...document.querySelectorAll('#cost tbody tr')].map(row => row.cells[0].textContent); })()"
    )
    assert [browser.evaluate(order)[-1] for _ in range(2)] == ["hog_svc", "hog_svc"]


def test_the_filter_leaves_one_dataset_everywhere(opened: Callable[..., Any]) -> None:
    browser = opened()
    choose(browser, "#dataset", "union")
    assert rows(browser) == ["union crnn"]
    assert browser.evaluate("document.getElementById('shown').textContent") == "1 result"
    seen = "[...document.querySelectorAll('[data-only]')].filter(e => e.offsetParent).map(e => e.dataset.only)"
    assert set(browser.evaluate(seen)) == {"union"}
    # Menus of charts follow, and what has no such dataset stays as it was.
    menus = "[...document.querySelectorAll('.menus select[name=dataset]')].map(menu => menu.value)"
    assert set(browser.evaluate(menus)) == {"union", "numbers6"}
    assert browser.evaluate("document.querySelector('#calibration select').value") == "union"
    choose(browser, "#dataset", "all")
    assert len(rows(browser)) == 4
    assert browser.problems == []


def test_a_menu_changes_its_charts(opened: Callable[..., Any]) -> None:
    browser = opened()
    marks = "document.querySelectorAll('#calibration svg .mark-symbol path').length"
    before = browser.evaluate(marks)
    choose(browser, "#calibration select", "union")
    # numbers6 was read by three, union by one.
    assert before == 3
    browser.wait(f"{marks} === 1")


def test_the_gallery_shows_the_errors_of_the_model_chosen(opened: Callable[..., Any]) -> None:
    browser = opened()
    seen = "[...document.querySelectorAll('#gallery li')].filter(e => e.offsetParent).map(e => e.innerText)"
    first = browser.evaluate(seen)
    assert len(first) == 2
    assert "confidence 0.50, 30 edits" in first[0]
    assert "</script>" in first[0]
    loaded = (
        "[...document.querySelectorAll('img')].filter(e => e.offsetParent).every(e => e.complete && e.naturalWidth)"
    )
    browser.wait(loaded)
    choose(browser, "#errors select[name=model]", "hog_svc")
    (only,) = browser.evaluate(seen)
    assert "23 read as nothing" in only
    assert browser.evaluate("document.querySelectorAll('img[onerror]').length") == 0


def test_the_charts_follow_the_theme(opened: Callable[..., Any]) -> None:
    def colours(**how: Any) -> list[str]:
        script = "[...document.querySelectorAll('#transfer svg .mark-rect path')].map(e => e.getAttribute('fill'))"
        return list(opened(**how).evaluate(script))

    light, dark = colours(), colours(dark=True)
    assert len(light) == len(dark) == 2
    assert not set(light) & set(dark)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_link_in_the_bar_leads_to_a_heading_that_is_in_sight(opened: Callable[..., Any], width: int) -> None:
    browser = opened(width=width)
    browser.evaluate("document.querySelector('.bar [href=\"#calibration\"]').click()")
    browser.wait("scrollY > 0")
    bar, head = browser.evaluate(
        "[document.querySelector('.bar').getBoundingClientRect().bottom,"
        "document.getElementById('calibration-head').getBoundingClientRect().top]"
    )
    assert bar <= head < 200


@pytest.mark.parametrize(("width", "least"), [(1280, 24), (390, 44)])
def test_what_is_clicked_is_large_enough(opened: Callable[..., Any], width: int, least: int) -> None:
    assert opened(width=width).evaluate(SMALL % least) == []


@pytest.mark.parametrize("prefix", ["/", "/user/x/proxy/8123/"])
def test_where_the_demo_serves_it_it_leads_back_there(
    browser: Any, opened: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    links = "[...document.querySelectorAll('.bar a')].filter(a => a.checkVisibility()"
    back = f"{links} && a.pathname === '{prefix}').length"
    assert opened().evaluate(back) == 0
    monkeypatch.setattr(SimpleHTTPRequestHandler, "translate_path", lambda *_: str(place))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever).start()
        browser.open(f"http://127.0.0.1:{server.server_port}{prefix}report")
        server.shutdown()
    assert browser.evaluate(back) == 1


def test_a_page_without_most_of_its_parts_opens_too(browser: Any, findings: Findings, tmp_path: Path) -> None:
    needed = (CLASSES, CONFUSIONS, COST, SPEED)
    tables = {table: rows if table in needed else rows.clear() for table, rows in findings.tables.items()}
    bare = replace(findings, misreadings=[], tables=tables)
    write_text(tmp_path / "index.html", page(bare))
    browser.open(tmp_path / "index.html")
    assert browser.problems == []
