"""The benchmarks run, also with few packages besides torch, and their numbers are right."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import decoding, inference, label_errors, time_to_accuracy, train_throughput
from benchmarks.cost import cost_of_training
from benchmarks.images import draw_images
from benchmarks.machine import Ceilings
from benchmarks.originals import original_images
from benchmarks.parameters import Budget, chosen_models, model_parameters
from captchabench.config import NormalizeParams
from captchabench.errors import InputError
from captchabench.models import build_recogniser
from captchabench.networks.network import Network
from captchabench.normalize.texts import normalize
from captchabench.samples.raw import Entry, RawInfo, write_raw
from captchabench.samples.shards import Samples, read_samples

ROOT = Path(__file__).resolve().parent.parent
SMALL: dict[str, Any] = {"height": 32, "width": 100, "params": Budget.default, "quick": True}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_train_throughput(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The real measurement takes seconds.
    monkeypatch.setattr(train_throughput, "measure_ceilings", lambda _: Ceilings("float32", 1e11, 1e10))
    train_throughput.main(model=["crnn"], batch=8, images=200, out=tmp_path / "found.json", **SMALL)
    result = json.loads((tmp_path / "found.json").read_text())
    row = result["models"]["crnn"]
    ours = row["ours"]["images_per_second"]
    assert row["ratio"] == pytest.approx(ours / row["usual_images_per_second"])
    assert row["streaming_loss"] == pytest.approx(1 - row["streamed"]["images_per_second"] / ours)
    assert row["ours"]["slowest"] <= ours <= row["ours"]["fastest"]
    assert row["share_of_flops"] == pytest.approx(row["flops_per_image"] * ours / 1e11)
    assert row["share_of_bandwidth"] == pytest.approx(row["bytes_per_image"] * ours / 1e10)
    assert result["machine"]["torch"] == torch.__version__
    assert capsys.readouterr().out.rstrip().endswith("┘")


def test_the_usual_recipe_trains_positions_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_throughput, "measure_ceilings", lambda _: Ceilings("float32", 1e11, 1e10))
    train_throughput.main(model=["char_cnn"], batch=8, out=tmp_path / "found.json", **SMALL)
    row = json.loads((tmp_path / "found.json").read_text())["models"]["char_cnn"]
    assert row["usual_images_per_second"] > 0


def test_time_to_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Every run reaches a target of 0 at its first evaluation, after two of four steps.
    time_to_accuracy.main(target=0.0, model="crnn", out=tmp_path / "found.json", **SMALL)
    result = json.loads((tmp_path / "found.json").read_text())
    assert [taken["seed"] for taken in result["runs"]] == [0, 1]
    for taken in result["runs"]:
        assert taken["reached_step"] == 2
        assert 0 < taken["reached_seconds"] < taken["train_seconds"]
        assert taken["other_seconds"] > 0
    assert result["summary"]["reached"] == 2
    # So does the usual recipe, which has a limit of one second.
    (usual,) = result["usual_runs"]
    assert usual["reached_step"] == usual["steps"] == usual["curve"][0][0] == 1
    assert 0 < usual["reached_seconds"] == usual["seconds"]
    assert capsys.readouterr().out.rstrip().endswith("┘")


def test_images_and_minutes_to_each_mark() -> None:
    curve = [(10, 30.0, 0.4), (20, 60.0, 0.6), (30, 90.0, 0.5)]
    assert time_to_accuracy._to_mark(curve, 0.5, 32) == "640 images, 1.0 min"
    assert time_to_accuracy._to_mark(curve, 0.6, 32) == "640 images, 1.0 min"
    assert time_to_accuracy._to_mark(curve, 0.8066, 32) == "not reached"


def test_a_run_that_misses_the_target_counts_as_infinitely_long() -> None:
    some = time_to_accuracy._summary([2.0, None, 4.0])
    assert some == {"reached": 2, "median_seconds": 4.0, "fastest_seconds": 2.0, "slowest_seconds": None}
    none = time_to_accuracy._summary([None, None])
    assert none == {"reached": 0, "median_seconds": None, "fastest_seconds": None, "slowest_seconds": None}
    assert time_to_accuracy._ratio(some, none, 40.0) == "ours is at least 10.0 times as fast"
    assert time_to_accuracy._ratio(some, {"median_seconds": 10.0}, 40.0) == "ours is 2.5 times as fast"
    assert time_to_accuracy._ratio(none, some, 40.0) == "no ratio"


def test_the_usual_recipe_reads_the_images_of_the_shards(tmp_path: Path) -> None:
    made = draw_images("numbers6", 30, 0)
    entries = [Entry(f"{drawing.label}_{i}.png", drawing.encoded) for i, drawing in enumerate(made.drawings)]
    write_raw(tmp_path / "numbers6.parquet", RawInfo("numbers6", "standin", 1, 30, {}), entries)
    folder, rejects = tmp_path / "shards" / "numbers6", tmp_path / "rejects.csv"
    normalize(made.dataset, tmp_path / "numbers6.parquet", NormalizeParams(32, 100), 5, folder, rejects, workers=1)
    samples = read_samples(folder)
    encoded = original_images(tmp_path / "numbers6.parquet", frozenset(samples.sample_ids))
    assert set(samples.sample_ids) == set(encoded)
    labels = {drawing.encoded: drawing.label for drawing in made.drawings}
    assert [labels[encoded[one]] for one in samples.sample_ids] == list(samples.labels)


def test_time_to_accuracy_needs_raw_files_and_shards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give both"):
        time_to_accuracy.main(data=tmp_path, quick=True)


def test_inference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inference.main(
        model=["crnn", "hog_svc"],
        device=inference.On.cpu,
        out=tmp_path / "found.json",
        **SMALL,
    )
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [(row["model"], row["decoding"]) for row in rows][-1] == ("hog_svc", "")
    assert {row["decoding"] for row in rows if row["model"] == "crnn"} >= {"greedy", "beam"}
    for row in rows:
        assert 0 < row["latency_median_ms"] <= row["latency_p95_ms"]
        assert row["images_per_second"] > 0
    assert capsys.readouterr().out.rstrip().endswith("┘")


def test_decoding(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make_samples: Callable[..., Samples],
) -> None:
    samples = make_samples(60)
    monkeypatch.setattr(decoding, "read_samples", lambda folder: samples)
    (tmp_path / "written").mkdir()
    for fold in (0, 1):
        folder = tmp_path / f"written-crnn-{fold}"
        folder.mkdir()
        # An untrained model reads random texts, so the ways of decoding differ.
        untrained = build_recogniser("crnn", samples.info.spec, {"channels": [8, 8, 8], "hidden": 8})
        untrained.save(folder, samples.info, fold)
    (tmp_path / "written-dummy-0").mkdir()
    build_recogniser("dummy", samples.info.spec, {}).save(tmp_path / "written-dummy-0", samples.info, fold=0)
    decoding.main(models=tmp_path, shards=tmp_path, out=tmp_path / "found.json")
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [(row["model"], row["decoding"]) for row in rows] == [("crnn", way) for way in decoding.WAYS]
    for row in rows:
        assert row["images"] == 24
        assert row["exact"] == rows[0]["exact"] + row["gained"] - row["lost"]
    assert capsys.readouterr().out.rstrip().endswith("┘")


def test_decoding_without_models_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make repro"):
        decoding.main(models=tmp_path, shards=tmp_path)


BARE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"polars", "editdistance", "dvc", "prefect", "pydantic"} or name.startswith("font_"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from pathlib import Path
from benchmarks import decoding, inference, read_shards, time_to_accuracy, train_throughput
from captchabench.models import RECOGNISERS
for name in RECOGNISERS.names():
    RECOGNISERS[name]
read_shards.main(quick=True, out=Path(sys.argv[1]))
"""


