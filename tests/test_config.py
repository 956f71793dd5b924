"""params.yaml: what is wrong is said in one line that names the key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captchabench.config import Between, Positive, build, load_params, read_yaml
from captchabench.errors import InputError
from captchabench.overlay import apply_overlay

ROOT = Path(__file__).parents[1]
SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")


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
            "{images: 3000}",
            "{images: -1}",
            r"datasets\.fournierp\.images: must be at least 1.*or must be one of all",
        ),
        (
            "{images: 3000}",
            "{images: 9, models: {crn: {}}}",
            r"datasets\.fournierp\.models\.crn: no such model under models; did you mean 'crnn'",
        ),
        ("  folds: [0] ", "  folds: 0 ", r"grid\.folds: must be a list, is 0"),
        ("  folds: [0] ", "  folds: [zero] ", r"grid\.folds\[0\]: must be a whole number"),
        ("folds:\n  count: 5", "folds: 5", r"folds: must be a mapping of parameters, is 5"),
        ("folds:\n  count: 5\n", "", r"folds: missing"),
    ],
)
def test_a_wrong_parameter_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_params(changed(tmp_path, old, new))
    assert "\n" not in str(caught.value)
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
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_yaml(path)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run from the project's folder"):
        load_params(tmp_path / "params.yaml")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_yaml(path)


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("2E5", 2e5), ("1.5e+2", 150.0), (".5", 0.5), ("7", 7)])
def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path, text: str, value: float) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(f"rate: {text}\n")
    found = read_yaml(path)["rate"]
    assert found == value
    assert type(found) is type(value)


@dataclass(frozen=True)
class Inner:
    size: Positive = 1


@dataclass(frozen=True)
class Outer:
    name: Literal["a", "b"]
    inner: Inner
    pair: tuple[float, float] = (0.0, 1.0)


def test_nested_values_are_converted() -> None:
    made = build(Outer, {"name": "b", "inner": {"size": 3}, "pair": [1, 2]}, "x")
    assert made == Outer("b", Inner(3), (1.0, 2.0))
    assert all(isinstance(v, float) for v in made.pair)


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


@given(st.dictionaries(st.sampled_from(["name", "inner", "pair", "other"]), json_values))
def test_any_mapping_is_built_or_refused_in_one_line(mapping: dict) -> None:
    message = "x"
    try:
        build(Outer, mapping, "x")
    except InputError as error:
        message = str(error)
    assert message.startswith("x")


def test_bounds_leave_ends_open() -> None:
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
    own = "{images: 9, models: {crnn: {hidden: 7, training: {augment: 0.7}}}}"
    params = load_params(changed(tmp_path, "{images: 3000}", own))
    usual = params.models["crnn"]
    here = params.of_model("crnn", "fournierp")
    assert (here["hidden"], here["training"]["augment"]) == (7, 0.7)
    assert here["channels"] == usual["channels"]
    assert here["training"]["steps"] == usual["training"]["steps"]
    assert params.of_model("crnn", "vtu") == usual == params.of_model("crnn", "union")
    assert "augment" not in usual["training"]
