"""Alphabet, registry, files."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captchabench.alphabet import Alphabet, fold_case, merge
from captchabench.errors import InputError
from captchabench.files import replacing_file, replacing_folder, write_json
from captchabench.registry import Registry


@given(st.lists(st.characters(), min_size=1, max_size=20, unique=True), st.data())
def test_encoding_is_undone_by_decoding(symbols: list[str], data: st.DataObject) -> None:
    alphabet = Alphabet("".join(symbols))
    label = data.draw(st.text(st.sampled_from(symbols), max_size=12))
    ids = alphabet.encode(label)
    assert all(0 <= i < len(alphabet) for i in ids)
    assert alphabet.decode(ids) == label
    assert alphabet.foreign(label) == []


def test_foreign_symbols_are_listed_in_order() -> None:
    assert Alphabet("abc").foreign("axbya") == ["x", "y"]


@pytest.mark.parametrize(("symbols", "message"), [("", "at least one"), ("abca", "twice here: a")])
def test_a_bad_alphabet_is_refused(symbols: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Alphabet(symbols)


def test_merging_sorts_and_removes_doubles() -> None:
    assert merge([Alphabet("cb"), Alphabet("ba1")]).symbols == "1abc"


def test_case_folding() -> None:
    assert fold_case("aBß") == "abss"


def test_a_registry_refuses_a_second_entry_and_names_the_nearest() -> None:
    registry: Registry[int] = Registry("metric")
    registry.add("exact", 1)
    with pytest.raises(InputError, match="metric 'exact' is registered twice"):
        registry.add("exact", 2)
    with pytest.raises(InputError, match="no metric called 'exat'; did you mean 'exact'"):
        registry["exat"]
    with pytest.raises(InputError, match="known: exact"):
        registry["zzzzz"]
    assert registry.names() == ["exact"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    write_json(path, {"b": 1, "a": 2})
    assert path.read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    with contextlib.suppress(RuntimeError), replacing_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]
    assert '"a": 2' in path.read_text()


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for content in ("one", "two"):
        with replacing_folder(folder) as temporary:
            (temporary / content).write_text(content)
    assert [p.name for p in folder.iterdir()] == ["two"]
    with contextlib.suppress(RuntimeError), replacing_folder(folder) as temporary:
        (temporary / "three").write_text("")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert [p.name for p in folder.iterdir()] == ["two"]