def test_few_packages_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    done = subprocess.run([sys.executable, "-c", BARE, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("┘")
    result = json.loads(path.read_text())
    assert result["images"]["look"] == "synthetic"
    assert all(figure["gigabytes_per_second"] > 0 for figure in result["ways"].values())


class Layers(Network):
    """A network of given layers, which cannot read."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.layers(images)
        return output

    def losses(self, *_: object) -> Tensor:
        raise NotImplementedError

    def read(self, _: object) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def test_cost_of_grouped_convolutions_by_hand() -> None:
    network = Layers(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False))
    cost = cost_of_training(network, 10, 20, batch_size=2, dtype=torch.bfloat16)
    pixels = 10 * 20
    # Both have 9 multiplications per output. The first needs no gradient of the image.
    first, second = (2 * 9 * 4 * pixels * passes for passes in (2, 3))
    assert cost.flops == first + second
    written = 2 * 4 * pixels * 2  # two outputs of four channels, two bytes each
    assert cost.bytes == pixels + 3 * written + 10 * 4 * (36 + 36) / 2


class Rows(nn.Module):
    """[B, 1, H, W] to [B, H, W]."""

    def forward(self, images: Tensor) -> Tensor:
        return images.squeeze(1)


class Recurrent(nn.Module):
    """The outputs of an LSTM without its state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True, bidirectional=True)

    def forward(self, rows: Tensor) -> Tensor:
        output: Tensor = self.lstm(rows)[0]
        return output


def test_cost_of_an_lstm_by_hand() -> None:
    cost = cost_of_training(Layers(Rows(), Recurrent()), 5, 8, batch_size=1, dtype=torch.float32)
    into, around = (2 * 2 * 5 * 4 * 16 * inputs for inputs in (8, 16))  # two directions, five rows, four gates
    # The image needs no gradient. PyTorch also counts that of the initial state, which is not needed.
    assert 2 * into + 3 * around * 4 / 5 <= cost.flops <= 2 * into + 3 * around
    weights = 2 * 4 * 16 * (8 + 16 + 2)
    assert cost.bytes == 5 * 8 + 3 * 4 * (5 * 32) + 10 * 4 * weights


def test_full_parameters_override_the_defaults() -> None:
    default, full = (model_parameters(budget)["crnn"] for budget in Budget)
    assert full["hidden"] != default["hidden"]
    assert full["training"].keys() >= default["training"].keys()
    assert math.prod(full["channels"]) > math.prod(default["channels"])


def test_an_unknown_model_is_one_line() -> None:
    with pytest.raises(InputError, match=r"--model crn: not a model of this benchmark; did you mean 'crnn'\?"):
        chosen_models(["crn"], train_throughput.MODELS)


def test_label_errors(tmp_path: Path) -> None:
    label_errors.main(
        dataset="numbers6",
        images=150,
        wrong=0.05,
        model=["hog_svc"],
        seed=0,
        params=Budget.default,
        out=tmp_path / "found.json",
    )
    result = json.loads((tmp_path / "found.json").read_text())
    (row,) = result["rows"]
    assert (row["models"], row["planted"]) == (["hog_svc"], 8)
    assert row["exact"][0] > 0.5
    assert 4 <= row["found"] <= row["listed"] <= 150
    assert (row["precision"], row["recall"]) == (row["found"] / row["listed"], row["found"] / 8)


def test_label_errors_of_a_run(
    tmp_path: Path, make_samples: Callable[..., Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models of a run read each fold once, and labels are replaced twice. All images have the same label."""
    samples = make_samples(100)
    samples.labels[:] = "1234"
    monkeypatch.setattr(label_errors, "read_samples", lambda _: samples)
    for fold in range(5):
        folder = tmp_path / "models" / f"written-dummy-{fold}"
        folder.mkdir(parents=True)
        recogniser = build_recogniser("dummy", samples.info.spec, {})
        recogniser.fit(samples, samples, seed=0)
        recogniser.save(folder, samples.info, fold)
    label_errors.main(
        shards=tmp_path, trained=tmp_path / "models", wrong=0.1, rounds=2, model=["dummy"], out=tmp_path / "found.json"
    )
    result = json.loads((tmp_path / "found.json").read_text())
    (row,) = result["rows"]
    assert (result["labels_replaced"], row["planted"], row["exact"]) == ("after training", 20, [1.0])
    assert (row["listed"], row["precision"], row["recall"], row["precision_first"]) == (20, 1.0, 1.0, 1.0)
    assert row["recall_alike"] == 1.0


def test_planted_errors_are_one_symbol_each(make_samples: Callable[..., Samples]) -> None:
    samples = make_samples(100)
    planted = label_errors.plant(samples, 20, np.random.default_rng(0))
    changed = np.flatnonzero(planted.samples.labels != samples.labels)
    assert changed.tolist() == planted.rows.tolist()
    assert planted.alike.sum() == len(planted.rows) / 2 == 10
    nearest = label_errors.look_alikes(samples.info.alphabet)
    assert (nearest["3"], nearest["6"]) == ("8", "8")
    for row, alike in zip(planted.rows, planted.alike, strict=True):
        pairs = zip(samples.labels[row], planted.samples.labels[row], strict=True)
        ((before, after),) = [pair for pair in pairs if pair[0] != pair[1]]
        assert not alike or after == nearest[before]
