"""Compares an exported model with the original: the texts they read, and the latency of one image."""

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
    """images: how many were read. differing: those with different texts. Seconds: median latency of one image, CPU."""

    images: int
    differing: int
    torch_seconds: float
    onnx_seconds: float


def held_out_pixels(shards: Path, about: About) -> NDArray[np.uint8]:
    """The held-out images of the model's dataset in `shards`: [N, H, W] uint8, N = 0 if the shards are missing.

    For a model of the union: those of every dataset whose symbols are all in its alphabet.
    """
    symbols = set(about.alphabet)
    pixels = [np.empty((0, about.height, about.width), np.uint8)]
    for folder in sorted(shards.iterdir()) if shards.is_dir() else []:
        if about.dataset not in (folder.name, UNION):
            continue
        info = read_info(folder)
        if (info.source, info.height, info.width) == (about.source, about.height, about.width) and symbols.issuperset(
            info.alphabet
        ):
            pixels.append(held_out(read_samples(folder), about.fold).pixels)
    return np.concatenate(pixels)


def compare_exported(folder: Path, exported: Path, pixels: NDArray[np.uint8]) -> Agreement:
    """Read the images [N, H, W] uint8, N at least 1, with the deep model in `folder` and with the file `exported`.

    Texts are compared on the CPU, since rounding on a GPU differs.
    """
    original, network = pixel_network(folder)
    _, onnx_model = read_onnx(exported)
    timed = pixels[:_TIMED_IMAGES]
    torch_seconds = latency_seconds(original, timed) if choose_device().type == "cpu" else None
    original.run_by(lambda images: network(torch.from_numpy(images)))
    pairs = zip(original.predict(pixels).texts, onnx_model.predict(pixels).texts, strict=True)
    return Agreement(
        images=len(pixels),
        differing=sum(a != b for a, b in pairs),
        torch_seconds=torch_seconds if torch_seconds is not None else latency_seconds(original, timed),
        onnx_seconds=latency_seconds(onnx_model, timed),
    )
