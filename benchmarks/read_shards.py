"""How fast shards are read into one tensor, compared with decoding PNG files of the same images one by one.

Draws images, writes them as shards and as PNG files, and reads both back: the shards with `read_samples` (labels and
folds included), the files with Pillow and with OpenCV, in one thread, into the rows of one tensor. All files have just
been written, so they are in the page cache and the disk is not measured. The results are medians over rounds, in
gigabytes (1e9) of grey pixels per second. The three tensors must be equal. The shards repeat the drawn images until
there are --images, too far apart for the compression to use it; there is one file per drawn image.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import pyarrow as pa
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.table import Table
from torch import Tensor

from benchmarks.images import draw_images
from benchmarks.machine import machine, seconds
from benchmarks.results import default_path, finish, run, say
from captchabench.samples.shards import Samples, read_samples, schema, write_shards

_SEED = 0
_ROWS_AT_ONCE = 4096
_PART_BYTES = 64 << 20  # of pixels in one file, as the normalize stage writes them
_CPU = torch.device("cpu")


def main(
    images: Annotated[int, typer.Option(min=1, help="Images in the shards.")] = 100_000,
    drawn: Annotated[int, typer.Option(min=1, help="Different images; the number of files.")] = 4000,
    height: Annotated[int, typer.Option(min=8, help="In pixels.")] = 40,
    width: Annotated[int, typer.Option(min=8, help="In pixels.")] = 150,
    dataset: Annotated[str, typer.Option(help="The dataset that the images imitate.")] = "parsasam",
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds after two to warm up.")] = 5,
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, only to check that it runs.")] = False,
) -> None:
    """Measure gigabytes of pixels per second, shards against PNG files.

    For example: python -m benchmarks.read_shards --images 100000 --height 48 --width 144
    """
    if quick:
        images, drawn, rounds = 200, 40, 1
    say(f"drawing {drawn:,} images")
    pictures = draw_images(dataset, drawn, _SEED)
    samples = pictures.samples(height, width)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / dataset
        rows_per_file = max(1, _PART_BYTES // (height * width))
        write_shards(folder, samples.info, _batches(samples, images), rows_per_file)
        paths = _write_files(Path(temporary) / "files", samples)
        stored = {
            "shards": sum(path.stat().st_size for path in folder.iterdir()) / images,
            "files": sum(path.stat().st_size for path in paths) / drawn,
        }
        ways: dict[str, tuple[Callable[[], Tensor], int]] = {
            "shards, read_samples": (lambda: torch.from_numpy(read_samples(folder).pixels), images),
            "PNG files, Pillow": (lambda: _decoded(paths, _with_pillow, height, width), drawn),
            "PNG files, OpenCV": (lambda: _decoded(paths, _with_opencv, height, width), drawn),
        }
        cv2.setNumThreads(1)
        figures = {}
        for way, (read, count) in ways.items():
            say(way)
            _check(read(), samples, count)
            taken = seconds(read, _CPU, rounds)
            figures[way] = {
                "images": count,
                "images_per_second": count / taken,
                "gigabytes_per_second": count * height * width / taken / 1e9,
            }
    result: dict[str, Any] = {
        "benchmark": "read_shards",
        "machine": machine(_CPU),
        "images": {"look": pictures.look, "height": height, "width": width, "drawn": drawn},
        "bytes_per_image": stored,
        "rounds": rounds,
        "quick": quick,
        "ways": figures,
    }
    notes = [
        f"{result['machine']['processor']}, {result['machine']['cores']} cores; {width}x{height}, {pictures.look}",
        f"bytes per image: {height * width:,} of pixels, {stored['shards']:,.0f} in shards, "
        f"{stored['files']:,.0f} in files",
    ]
    title = "reading into one tensor"
    table = Table(title=f"{title}; quick run, not a measurement" if quick else title)
    for column in ("way", "images", "images/s", "GB/s of pixels", "speed-up of shards"):
        table.add_column(column, justify="left" if column == "way" else "right")
    ours = next(iter(figures.values()))["images_per_second"]
    for way, figure in figures.items():
        rate = figure["images_per_second"]
        table.add_row(
            way,
            f"{figure['images']:,}",
            f"{rate:,.0f}",
            f"{figure['gigabytes_per_second']:.3f}",
            "" if rate == ours else f"{ours / rate:.0f}x",
        )
    finish(out or default_path("read_shards"), result, notes, table)


def _batches(samples: Samples, images: int) -> Iterator[pa.RecordBatch]:
    """The samples, repeated until there are `images`, with new ids."""
    size = samples.info.height * samples.info.width
    for start in range(0, images, _ROWS_AT_ONCE):
        numbers = np.arange(start, min(start + _ROWS_AT_ONCE, images))
        chosen = numbers % len(samples)
        pixels = pa.py_buffer(np.ascontiguousarray(samples.pixels[chosen]))
        yield pa.record_batch(
            [
                pa.array([f"{number:032x}" for number in numbers]),
                pa.array(samples.labels[chosen]),
                pa.array(samples.folds[chosen]),
                pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(chosen), [None, pixels]),
                pa.array([f"{number}.png" for number in numbers]),
            ],
            schema=schema(samples.info),
        )


def _write_files(folder: Path, samples: Samples) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{index}.png" for index in range(len(samples))]
    for path, pixels in zip(paths, samples.pixels, strict=True):
        cv2.imwrite(str(path), pixels)
    return paths


def _decoded(paths: list[Path], decode: Callable[[Path], NDArray[np.uint8]], height: int, width: int) -> Tensor:
    tensor = torch.empty(len(paths), height, width, dtype=torch.uint8)
    for row, path in zip(tensor.numpy(), paths, strict=True):
        row[:] = decode(path)
    return tensor


def _with_pillow(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def _with_opencv(path: Path) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] | None = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None, path
    return pixels


def _check(tensor: Tensor, samples: Samples, count: int) -> None:
    """Raise AssertionError unless `tensor` equals the pixels of `samples`, repeated to `count` images."""
    expected = torch.from_numpy(samples.pixels)[torch.arange(count) % len(samples)]
    if not torch.equal(tensor, expected):
        raise AssertionError(f"{count} images differ from what was written")


if __name__ == "__main__":
    run(main, __doc__ or "")
