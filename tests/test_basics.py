"""The alphabet and the registry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captchabench.alphabet import Alphabet, fold_case, merge
from captchabench.errors import InputError
from captchabench.registry import Registry


@given(st.lists(st.characters(), min_size=1, max_size=20, unique=True), st.data())
def test_decoding_reverses_encoding(symbols: list[str], data: st.DataObject) -> None:
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


def test_merging_sorts_and_removes_duplicates() -> None:
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
