"""Whether an exported model reads what the original reads, and how long each takes over one image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from captchabench.cells.split import held_out
from captchabench.datasets import UNION
from captchabench.inference.onnx_export import pixel_network
from captchabench.inference.onnx_file import read_onnx
from captchabench.models.saved import About
from captchabench.networks.device import choose_device
from captchabench.samples.shards import read_info, read_samples
from captchabench.studies.footprint import latency_seconds

_TIMED_IMAGES = 50


@dataclass(frozen=True)
class Agreement:
    """Of `images`, `differing` were read otherwise by ONNX Runtime. Median seconds of one image on the CPU."""

    images: int
    differing: int
    torch_seconds: float
    onnx_seconds: float


def held_out_pixels(shards: Path, about: About) -> NDArray[np.uint8]:
    """The images that the model held out, of the datasets in `shards`: [N, H, W] uint8, none where they are not there.

    Those of a union are all whose symbols it knows.
    """
    known = set(about.alphabet)
    found = [np.empty((0, about.height, about.width), np.uint8)]
    for folder in sorted(shards.iterdir()) if shards.is_dir() else []:
        if about.dataset not in (folder.name, UNION):
            continue
        info = read_info(folder)
        if (info.source, info.height, info.width) == (about.source, about.height, about.width) and known.issuperset(
            info.alphabet
        ):
            found.append(held_out(read_samples(folder), about.fold).pixels)
    return np.concatenate(found)


def compare_exported(folder: Path, exported: Path, pixels: NDArray[np.uint8]) -> Agreement:
    """Read the images [N, H, W] uint8, N at least 1, with the deep model in `folder` and with the file `exported`.

    Texts are compared on the CPU: where torch reads on a GPU, its roundings are its own.
    """
    original, network = pixel_network(folder)
    _, other = read_onnx(exported)
    timed = pixels[:_TIMED_IMAGES]
    torch_seconds = latency_seconds(original, timed) if choose_device().type == "cpu" else None
    original.run_by(lambda images: network(torch.from_numpy(images)))
    pairs = zip(original.predict(pixels).texts, other.predict(pixels).texts, strict=True)
    return Agreement(
        images=len(pixels),
        differing=sum(a != b for a, b in pairs),
        torch_seconds=torch_seconds if torch_seconds is not None else latency_seconds(original, timed),
        onnx_seconds=latency_seconds(other, timed),
    )
