"""The page is one file that needs nothing else."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import vl_convert

from captchabench.config import PARAMS, load_params
from captchabench.errors import InputError
from captchabench.evaluation.cells import ScoredCell
from captchabench.evaluation.curves import SCHEMA
from captchabench.evaluation.leaderboard import confusions
from captchabench.report.inputs import Cleaning, read_cleaning, read_confusions, read_curves
from captchabench.report.page import Findings, page
from captchabench.report.plots_template import plots_template

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _short_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundling the real script takes seconds; the test of DVC's template does it once."""
    monkeypatch.setattr("captchabench.report.page.vega_script", lambda: "window.vegaEmbed = () => {};")


@pytest.fixture
def findings(make_board: Callable[[], pl.DataFrame], cells: list[ScoredCell]) -> Findings:
    points = [
        ("numbers6", "standin", "crnn", 0, 1, 1.0, 0.1, 2.0, 2.0, 0.5),
        ("union", "standin", "crnn", 0, 1, 1.0, None, None, None, 0.1),
    ]
    return Findings(
        board=make_board(),
        curves=pl.DataFrame(points, schema=SCHEMA, orient="row"),
        confusions=confusions(cells),
        cleaning=[Cleaning("numbers6", "standin", 10, 8, {"undecodable": 2, "wrong length": 0})],
        params=load_params(ROOT / PARAMS),
        params_text="data: {source: standin}  # <&>",
    )


def specs_of(html: str) -> dict[str, dict]:
    found = re.search(r"const figures = (\{.*\});", html)
    assert found
    return json.loads(found[1])


def test_the_page_is_whole_and_asks_for_nothing(findings: Findings) -> None:
    html = page(findings)
    assert html.count("</script>") == 2
    body = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import""", body)
    assert "default-src 'none'" in body
    specs = specs_of(html)
    assert len(specs) == 4
    for name, spec in specs.items():
        assert f'id="{name}"' in body
        assert "url" not in spec.get("data", {})


def test_every_figure_and_table_says_that_it_shows_stand_ins(findings: Findings) -> None:
    html = page(findings)
    captions = re.findall(r"<figcaption>.*?</figcaption>", html, flags=re.S)
    assert len(captions) == 4
    assert all("drawn stand-ins, not the Kaggle images" in caption for caption in captions)
    assert all("drawn stand-ins" in heading for heading in re.findall(r"<h3>.*?</h3>", html))
    assert "No number here is a result on the Kaggle images" in html


def test_results_on_kaggle_carry_no_warning(findings: Findings) -> None:
    kaggle = findings.board.with_columns(source=pl.lit("kaggle"))
    html = page(Findings(**{**vars(findings), "board": kaggle}))
    assert "No number here is a result on the Kaggle images" not in html


def test_every_chart_compiles(findings: Findings) -> None:
    for spec in specs_of(page(findings)).values():
        assert "<svg" in vl_convert.vegalite_to_svg(json.dumps({**spec, "width": 300}))


def test_what_is_shown_is_escaped(findings: Findings) -> None:
    html = page(findings)
    assert "# &lt;&amp;&gt;" in html
    assert "undecodable 2" in html
    assert "wrong length" not in html


def test_the_page_is_the_same_each_time(findings: Findings) -> None:
    assert page(findings) == page(findings)


def test_symbols_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "confusion.csv"
    path.write_text('dataset,source,model,actual,predicted,count\nd,s,m,1,2,3\nd,s,m,"""",deleted,4\n')
    assert read_confusions(path).rows() == [("d", "s", "m", "1", "2", 3), ("d", "s", "m", '"', "deleted", 4)]


def test_missing_inputs_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"curves.csv: cannot be read.*run `dvc repro leaderboard`"):
        read_curves(tmp_path / "curves.csv")
    with pytest.raises(InputError, match="run `dvc repro leaderboard`"):
        read_confusions(tmp_path / "confusion.csv")
    with pytest.raises(InputError, match="run `dvc repro normalize@vtu`"):
        read_cleaning(tmp_path, ["vtu"])
    (tmp_path / "vtu.json").write_text('{"kept": 1}')
    with pytest.raises(InputError, match=r"vtu.json: cannot be read.*run `dvc repro normalize@vtu`"):
        read_cleaning(tmp_path, ["vtu"])


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
