"""benchmarks/peers.py with a made-up ddddocr, installed from a wheel: what it reads, and what can go wrong."""

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import captchabench
from benchmarks import peer_process, peers
from benchmarks.images import draw_images
from benchmarks.peer_process import peer_environment, running_peer
from benchmarks.peer_worker import PEERS, Name
from captchabench.config import NormalizeParams
from captchabench.errors import InputError
from captchabench.models import build_recogniser
from captchabench.normalize.texts import normalize
from captchabench.predictions.held_out import PredictionInfo, write_predictions
from captchabench.samples.raw import Entry, RawInfo, write_raw
from captchabench.samples.shards import Samples, read_samples, write_shards
from tests.made_up import Pack

ROOT = Path(__file__).resolve().parents[1]
# It reads what ANSWERS says of an image by its hash, prints while it does so, and asks for a session of one thread.
FAKE = {
    "cv2.py": "def setNumThreads(count): assert count == 1",
    "onnxruntime.py": """
class SessionOptions: pass
class InferenceSession:
    def __init__(self, path, options, providers): self.threads = options.intra_op_num_threads
""",
    "ddddocr/__init__.py": """
import hashlib, json, os, onnxruntime
class DdddOcr:
    def __init__(self, show_ad):
        print("advertisement")
        assert onnxruntime.InferenceSession("path", providers=[]).threads == 1
        with open(os.environ["ANSWERS"]) as file:
            self.answers = json.load(file)
    def classification(self, encoded):
        print("reading")
        text = self.answers.get(hashlib.sha256(encoded).hexdigest(), "")
        if text == "raise":
            raise ValueError("cannot be read")
        if text == "exit":
            os._exit(3)
        return text
""",
    "ddddocr/common_old.onnx": "weights",
    "ddddocr-9.9.dist-info/METADATA": "Metadata-Version: 2.1\nName: ddddocr\nVersion: 9.9\n",
    "ddddocr-9.9.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "ddddocr-9.9.dist-info/RECORD": "",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of pinned versions and of environments, the made-up ddddocr installed by venv and pip."""
    pins, cache = tmp_path_factory.mktemp("pins"), tmp_path_factory.mktemp("cache")
    wheel = pins / "ddddocr-9.9-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in FAKE.items():
            archive.writestr(name, content)
    line = f"ddddocr @ {wheel.as_uri()} --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}\n"
    (pins / "peers-ddddocr.txt").write_text(line)
    (pins / "peers-missing.txt").write_text(f"captchabench-missing==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.MonkeyPatch.context() as patch:
        _use(patch, pins, cache)
        peer_environment("ddddocr")
    return pins, cache


def _use(patch: pytest.MonkeyPatch, pins: Path, cache: Path) -> None:
    patch.setattr(peer_process, "_FOLDER", pins)
    patch.setattr(peer_process, "CACHE", cache)
    patch.setattr("shutil.which", lambda _: None)
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")


@pytest.fixture
def environment(installed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of the made-up ddddocr."""
    _use(monkeypatch, *installed)
    return peer_environment("ddddocr")


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[bytes, str]], None]:
    """A function that says what the made-up ddddocr reads in encoded images."""

    def write(texts: dict[bytes, str]) -> None:
        path = tmp_path / "answers.json"
        path.write_text(json.dumps({sha256(encoded).hexdigest(): text for encoded, text in texts.items()}))
        monkeypatch.setenv("ANSWERS", str(path))

    return write


@pytest.fixture
def drawn(tmp_path: Path) -> dict[str, bytes]:
    """Sixty images of numbers6 in tmp_path/data, ingested and normalised: label to encoded image."""
    made = draw_images("numbers6", 60, 0)
    entries = [Entry(f"{drawing.label}.png", drawing.encoded) for drawing in made.drawings]
    data = tmp_path / "data"
    write_raw(data / "raw" / "numbers6.parquet", RawInfo("numbers6", "standin", 1, 60, {}), entries)
    raw, shards = data / "raw" / "numbers6.parquet", data / "shards" / "numbers6"
    normalize(made.dataset, raw, NormalizeParams(32, 100), 5, shards, data / "rejects.csv", workers=1)
    return {drawing.label: drawing.encoded for drawing in made.drawings}


def _predict(data: Path, model: str, fold: int) -> Samples:
    """Save the dummy as a trained `model` and what it reads of the held-out `fold`; return those samples."""
    samples = read_samples(data / "shards" / "numbers6")
    held = samples.where(samples.folds == fold)
    recogniser = build_recogniser("dummy", samples.info.spec, {})
    recogniser.fit(samples, samples, seed=0)
    folder = data / "models" / f"numbers6-{model}-{fold}"
    folder.mkdir(parents=True)
    recogniser.save(folder, samples.info, fold)
    info = PredictionInfo("numbers6", "standin", 1, model, fold, samples.info.alphabet, 0)
    path = data / "predictions" / f"numbers6-{model}-{fold}.parquet"
    write_predictions(path, info, held, recogniser.predict(held.pixels), None)
    return held


def _run(tmp_path: Path, **options: Any) -> dict[str, Any]:
    out = tmp_path / "found.json"
    peers.main(peers=[Name.ddddocr], data=tmp_path / "data", out=out, **options)
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def test_both_sides_read_all_held_out_images_pooled(
    tmp_path: Path,
    environment: Path,
    answer: Callable[[dict[bytes, str]], None],
    drawn: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    held = [label for fold in (0, 1) for label in _predict(tmp_path / "data", "dummy", fold).labels]
    assert 5 < len(held) < 60
    texts = {encoded: label for label, encoded in drawn.items()}
    spaced, bracketed, wrong, raised = held[:4]
    changed = {spaced: f" {spaced[:3]} {spaced[3:]}\n", bracketed: f"({bracketed}", wrong: wrong[:5], raised: "raise"}
    answer(texts | {drawn[label]: text for label, text in changed.items()})
    result = _run(tmp_path, markdown=tmp_path / "table.md")
    peer, ours = result["rows"]
    n = len(held)
    assert peer["reader"] == "ddddocr 9.9"
    assert (peer["images"], peer["exact"], peer["known_symbols_exact"], peer["unread"]) == (n, n - 3, n - 2, 1)
    assert peer["cer"] == pytest.approx((1 + 1 + 6) / (6 * n))
    assert peer["exact_low"] < peer["exact"] / n < peer["exact_high"]
    assert peer["bytes"] == len("weights")
    assert peer["held_out"]
    assert (ours["reader"], ours["images"], ours["source"]) == ("dummy", n, "standin")
    assert ours["exact"] < n
    assert peer["latency_median_ms"] > 0 < ours["latency_median_ms"]
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| numbers6 | standin | ddddocr 9.9 (1 not read) |")
    assert capsys.readouterr().out.rstrip().endswith("┘")


def test_images_that_a_model_did_not_hold_out_are_left_out(
    tmp_path: Path, environment: Path, answer: Callable[[dict[bytes, str]], None], drawn: dict[str, bytes]
) -> None:
    first = _predict(tmp_path / "data", "dummy", 0)
    _predict(tmp_path / "data", "dummy", 1)
    _predict(tmp_path / "data", "other", 0)
    answer({})
    assert [row["images"] for row in _run(tmp_path)["rows"]] == [len(first)] * 3


def test_peers_read_alone_where_there_are_no_predictions(
    tmp_path: Path, environment: Path, answer: Callable[[dict[bytes, str]], None], drawn: dict[str, bytes]
) -> None:
    answer({encoded: label for label, encoded in drawn.items()})
    (row,) = _run(tmp_path)["rows"]
    assert (row["images"], row["exact"], row["held_out"]) == (60, 60, False)
    (row,) = _run(tmp_path, images=7)["rows"]
    assert (row["images"], row["exact"]) == (7, 7)


def test_the_seed_chooses_the_images(tmp_path: Path, drawn: dict[str, bytes]) -> None:
    def choose(seed: int) -> list[str]:
        return peers._images(tmp_path / "data", "numbers6", {}, 10, seed).ids

    assert choose(0) == choose(0) != choose(1)


def test_a_text_in_known_symbols() -> None:
    # Lower and upper case, the other case alone, a symbol in neither case.
    assert peers._known_symbols("aAbBcC", {"a", "A", "b", "C"}) == "aAbbCC"
    assert peers._known_symbols("(2一x—ß", {"2", "x"}) == "2x"


def test_a_peer_that_ends_is_one_line(
    environment: Path, answer: Callable[[dict[bytes, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer({b"image": "exit"})
    with running_peer("ddddocr", environment) as process:
        assert process.read(b"other").text == ""
        with pytest.raises(InputError, match=r"^ddddocr: its process ended with exit code 3 \(.*run this again$"):
            process.read(b"image")
    monkeypatch.setenv("ANSWERS", "missing.json")
    missing = r"exit code 1 \(.*No such file or directory: 'missing\.json'"
    with pytest.raises(InputError, match=missing), running_peer("ddddocr", environment):
        pass


def test_an_environment_is_made_once(environment: Path, installed: tuple[Path, Path]) -> None:
    made = (environment / "complete").stat().st_mtime_ns
    assert peer_environment("ddddocr") == environment
    assert (environment / "complete").stat().st_mtime_ns == made
    pins, _ = installed
    # Another version, or an installation that was interrupted.
    (pins / "peers-ddddocr.txt").write_text((pins / "peers-ddddocr.txt").read_text() + "# changed\n")
    (environment / "leftover").touch()
    assert peer_environment("ddddocr") == environment
    assert not (environment / "leftover").exists()


def test_packages_that_cannot_be_fetched_are_one_line(environment: Path) -> None:
    with pytest.raises(
        InputError, match=r"^missing: cannot be installed \(ERROR: .*captchabench-missing==1.0.*network"
    ):
        peer_environment("missing")
    assert not (peer_process.CACHE / "missing" / "complete").exists()


def test_a_set_of_ones_own(
    tmp_path: Path, environment: Path, answer: Callable[[dict[bytes, str]], None], packed: Pack
) -> None:
    images = {drawing.label: drawing.encoded for drawing in draw_images("numbers6", 60, 0).drawings}
    path = packed(tmp_path / "mine.zip", {f"{label}.png": encoded for label, encoded in images.items()})
    report = captchabench.train(path, model="dummy", out=tmp_path / "data").report
    answer({encoded: label for label, encoded in images.items()})
    peer, ours = _run(tmp_path)["rows"]
    assert (peer["dataset"], peer["held_out"]) == ("mine", True)
    assert peer["images"] == peer["exact"] == ours["images"] == report.figures["result"]["images"]
    assert ours["exact"] / ours["images"] == report.figures["result"]["exact"]


def test_nothing_to_read_is_one_line(tmp_path: Path, make_samples: Callable[..., Samples]) -> None:
    with pytest.raises(InputError, match="raw: holds no dataset of texts; run `make repro` first"):
        peers.main(data=tmp_path)
    with pytest.raises(InputError, match="shards/fournierp: holds no shards; run `dvc repro"):
        peers.main(datasets=["fournierp"], data=tmp_path)
    write_shards(tmp_path / "shards" / "grid", replace(make_samples(1).info, task="grid"), [], 1)
    with pytest.raises(InputError, match="--datasets grid: shows tiles"):
        peers.main(datasets=["grid"], data=tmp_path)


@pytest.mark.parametrize("package", sorted({peer.package for peer in PEERS.values()}))
def test_versions_are_pinned_with_hashes_and_name_no_index(package: str) -> None:
    text = (ROOT / "benchmarks" / f"peers-{package}.txt").read_text()
    entries = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    assert any(entry.startswith(f"{package}==") for entry in entries)
    for entry in entries:
        first, *hashes = entry.rstrip().split(" \\\n")
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; .*)?", first), first
        assert hashes
        assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}", one) for one in hashes)
