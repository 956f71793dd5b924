"""Which copies of an image are found, and how many distinct images are taken for copies.

Each image is drawn, changed, and normalised. A copy is found if it is in the group of its image. All other images keep
their labels, so a group of two different drawings counts as false.
"""

from collections import Counter
from collections.abc import Callable
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from captchabench.config import NormalizeParams, TileParams
from captchabench.datasets import DATASETS
from captchabench.datasets.base import ROWS, Dataset
from captchabench.normalize.duplicates import duplicate_groups, hash_images
from captchabench.normalize.images import decode_grey, fit

Grey = NDArray[np.uint8]


def move(image: Grey, right: int, down: int) -> Grey:
    """`image` [H, W] moved by whole pixels; its edge is repeated where nothing is."""
    shift = np.array([[1, 0, right], [0, 1, down]], np.float32)
    moved: Grey = cv2.warpAffine(image, shift, image.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    return moved


def invert(image: Grey) -> Grey:
    """`image` [H, W] with light and dark exchanged."""
    return 255 - image


def _encode(image: Grey, quality: int) -> Grey:
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return decode_grey(encoded.tobytes())


def _scale(image: Grey, factor: float) -> Grey:
    scaled: Grey = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return scaled


def _noise(image: Grey) -> Grey:
    noise = np.random.default_rng(image.size).normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


COPIES: dict[str, Callable[[Grey], Grey]] = {
    "JPEG of quality 75": lambda image: _encode(image, 75),
    "JPEG of quality 30": lambda image: _encode(image, 30),
    "half the contrast": lambda image: image // 2 + 64,
    "noise, 8 grey levels": _noise,
    "scaled to 75 %": lambda image: _scale(image, 0.75),
    "moved by 1 pixel to the right": lambda image: move(image, 1, 0),
    "moved by 1 pixel up": lambda image: move(image, 0, -1),
    "moved by 1 pixel both ways": lambda image: move(image, -1, 1),
    "moved by 2 pixels to the left": lambda image: move(image, -2, 0),
    "moved by 2 pixels down": lambda image: move(image, 0, 2),
    "moved by 2 pixels both ways": lambda image: move(image, 2, 2),
    "moved by 2 and 1 pixels": lambda image: move(image, -2, 1),
    "moved by 3 pixels both ways": lambda image: move(image, 3, 3),
    "inverted": invert,
    "inverted, JPEG of quality 75": lambda image: _encode(invert(image), 75),
    "inverted, moved by 1 pixel both ways": lambda image: move(invert(image), 1, 1),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "turned by 2 degrees": lambda image: _turn(image, 2),
}


def _turn(image: Grey, degrees: float) -> Grey:
    centre = (image.shape[1] / 2, image.shape[0] / 2)
    turned: Grey = cv2.warpAffine(
        image, cv2.getRotationMatrix2D(centre, degrees, 1), image.shape[::-1], borderMode=cv2.BORDER_REPLICATE
    )
    return turned


def found(images: list[Grey], labels: list[str], change: Callable[[Grey], Grey], size: NormalizeParams) -> int:
    """The number of `images` whose changed copy is in their group, as normalised at `size`."""
    pixels = np.stack([fit(image, size) for image in [*images, *map(change, images)]])
    groups = duplicate_groups(hash_images(pixels), [*labels, *labels])
    return int((groups[: len(images)] == groups[len(images) :]).sum())


def false_groups(images: list[Grey], labels: list[str], size: NormalizeParams) -> int:
    """The number of groups of two or more of the `images`, which are all distinct."""
    groups = duplicate_groups(hash_images(np.stack([fit(image, size) for image in images])), labels)
    return sum(count > 1 for count in Counter(groups.tolist()).values())


def draw(dataset: Dataset, count: int, seed: int) -> tuple[list[Grey], list[str]]:
    """`count` stand-ins as grey images, and their labels."""
    drawings = [dataset.draw(np.random.default_rng([seed, index])) for index in range(count)]
    return [decode_grey(drawing.encoded) for drawing in drawings], [drawing.label for drawing in drawings]


def main(
    images: Annotated[int, typer.Option(min=1, help="Images per dataset, and so copies of each kind.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawings.")] = 0,
) -> None:
    """Print the share of copies that are found, by kind of copy and dataset."""
    cv2.setNumThreads(1)
    names = DATASETS.names()
    text = NormalizeParams()
    tiles = TileParams()
    tile = NormalizeParams(height=tiles.height // ROWS, width=tiles.width // ROWS)
    drawn = {
        name: (*draw(DATASETS[name], images, seed), tile if DATASETS[name].task == "grid" else text) for name in names
    }
    table = Table("copy", *names, title=f"found of {images:,} copies, in percent")
    for kind, change in COPIES.items():
        table.add_row(
            kind, *(f"{100 * found(*drawn[name][:2], change, drawn[name][2]) / images:.0f}" for name in names)
        )
    table.add_row("groups of distinct images, number", *(str(false_groups(*drawn[name])) for name in names))
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
