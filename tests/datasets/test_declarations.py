"""The declarations of the datasets are consistent."""

import pytest

from captchabench.datasets import DATASETS


@pytest.mark.parametrize("name", DATASETS.names())
def test_a_declaration_is_complete(name: str) -> None:
    dataset = DATASETS[name]
    assert dataset.key == name
    if dataset.task == "text":
        owner, slug = dataset.handle.split("/")
        assert owner
        assert dataset.slug == slug
        assert dataset.kaggle_version >= 1
    assert dataset.slug
    assert dataset.licence
    assert dataset.images > 0
    assert 1 <= dataset.min_length <= dataset.max_length
    assert dataset.version >= 1


@pytest.mark.parametrize(("name", "symbols"), [("fournierp", 19), ("numbers6", 10), ("parsasam", 60), ("vtu", 53)])
def test_alphabets_have_the_published_size(name: str, symbols: int) -> None:
    assert len(DATASETS[name].alphabet) == symbols


def test_alphabets_lack_what_the_generators_leave_out() -> None:
    assert DATASETS["parsasam"].alphabet.foreign("o0aO") == ["o", "0"]
    assert DATASETS["vtu"].alphabet.foreign("01IOQiloqJj") == list("01IOQiloq")
    assert DATASETS["fournierp"].alphabet.foreign("9ahk2n") == ["9", "a", "h", "k"]


def test_label_rules() -> None:
    assert DATASETS["numbers6"].label_of("012345_images") == "012345"
    assert DATASETS["numbers6"].label_of("0123") == "0123"
    for name in ("fournierp", "parsasam", "vtu"):
        assert DATASETS[name].label_of("aB3_x") == "aB3_x"


def test_files_declared_damaged_have_valid_labels() -> None:
    vtu = DATASETS["vtu"]
    assert len(vtu.corrupt) == 5
    for stem in vtu.corrupt:
        assert len(stem) == 6
        assert not vtu.alphabet.foreign(stem)
