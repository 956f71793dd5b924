"""Short, seeded runs of the fuzzers, and the inputs that long runs found."""

import random
from pathlib import Path

import pytest

from tests.chaos import fuzz_inputs, fuzz_readers, mutations

ROOT = Path(__file__).parents[2]


def test_mutated_images_and_archives_are_read_or_rejected() -> None:
    campaign = fuzz_inputs.Campaign(images=200, archives=50, params=0, models=0, seed=1)
    tallies, wrong = fuzz_inputs.run(campaign)
    assert wrong == []
    assert [tally.failed for tally in tallies] == [[], []]
    images, archives = (tally.verdicts for tally in tallies)
    assert images.total() == 200
    assert archives.total() == 50
    # Some get through and some do not, so the damage is realistic.
    assert 20 < images["kept"] < 100
    assert {"rejected: truncated", "rejected: undecodable", "rejected: several_frames"} <= images.keys()
    assert 5 < archives["read"] < 40


def test_mutated_models_read_or_are_refused_in_one_line() -> None:
    (tally,), wrong = fuzz_inputs.run(fuzz_inputs.Campaign(images=0, archives=0, params=0, models=100, seed=1))
    assert wrong == []
    assert tally.failed == []
    assert 5 < tally.verdicts["read"] < 80


def test_mutated_params_are_accepted_or_refused_in_one_line() -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for i in range(30):
        fuzz_readers.params(mutations.mutated_params(random.Random(f"1/{i}"), text))


def test_odd_names_are_labels_or_rejects() -> None:
    names = [name.encode("utf-8", "replace").replace(b"\n", b"\r") for name in mutations.NAMES]
    for start in range(0, len(names), 8):
        fuzz_readers.labels(b"\n".join(names[start : start + 8]))


def test_equal_generators_give_equal_inputs() -> None:
    def draw() -> list[bytes]:
        rng = random.Random(3)
        bases = [encoded for _, encoded in mutations.pictures(rng)]
        return [mutations.mutated_image(rng, encoded, bases) for encoded in bases]

    assert draw() == draw()


def test_hangs_crashes_and_tracebacks_are_reported(tmp_path: Path) -> None:
    (tmp_path / "stderr").touch()
    child = fuzz_inputs.Child(tmp_path / "stderr", 2048)
    picture = fuzz_readers.PICTURE
    try:
        assert child("read_image", picture, 30)[0] == "kept"
        assert child("read_image", "no bytes", 30)[0].startswith("TRACEBACK TypeError")
        assert child("normalise_all", [("A1b2C.pgm", picture)], 0.001)[0].startswith("HANG")
        assert child("read_image", picture, 30)[0] == "kept"
        child._process.kill()
        assert child("read_image", picture, 30)[0] == "CRASH: exit code -9"
    finally:
        child.close()


# Inputs that the fuzzers found, by problem.
FOUND: dict[str, tuple[str, bytes]] = {
    "a chunk's name in a message": (
        "images",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(17) + b"\0\0\0\0\x1b[2J" + bytes(9),
    ),
    "a section's name in a message": ("params", b'datasets: {"\\e[31m": {}}\ngrid: {datasets: [a]}'),
    "a model that is a number": ("params", (ROOT / "params.yaml").read_bytes().replace(b"dummy: {}", b"dummy: 3")),
}


@pytest.mark.parametrize("name", FOUND)
def test_inputs_that_failed_before_are_handled(name: str) -> None:
    reader, data = FOUND[name]
    fuzz_readers.READERS[reader](data)
