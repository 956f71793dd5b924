"""How fast the ingest and normalize stages turn an archive into shards, and how much memory they use.

Draws an archive of stand-ins, runs the two stages on it, and compares them with the usual way: Pillow in one process,
one PNG file per image. The limit is decoding alone on all cores, since every image must be decoded once.
"""

import io
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
import yaml
from PIL import Image

from captchabench.datasets import DATASETS
from captchabench.datasets.base import Dataset
from captchabench.pool import cores
from captchabench.sources.opening import StandinSource

ROOT = Path(__file__).resolve().parent.parent
HEIGHT, WIDTH = 32, 100
_PAGE = 4096


def main(
    images: Annotated[int, typer.Option(help="Images in the archive.")] = 113_062,
    dataset: Annotated[str, typer.Option(help="The dataset whose stand-ins are drawn.")] = "parsasam",
    usual: Annotated[int, typer.Option(help="Images for timing the usual way.")] = 2000,
    folder: Annotated[Path | None, typer.Option(help="The working folder. Default: a temporary one.")] = None,
) -> None:
    """Time the stages from archive to shards, and sample the memory of all their processes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder or Path(temporary)
        archive = folder / f"{DATASETS[dataset].slug}.zip"
        if not archive.exists():
            draw_archive(DATASETS[dataset], images, archive)
        print(f"{images:,} images of {dataset}, {archive.stat().st_size / 1e6:,.0f} MB, {cores()} cores")
        print(f"limit: decoding alone on all cores takes {images / (cores() * decode_rate(archive)):.1f} s")
        write_params(folder, dataset)
        total = 0.0
        for stage in ("ingest", "normalize"):
            seconds, alone, together = run_stage(stage, dataset, folder)
            total += seconds
            print(
                f"{stage}: {seconds:.1f} s, {images / seconds:,.0f} images/s, peak memory "
                f"{alone / 1e6:,.0f} MB (main process), "
                f"{together / 1e6:,.0f} MB (all processes, shared pages counted each time)"
            )
        ours = images / total
        theirs = usual_way(archive, usual, folder / "usual")
        print(f"archive to shards: {total:.1f} s, {ours:,.0f} images/s")
        print(f"usual way (Pillow, one process, PNG files): {theirs:,.0f} images/s; ratio {ours / theirs:.1f}")


def draw_archive(dataset: Dataset, images: int, path: Path) -> None:
    """Write stand-ins to a zip without compression, which would not make images smaller."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for entry in StandinSource(dataset, 0, images).entries():
            archive.writestr(zipfile.ZipInfo(entry.path), entry.encoded)


def write_params(folder: Path, dataset: str) -> None:
    """The project's params.yaml with this archive as its source."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["data"].update(source="archive", downloads=str(folder))
    params["normalize"].update(height=HEIGHT, width=WIDTH)
    params["datasets"][dataset]["images"] = "all"
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def run_stage(stage: str, dataset: str, folder: Path) -> tuple[float, int, int]:
    """Seconds, peak resident bytes of the stage's process, and the same with all its descendants."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", f"stages.{stage}", dataset], cwd=folder, env=environment)
    peaks = [0, 0]

    def sample() -> None:
        while process.poll() is None:
            sizes = [resident(pid) for pid in family(process.pid)]
            peaks[0] = max(peaks[0], sizes[0])
            peaks[1] = max(peaks[1], sum(sizes))
            time.sleep(0.05)

    watcher = threading.Thread(target=sample)
    watcher.start()
    if process.wait():
        raise SystemExit(f"{stage} failed")
    seconds = time.perf_counter() - start
    watcher.join()
    return seconds, peaks[0], peaks[1]


def family(pid: int) -> Iterator[int]:
    """A process and its descendants. Only Linux lists descendants."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            pids = children.read_text().split()
        except OSError:  # ended meanwhile
            continue
        for child in pids:
            yield from family(int(child))


def resident(pid: int) -> int:
    """Resident bytes of a process; 0 if it has ended or the system has no /proc."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def decode_rate(archive: Path, images: int = 2000) -> float:
    """Images per second that OpenCV decodes on one core."""
    with zipfile.ZipFile(archive) as opened:
        encoded_images = [np.frombuffer(opened.read(info), np.uint8) for info in islice(opened.infolist(), images)]
    start = time.perf_counter()
    for encoded in encoded_images:
        cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    return len(encoded_images) / (time.perf_counter() - start)


def usual_way(archive: Path, images: int, output: Path) -> float:
    """Images per second of a plain loop: open with Pillow, convert to grey, resize, save as PNG."""
    output.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()[:images]
        start = time.perf_counter()
        for number, info in enumerate(infos):
            with Image.open(io.BytesIO(opened.read(info))) as image:
                image.convert("L").resize((WIDTH, HEIGHT)).save(output / f"{number}.png")
        return len(infos) / (time.perf_counter() - start)


if __name__ == "__main__":
    typer.run(main)
