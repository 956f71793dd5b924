"""Results depend only on inputs: not on threads, order in an archive, locale, time zone or folder."""

import io
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from captchabench.datasets import DATASETS
from captchabench.models import RECOGNISERS, build_recogniser
from captchabench.samples.shards import Samples
from stages import ingest, normalize
from tests.budgets import few_steps

ROOT = Path(__file__).parents[1]
NAME = "numbers6"


@contextmanager
def machine_threads(count: int) -> Iterator[None]:
    """Imitates a machine on which torch uses `count` threads by default."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pictures() -> dict[str, bytes]:
    """Files of an archive, with copies, an image with two labels, and a file that is no image."""
    rng = np.random.default_rng(0)
    files = {}
    for index in range(40):
        drawn = DATASETS[NAME].draw(rng)
        files[f"in/{index % 3}/{drawn.label}.png"] = drawn.encoded
    names = sorted(files)
    files |= {"again/" + names[0].split("/")[-1]: files[names[0]], "in/000001.png": files[names[1]], "in/2.png": b"no"}
    return files


def pack(path: Path, files: Mapping[str, bytes], order: list[str]) -> None:
    """Write the files to an archive or a folder in that order, which their times follow."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for when, name in enumerate(order):
                packed.writestr(zipfile.ZipInfo(name, (1990 + when, 1, 1, 0, 0, 0)), files[name])
    elif path.suffix == ".gz":
        with tarfile.open(path, "w:gz") as packed:
            for when, name in enumerate(order):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(files[name]), when
                packed.addfile(info, io.BytesIO(files[name]))
    else:
        for when, name in enumerate(order):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(files[name])
            os.utime(path / name, (when, when))


def outputs(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of the outputs of normalisation in `folder`."""
    places = [folder / place for place in ("data/shards", "data/rejects", "metrics")]
    result = {str(p.relative_to(folder)): p.read_bytes() for place in places for p in place.rglob("*.*")}
    assert len(result) == 3
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Path]:
    """A function that makes a folder with a params.yaml."""

    def make(name: str) -> Path:
        made = tmp_path / name
        (made / "in").mkdir(parents=True)
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["data"] = {"source": "archive", "downloads": "in"}
        params["datasets"][NAME]["images"] = 30
        params["normalize"]["max_rejected"] = 0.5
        (made / "params.yaml").write_text(yaml.safe_dump(params))
        return made

    return make


def test_shards_depend_only_on_images(folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    files = pictures()
    shuffled = list(files)
    random.Random(0).shuffle(shuffled)
    slug = DATASETS[NAME].slug
    made: dict[int, dict[str, bytes]] = {}
    for kind, order in ((".zip", sorted(files)), (".zip", shuffled), (".tar.gz", shuffled), ("", shuffled[::-1])):
        place = folder(f"{len(made)}")
        pack(place / "in" / f"{slug}{kind}", files, order)
        monkeypatch.chdir(place)
        ingest.main(NAME)
        normalize.main(NAME)
        made[len(made)] = outputs(place)
    assert all(one == made[0] for one in made.values())

    # In a separate process with another environment, from the raw file made here.
    elsewhere = folder("Größe, mit Leerzeichen")
    (elsewhere / "data/raw").mkdir(parents=True)
    (elsewhere / f"data/raw/{NAME}.parquet").write_bytes(Path(f"data/raw/{NAME}.parquet").read_bytes())
    surroundings = {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONHASHSEED": "7",
        "TZ": "Pacific/Kiritimati",
        "OMP_NUM_THREADS": "3",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "stages.normalize", NAME]
    subprocess.run(command, cwd=elsewhere, env={**os.environ, **surroundings}, umask=0o077, check=True, timeout=600)
    assert outputs(elsewhere) == made[0]


@pytest.mark.parametrize("name", RECOGNISERS.names())
def test_weights_and_readings_do_not_depend_on_the_machines_threads(
    name: str, make_samples: Callable[..., Samples], tmp_path: Path
) -> None:
    samples = make_samples(60)
    result = []
    for count in (1, 3):
        with machine_threads(count):
            model = build_recogniser(name, samples.info.spec, few_steps(name))
            model.fit(samples, samples, seed=0)
            reading = model.predict(samples.pixels)
            losses = model.losses(samples.pixels, samples.labels)
            assert torch.get_num_threads() == count
        (tmp_path / str(count)).mkdir()
        model.save(tmp_path / str(count), samples.info, 0)
        weights = {p.name: p.read_bytes() for p in (tmp_path / str(count)).iterdir()}
        result.append(
            (weights, reading.texts, reading.confidences.tobytes(), None if losses is None else losses.tobytes())
        )
    assert result[0] == result[1]
