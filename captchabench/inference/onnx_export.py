"""Export of trained networks to self-contained ONNX files. `onnx_file` describes the format."""

import base64
import json
import logging
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captchabench.errors import InputError
from captchabench.inference.onnx_file import CHECKSUM_KEY, CONFIG_KEY, FILES_KEY
from captchabench.inference.onnx_graph import INPUT, OUTPUT
from captchabench.models import load_recogniser, read_saved
from captchabench.models.neural import NeuralRecogniser
from captchabench.models.saved import About
from captchabench.networks.heads import CTCNetwork, Decoding
from captchabench.networks.network import standardize
from captchabench.storage.checksum import UNSEALED, seal

# The smallest batch size that the exporter does not specialise to a constant.
_EXAMPLE_BATCH = 2


class PixelNetwork(nn.Module):
    """A network with standardisation in front: [B, H, W] uint8 to log-probabilities [B, P, K] float32, on the CPU."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]  # missing in torch's stubs

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        log_probs: Tensor = self.network(standardize(pixels))
        return log_probs


def pixel_network(folder: Path) -> tuple[NeuralRecogniser, PixelNetwork]:
    """The deep model in `folder`, and its network as it is exported. Raises InputError if it has no network."""
    recogniser = load_recogniser(folder)
    if not isinstance(recogniser, NeuralRecogniser):
        raise InputError(f"{folder}: {recogniser.name} has no network to export; give a deep model, such as a crnn")
    return recogniser, PixelNetwork(recogniser.network)


def export_onnx(folder: Path, out: Path) -> None:
    """Export the deep model in `folder` to the ONNX file `out`. Raises InputError if it has no network."""
    config = read_saved(folder)
    recogniser, network = pixel_network(folder)
    example = np.zeros((_EXAMPLE_BATCH, config.about.height, config.about.width), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            network,
            (torch.from_numpy(recogniser.network_input(example)),),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    graph = program.model.graph
    for part in (*graph, *graph.initializers.values(), *graph.inputs, *graph.outputs):
        # Removed: the source file and line of each operation, with paths of this machine.
        part.metadata_props.clear()
        part.doc_string = None
    program.model.metadata_props.update(
        {
            CONFIG_KEY: json.dumps(asdict(replace(config, files={}, checksum="")), sort_keys=True),
            FILES_KEY: json.dumps(_other_files(recogniser)),
            "preprocessing": _preprocessing(config.about, recogniser),
            "decoding": _decoding(recogniser),
            "alphabet": config.about.alphabet,
            CHECKSUM_KEY: UNSEALED,
        }
    )
    program.save(out, external_data=False)
    seal(out)


def _other_files(recogniser: NeuralRecogniser) -> dict[str, str]:
    with TemporaryDirectory() as folder:
        recogniser.save_rest(Path(folder))
        return {path.name: base64.b64encode(path.read_bytes()).decode() for path in sorted(Path(folder).iterdir())}


def _preprocessing(about: About, recogniser: NeuralRecogniser) -> str:
    steps = ["grey by ITU-R BT.601, transparent areas on white"]
    if about.clahe:
        steps.append("CLAHE, clip limit 2, 8 x 8 tiles (OpenCV)")
    padding = ", keeping the aspect ratio, centred on the median grey of its border" if about.resize == "pad" else ""
    steps.append(f"resized to {about.width} x {about.height} pixels{padding}, by area where smaller, else bilinear")
    if recogniser.steps_kind == "characters":
        steps.append(f"characters segmented by {', '.join(_other_files(recogniser))} (captchabench), side by side")
    return "; ".join([*steps, "passed as uint8: the graph standardises them"])


def _decoding(recogniser: NeuralRecogniser) -> str:
    if not isinstance(recogniser.network, CTCNetwork):
        return (
            "the most probable class at each position; class i is symbol i of the alphabet, "
            "the class after the last symbol means none"
        )
    decoding: Decoding = recogniser.network.decoding
    settings: dict[str, Any] = asdict(decoding)
    return (
        "CTC: class 0 is the blank, class i + 1 is symbol i of the alphabet; merge repeats, then remove blanks; "
        "decoding settings: " + ", ".join(f"{key} {value}" for key, value in settings.items())
    )
