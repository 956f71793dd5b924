"""The page is one file that needs nothing else, and says all it shows in words too."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import vl_convert

from captchabench.report.charts import BLUES, PALETTE, SHAPES, ink_on_blues, legend
from captchabench.report.findings import Findings
from captchabench.report.page import page
from captchabench.report.plots_template import plots_template
from captchabench.report.sections.base import sections
from captchabench.storage.tables import Table
from captchabench.studies.ambiguity import AMBIGUITY
from captchabench.studies.carry import CARRY
from captchabench.studies.cost import COST
from captchabench.studies.label_errors import SUSPECTS
from captchabench.studies.robustness import ROBUSTNESS
from captchabench.studies.transfer import TRANSFER_TABLE

ROOT = Path(__file__).parents[2]
STANDINS = "drawn stand-ins, not the Kaggle images"


@pytest.fixture(scope="module", autouse=True)
def _short_script() -> Iterator[None]:
    """Bundling the real script takes seconds; the test of DVC's template does it once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("captchabench.report.page.vega_script", lambda: "window.vegaEmbed = () => {};")
        yield


@pytest.fixture(scope="module")
def html(findings: Findings, _short_script: None) -> str:
    """The page with all its parts."""
    return page(findings)


def data_of(html: str) -> dict[str, Any]:
    result = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', html, flags=re.S)
    assert result
    data: dict[str, Any] = json.loads(result[1])
    return data


def body_of(html: str) -> str:
    """The page without its scripts and styles."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.S)


class Elements(HTMLParser):
    """Every element as (tag, attributes)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_the_page_is_whole_and_asks_for_nothing(html: str) -> None:
    assert html.count("</script>") == 3
    body = body_of(html)
    for tag, attributes in Elements(body).found:
        assert tag not in ("link", "object", "iframe", "base")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import", html[html.index("<style>") : html.index("</style>")])
    assert "default-src 'none'" in body
    figures = data_of(html)["figures"]
    assert len(figures) == len(re.findall(r'class="chart"', body)) >= 9
    for name, spec in figures.items():
        assert f'id="{name}"' in body
        assert "http" not in json.dumps({key: value for key, value in spec.items() if key != "$schema"})


def test_every_section_of_the_bar_is_there(html: str) -> None:
    body = body_of(html)
    links = re.findall(r'href="#(\w+)"', body)
    assert links == [section.name for section in sections()]
    assert all(f'<section id="{link}" aria-labelledby="{link}-head">' in body for link in links)


def test_every_figure_and_table_of_results_says_that_it_shows_stand_ins(html: str) -> None:
    captions = re.findall(r"<figcaption>.*?</figcaption>", html, flags=re.S)
    assert len(captions) == len(data_of(html)["figures"])
    assert all(STANDINS in caption for caption in captions)
    tables = [text for text in re.findall(r"<caption>.*?</caption>", html, flags=re.S) if STANDINS not in text]
    # These repeat a figure that says so, or tell of the run.
    assert [re.sub("<.*?>", "", text) for text in tables] == [
        "Exact match by training and test dataset.",
        "No model here has seen an image of the archive. images from local archives",
        "The bins of the reliability diagrams.",
        "Every number above comes from this run.",
    ]
    assert "No number here is a result on the Kaggle images" in html


def test_results_on_kaggle_carry_no_warning(findings: Findings) -> None:
    kaggle = replace(findings, board=findings.board.with_columns(source=pl.lit("kaggle")))
    assert "No number here is a result on the Kaggle images" not in page(kaggle)


def test_every_chart_compiles(html: str) -> None:
    for spec in data_of(html)["figures"].values():
        assert "<svg" in vl_convert.vegalite_to_svg(json.dumps({**spec, "width": 300}))


def test_who_cannot_see_the_page_can_read_it(html: str) -> None:
    elements = Elements(body_of(html))
    assert len(elements.of("h1")) == 1
    charts = [a for a in elements.of("div") if a.get("class") == "chart"]
    assert all(a["role"] == "img" and len(a["aria-label"] or "") > 20 for a in charts)
    assert all(a.get("alt") for a in elements.of("img"))
    assert {a["scope"] for a in elements.of("th")} == {"col", "row"}
    assert all(a["aria-sort"] == "none" for a in elements.of("th") if "data-first" in a)
    assert len(elements.of("caption")) == len(elements.of("table"))
    # A menu stands inside its label.
    assert len(elements.of("label")) == len(elements.of("select"))
    # What scrolls can be reached by keyboard.
    assert all(a["tabindex"] == "0" for a in elements.of("div") if a.get("class") == "scroll")


