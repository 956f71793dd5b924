"""params.yaml: a mistake is reported in one line that names the key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captchabench.cli.overlay import apply_overlay
from captchabench.config import Between, Positive, build, load_params, read_yaml
from captchabench.errors import InputError

ROOT = Path(__file__).parents[1]
SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")


FOURNIERP = SHIPPED[SHIPPED.index("  fournierp:") : SHIPPED.index("  grid:")]


def changed(tmp_path: Path, old: str, new: str) -> Path:
    assert old in SHIPPED
    path = tmp_path / "params.yaml"
    path.write_text(SHIPPED.replace(old, new, 1), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  source: standin ",
            "  sauce: standin ",
            r"data\.?.* ?sauce: no such parameter; did you mean 'source'",
        ),
        (
            "  source: standin ",
            "  source: web ",
            r"data\.source: must be one of standin, archive, kaggle; is 'web'",
        ),
        ("  height: 32 ", "  height: tall ", r"normalize\.height: must be a whole number, is 'tall'"),
        ("  height: 32 ", "  height: 3 ", r"normalize\.height: must be at least 8; is 3"),
        ("  clahe: false", "  clahe: 1", r"normalize\.clahe: must be true or false, is 1"),
        ("  max_rejected: 0.02", "  max_rejected: 2", r"normalize\.max_rejected: must be at most 1"),
        (
            FOURNIERP,
            "  fournierp: {images: -1}\n",
            r"datasets\.fournierp\.images: must be at least 1.*or must be one of all",
        ),
        (
            FOURNIERP,
            "  fournierp: {images: 9, models: {crn: {}}}\n",
            r"datasets\.fournierp\.models\.crn: no such model under models; did you mean 'crnn'",
        ),
        ("  folds: [0] ", "  folds: 0 ", r"matrix\.folds: must be a list, is 0"),
        ("  folds: [0] ", "  folds: [zero] ", r"matrix\.folds\[0\]: must be a whole number"),
        ("folds:\n  count: 5", "folds: 5", r"folds: must be a mapping of parameters, is 5"),
        ("folds:\n  count: 5\n", "", r"folds: missing"),
        ("  images: 100 ", "  images: 0 ", r"probe\.images: must be at least 1"),
        ("  folds: [0] ", "  folds: [] ", r"matrix\.folds: must name some of the 5 folds"),
        ("  folds: [0] ", "  folds: [5] ", r"matrix\.folds: must name some of the 5 folds, which are 0 to 4"),
        ("  folds: [0] ", "  folds: [1, 1] ", r"matrix\.folds: one is named twice"),
        ("datasets: [fournierp,", "datasets: [fournierp, vtu,", r"matrix\.datasets: 'vtu' is named twice"),
        (
            "datasets: [fournierp,",
            "datasets: [fourniery,",
            r"'fourniery' is missing under datasets; did you mean 'fourn",
        ),
        ("datasets: [fournierp,", "datasets: [../../etc,", r"matrix\.datasets: '../../etc' is missing under datasets"),
        ("  models: [hog_svc,", "  models: [hog_svm,", r"'hog_svm' is missing under models; did you mean 'hog_svc'"),
        ("  models: [hog_svc,", "  models: [crnn,", r"matrix\.models: 'crnn' is named twice"),
        ("  union: [crnn]", "  union: [crnm]", r"matrix\.union: 'crnm' is missing under models; did you mean 'crnn'"),
        ("    datasets: [grid]", "    datasets: [grid, vtu]", r"matrix\.tiles\.datasets: 'vtu' is named twice"),
        ("  dummy: {}", "  dummy: 3", r"models\.dummy: must be a mapping, is 3"),
        ("  dummy: {}", "  dummy:", r"models\.dummy: must be a mapping, is empty"),
        ("  seed: 0 ", "  seed: 4294967296 ", r"data\.seed: must be at most 2147483647"),
        (FOURNIERP, "  fournierp: {images: 1000000000000}\n", r"images: must be at most 10000000"),
        (
            FOURNIERP,
            "  fournierp: {images: 1" + "0" * 400 + "}\n",
            r"images: must be at most .* is a number of about 400 digits",
        ),
        ("max_rejected: 0.02", "max_rejected: .inf", r"max_rejected: must be a number, is infinite"),
        ("max_rejected: 0.02", "max_rejected: 1" + "0" * 400, r"max_rejected: must be a number, is a number of about"),
        ("max_rejected: 0.02", "max_rejected: 2026-01-01", r"max_rejected: must be a number, is a date"),
        ("  source: standin ", "  source: [[[standin]]] ", r"data\.source: must be one of .*; is a list"),
        ("  source: standin ", '  source: "\\e[31mred" ', r"data\.source: must be one of .*; is '\\x1b\[31mred'"),
        ("  source: standin ", "  source: " + "x" * 5000 + " ", r"data\.source: must be one of .{,150}$"),
    ],
)
def test_a_wrong_parameter_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_params(changed(tmp_path, old, new))
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "line 1"),
        ("- 1", "must hold a mapping"),
        ("", "must hold a mapping"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_a_file_without_a_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_yaml(path)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run from the project's folder"):
        load_params(tmp_path / "params.yaml")


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_yaml(path)


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("2E5", 2e5), ("1.5e+2", 150.0), (".5", 0.5), ("7", 7)])
def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path, text: str, value: float) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"rate: {text}\n")
    number = read_yaml(path)["rate"]
    assert number == value
    assert type(number) is type(value)


@dataclass(frozen=True)
class Inner:
    size: Positive = 1


@dataclass(frozen=True)
class Outer:
    name: Literal["a", "b"]
    inner: Inner
    pair: tuple[float, float] = (0.0, 1.0)


def test_nested_values_are_converted() -> None:
    outer = build(Outer, {"name": "b", "inner": {"size": 3}, "pair": [1, 2]}, "x")
    assert outer == Outer("b", Inner(3), (1.0, 2.0))
    assert all(isinstance(v, float) for v in outer.pair)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"name": "b"}, "x.inner: missing"),
        ({"name": "b", "inner": {"sise": 1}}, r"x\.inner\.sise: no such parameter; did you mean 'size'"),
        ({"name": "b", "inner": {}, "pair": [1]}, r"x\.pair: must have 2 entries, has 1"),
        ({"name": "b", "inner": {}, "pair": [1, float("nan")]}, r"x\.pair\[1\]: must be a number, is NaN"),
        ({"name": "b", "inner": {"size": True}}, r"x\.inner\.size: must be a whole number, is True"),
        (None, "x: must be a mapping of parameters, is empty"),
    ],
)
def test_nested_mistakes_are_named(mapping: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(Outer, mapping, "x")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["name", "inner", "pair", "other", "\x1b"]), json_values))
def test_any_mapping_is_built_or_refused_in_one_line(mapping: dict[str, Any]) -> None:
    message = "x"
    try:
        build(Outer, mapping, "x")
    except InputError as error:
        message = str(error)
    assert message.startswith("x")


def test_bounds_may_be_one_sided() -> None:
    assert Between(low=1).high is None


def test_an_overlay_changes_values_and_keeps_comments(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(SHIPPED, encoding="utf-8")
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("data: {source: archive}\nmodels: {crnn: {hidden: 99}}\n")
    keys = [key for key, _, _ in apply_overlay(overlay, params)]
    assert keys == ["data.source", "models.crnn.hidden"]
    text = params.read_text(encoding="utf-8")
    assert "# a fold is both the held-out part and the seed" in text
    assert load_params(params).data.source == "archive"
    assert load_params(params).models["crnn"]["hidden"] == 99
    assert apply_overlay(overlay, params) == []


def test_an_overlay_of_an_unknown_section_is_refused(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(SHIPPED, encoding="utf-8")
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("date: {source: archive}\n")
    with pytest.raises(InputError, match=r"date: no such section.*did you mean 'data'"):
        apply_overlay(overlay, params)
    assert params.read_text(encoding="utf-8") == SHIPPED


def test_a_dataset_may_change_a_models_parameters(tmp_path: Path) -> None:
    section = "{images: 9, models: {crnn: {hidden: 7, training: {augment: 0.7}}}}"
    params = load_params(changed(tmp_path, FOURNIERP, f"  fournierp: {section}\n"))
    default = params.models["crnn"]
    overridden = params.of_model("crnn", "fournierp")
    assert (overridden["hidden"], overridden["training"]["augment"]) == (7, 0.7)
    assert overridden["channels"] == default["channels"]
    assert overridden["training"]["steps"] == default["training"]["steps"]
    assert params.of_model("crnn", "numbers6") == default
    assert "augment" not in default["training"]


def test_a_budget_follows_from_the_datasets_difficulty(tmp_path: Path) -> None:
    section = "{images: 9, difficulty: 2.5, models: {cnn_transformer: {training: {steps: 7}}}}"
    params = load_params(changed(tmp_path, FOURNIERP, f"  fournierp: {section}\n"))
    steps = params.models["crnn"]["training"]["steps"]
    assert params.of_model("crnn", "fournierp")["training"]["steps"] == round(2.5 * steps)
    # Steps in the section of a dataset are not multiplied.
    assert params.of_model("cnn_transformer", "fournierp")["training"]["steps"] == 7
    # The difficulty of a union is the sum over its members.
    difficulty = sum(params.datasets[name].difficulty for name in params.matrix.datasets)
    assert params.of_model("crnn", "union")["training"]["steps"] == round(difficulty * steps)
    assert params.of_model("hog_svc", "fournierp") == params.models["hog_svc"]


LAUGHS = "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\n"
LAUGHS += "d: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: .*'a' occurs twice"),
        ("a: {b: 1, c: 2, b: 1}", "line 1: .*'b' occurs twice"),
        (LAUGHS, "more than 20000 values with aliases expanded"),
        ("a: &a [*a]", "nested too deep"),
        ("a: &a {b: *a}", "nested too deep"),
        ("a: &a {x: 1}\nb: {<<: [*a, *a]}", "line 2: .*only one mapping can be merged"),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "line 2: .*'<<' occurs twice"),
        ("a: " + "[" * 30 + "]" * 30, "nested too deep"),
        ("- " * 5000, "nested too deep"),
        ("1: x", "the key 1 is not text"),
        ("a: {b: {yes: 1}}", "the key True is not text"),
        ("a:\n\tb: 1", "line 2: .*not valid YAML"),
        ("a: 2001-13-45", "not valid YAML"),
        ("a: 0b_", "not valid YAML"),
        ("a: !!int ''", "not valid YAML"),
        ("a: !!bool maybe", "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: !!python/object/apply:os.system [echo]", "line 1: .*not valid YAML"),
        ("a: \x1b", "not valid YAML"),
        ("? [a]\n: 1", "line 1: .*not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("# " + "long " * 30_000, "larger than 100 kB"),
        ("\x00", "not valid YAML"),
    ],
    ids=range(23),
)
def test_expensive_or_ambiguous_yaml_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_yaml(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_aliases_and_merged_mappings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("\ufeffa: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: *a}\nd: *a\n", encoding="utf-8")
    a = {"x": 1, "y": 2}
    assert read_yaml(path) == {"a": a, "b": {"x": 1, "y": 3}, "c": a, "d": a}


def test_an_overlay_with_an_odd_section_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(SHIPPED, encoding="utf-8")
    (tmp_path / "overlay.yaml").write_text('"\\e[31mdata": {source: archive}', encoding="utf-8")
    with pytest.raises(InputError, match="no such section") as caught:
        apply_overlay(tmp_path / "overlay.yaml", tmp_path / "params.yaml")
    assert str(caught.value).isprintable()