def test_what_is_shown_is_escaped(html: str) -> None:
    assert "# &lt;&amp;&gt;" in html
    assert "undecodable 2" in html
    assert "wrong length" not in html
    assert "<img src=x" not in html
    assert "x/&lt;1&gt;.png" in html


def test_the_page_is_the_same_each_time(findings: Findings, html: str) -> None:
    assert page(findings) == html


def test_the_spread_over_seeds_has_a_column_where_there_are_several(findings: Findings, html: str) -> None:
    assert "exact</button>" in html
    assert "± over seeds</button>" not in html
    spread = pl.when(pl.col("model") == "crnn").then(0.0123)
    several = page(replace(findings, board=findings.board.with_columns(exact_std=spread)))
    assert "± over seeds</button>" in several
    assert '<td data-value="0.0123">1.2</td>' in several


def test_shares_of_a_ceiling_have_a_column_where_a_ceiling_is_known(findings: Findings) -> None:
    unknown = page(replace(findings, board=findings.board.with_columns(of_ceiling=pl.lit(None, pl.Float64))))
    assert "of the ceiling</button>" not in unknown
    assert "<dt>of the ceiling</dt>" not in unknown
    of_one = pl.when(pl.col("model") == "crnn").then(0.75)
    known = page(replace(findings, board=findings.board.with_columns(of_ceiling=of_one)))
    assert "of the ceiling</button>" in known
    assert '<td data-value="0.75">75.0%</td>' in known
    assert "<dt>of the ceiling</dt>" in known


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({TRANSFER_TABLE: None}, "No model was tested on another dataset."),
        ({CARRY: None}, "This table compares stand-ins with the images that they imitate."),
        ({ROBUSTNESS: None}, "No corruption was tried."),
        ({AMBIGUITY: None}, "The ceiling is known only where the fonts are"),
        ({SUSPECTS: None}, "No label of numbers6 is suspected."),
        ({"misreadings": []}, "crnn misread 1 of 4 images of numbers6."),
    ],
)
def test_what_is_not_there_is_a_sentence(findings: Findings, changes: dict[Any, Any], sentence: str) -> None:
    if isinstance(table := next(iter(changes)), Table):
        changes = {"tables": {**findings.tables, table: findings.tables[table].clear()}}
    assert sentence in page(replace(findings, **changes))


def test_a_cost_that_nobody_knows_has_no_chart(findings: Findings, html: str) -> None:
    uncounted = findings.tables[COST].with_columns(flops=pl.lit(None, pl.Int64))
    unknown = page(replace(findings, tables={**findings.tables, COST: uncounted}))
    kept = data_of(unknown)["figures"]
    assert len(kept) == len(data_of(html)["figures"]) - 1
    # The menu that follows names the charts that are there.
    named = re.findall(r'data-for="([^"]*)"', unknown)
    assert {name for names in named for name in names.split()} - {"gallery", "suspects"} <= set(kept)


def test_models_that_read_nothing_have_no_drop(findings: Findings, html: str) -> None:
    section = html[html.index('<section id="robustness"') : html.index('<section id="calibration"')]
    rows = re.findall(r'<tr[^>]*><th scope="row">([^<]*)</th><td class=words>([^<]*)</td>', section)
    assert rows == [("crnn", "numbers6"), ("crnn (trained on union)", "numbers6"), ("crnn", "union")]
    # A fall that chance turned into a gain has a minus sign, not a hyphen.
    gained = findings.tables[ROBUSTNESS].with_columns(relative_drop=-pl.col("relative_drop"))
    assert ">−50.0%<" in page(replace(findings, tables={**findings.tables, ROBUSTNESS: gained}))


def test_faults_of_the_data_are_named(findings: Findings, html: str) -> None:
    audit = json.loads(json.dumps(findings.audit))
    audit["duplicates"] |= {"exact_groups": 1, "exact_images": 2, "exact_groups_with_two_labels": 1}
    audit["duplicates"]["two_labels_examples"] = [["a:1 labelled 12", "b:2"]]
    audit["leakage"]["near_groups_across_folds"] = 3
    audit["datasets"]["numbers6"]["symbols_in_one_fold_only"] = {"1": "9"}
    faulty = page(replace(findings, audit=audit))
    assert "Identical images: 2, in 1 groups, of which 1 with different labels." in faulty
    assert "<strong>Groups split between folds: 3.</strong>" in faulty
    assert "a:1 labelled 12 and b:2" in faulty
    assert "numbers6 fold 1: 9" in faulty
    assert "No two images are identical" in html


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def themes() -> list[dict[str, str]]:
    """The colours of the light and of the dark theme."""
    style = (ROOT / "captchabench/report/page.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", style, flags=re.S)
    assert len(blocks) == 2
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks]


@pytest.mark.parametrize("theme", [0, 1])
def test_text_and_marks_stand_out_in_both_themes(theme: int) -> None:
    colours = themes()[theme]
    text = ["ink", "soft"], ["paper", "panel"]
    pairs = [(a, b) for a in text[0] for b in text[1]] + [("warn", "warn-paper"), ("good", "paper"), ("bad", "panel")]
    assert {pair for pair in pairs if contrast(*(colours[name] for name in pair)) < 4.5} == set()
    # Graphics need 3 : 1.
    assert [c for c in (*PALETTE, colours["mark"]) if contrast(c, colours["paper"]) < 3] == []


@pytest.mark.parametrize("dark", [False, True])
def test_figures_in_the_heat_map_stand_out(dark: bool) -> None:
    """Between the ends of the shade, as a browser mixes them."""
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "params": [{"name": "dark", "value": dark}],
        "data": {"sequence": {"start": 0, "stop": 1.001, "step": 0.02, "as": "exact"}},
        "transform": [{"calculate": ink_on_blues("exact"), "as": "ink"}],
        "layer": [
            {
                "mark": "rect",
                "encoding": {
                    "color": {
                        "field": "exact",
                        "type": "quantitative",
                        "legend": None,
                        "scale": {"domain": [0, 1], "range": [end[dark] for end in BLUES], "interpolate": "lab"},
                    }
                },
            },
            {"mark": {"type": "text", "text": "x"}, "encoding": {"color": {"field": "ink", "scale": None}}},
        ],
        "encoding": {"x": {"field": "exact", "type": "ordinal", "axis": None}},
        "resolve": {"scale": {"color": "independent"}},
    }
    svg = vl_convert.vegalite_to_svg(json.dumps(spec))
    grounds = re.findall(r'aria-roledescription="rect mark".*?fill="rgb\((\d+), (\d+), (\d+)\)"', svg)
    inks = re.findall(r'aria-roledescription="text mark".*?fill="(#\w{6})"', svg)
    assert len(grounds) == len(inks) == 51
    ratios = [
        contrast("#{:02x}{:02x}{:02x}".format(*map(int, ground)), ink)
        for ground, ink in zip(grounds, inks, strict=True)
    ]
    assert min(ratios) >= 4.5


def test_readers_keep_their_marks_when_there_are_more_than_colours() -> None:
    names = [f"model {i}" for i in range(len(PALETTE) + 1)]
    drawn = re.findall(r'<path fill="(.*?)" d="(.*?)"/></svg>(.*?)</li>', legend(names))
    assert [name for _, _, name in drawn] == names
    assert drawn[0][:2] == drawn[-1][:2] == (PALETTE[0], SHAPES["circle"])
    assert len({(colour, shape) for colour, shape, _ in drawn}) == len(PALETTE)


def test_dvcs_template_has_its_places_once_and_no_address() -> None:
    text = plots_template()
    assert "window.vegaEmbed" in text
    for place in ("{plot_divs}", "{refresh_tag}"):
        assert text.count(place) == 1
    # DVC would fill this place with scripts from the network.
    assert "{scripts}" not in text
    assert "src=" not in text.split("<script>")[0] + text.split("</script>")[-1]


@pytest.mark.parametrize("name", ["accuracy", "confusion_counts", "learning_curves"])
def test_plot_templates_hold_the_anchors_that_dvc_fills(name: str) -> None:
    text = (ROOT / ".dvc" / "plots" / f"{name}.json").read_text(encoding="utf-8")
    assert json.loads(text)["data"]["values"] == "<DVC_METRIC_DATA>"
    known = {"DATA", "TITLE", "X", "Y", "X_LABEL", "Y_LABEL", "COLOR"}
    assert set(re.findall(r"<DVC_METRIC_(\w+)>", text)) <= known
