"""Exported models: the format of an .onnx file that `captchabench export` wrote, and loading it with ONNX Runtime.

The graph takes grey pixels, `pixels` [batch, height, width] uint8, standardises them and returns `log_probs` [batch,
positions, classes] float32. The metadata describe preprocessing and decoding. `captchabench.config` is the model's
config.json. `captchabench.files` holds the model's other files in base64. `preprocessing`, `decoding` and `alphabet`
describe the model in plain text for other programs. `captchabench.checksum` is the checksum of the file.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from captchabench.errors import InputError, first_line
from captchabench.inference.onnx_graph import INPUT, OUTPUT, check_graph
from captchabench.inference.soundness import check_log_probs
from captchabench.models import MAX_BYTES, blank_recogniser
from captchabench.models.base import Recogniser
from captchabench.models.saved import About, check_config
from captchabench.storage.checksum import flaw
from captchabench.storage.files import read_regular

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor

    from captchabench.models.neural import NeuralRecogniser

SUFFIX = ".onnx"
CONFIG_KEY, FILES_KEY, CHECKSUM_KEY = "captchabench.config", "captchabench.files", "captchabench.checksum"
# Longest value of either key, in characters: the largest segmenter takes a third of it.
_MAX_METADATA = 4 << 20


def read_onnx(path: Path) -> tuple[About, Recogniser]:
    """Load the recogniser from an exported file. ONNX Runtime runs its network on the CPU. Raises InputError."""
    model, size = _parsed(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    try:
        if any(len(metadata[key]) > _MAX_METADATA for key in (CONFIG_KEY, FILES_KEY)):
            raise ValueError("its metadata are too long")
        saved = json.loads(metadata[CONFIG_KEY])
        files = {name: base64.b64decode(file, validate=True) for name, file in json.loads(metadata[FILES_KEY]).items()}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = first_line(error)
        raise InputError(
            f"{path}: is not a model that `captchabench export` wrote ({reason}); export it again"
        ) from None
    config = check_config(saved, f"{path}: {CONFIG_KEY}")
    recogniser = blank_recogniser(config, f"{path}: {CONFIG_KEY}", size)
    # Imported here, since other models do not need torch.
    from captchabench.models.neural import NeuralRecogniser

    if not isinstance(recogniser, NeuralRecogniser):
        raise InputError(f"{path}: says it holds {config.about.model}, which has no network")
    _load_rest(recogniser, files, path)
    blank = np.zeros((1, config.about.height, config.about.width), np.uint8)
    example = recogniser.network_input(blank)
    recogniser.run_by(_runner(model, path, example, _example_output(recogniser, example)))
    return config.about, recogniser


def _parsed(path: Path) -> tuple["ModelProto", int]:
    """The parsed file, and its size in bytes."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        encoded = read_regular(path, MAX_BYTES)
        if len(encoded) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
        if (problem := flaw(encoded)) is not None:
            raise ValueError(problem)
        model = onnx.load_model_from_string(encoded)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file that `export` wrote") from None
    except (DecodeError, ValueError) as error:
        raise InputError(
            f"{path}: is damaged, or is not a model that `captchabench export` wrote ({first_line(error)}); "
            "export it again"
        ) from None
    return model, len(encoded)


def _load_rest(recogniser: "NeuralRecogniser", files: dict[str, bytes], path: Path) -> None:
    """Load the recogniser's other files. Their names must be those that the recogniser itself writes."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        recogniser.save_rest(folder)
        expected = sorted(file.name for file in folder.iterdir())
        if sorted(files) != expected:
            present, needed = (", ".join(names) or "nothing" for names in (sorted(files), expected))
            raise InputError(f"{path}: has {present[:100]} besides the network, not {needed}; export it again")
        for file in expected:
            (folder / file).write_bytes(files[file])
        recogniser.load_rest(folder)


def _example_output(recogniser: "NeuralRecogniser", example: NDArray[np.uint8]) -> "Tensor":
    """The output of the network, whose weights are not loaded, for one image: [1, P, K]. Only its shape matters."""
    import torch

    from captchabench.networks.network import standardize

    with torch.inference_mode():
        log_probs: Tensor = recogniser.network.eval()(standardize(torch.from_numpy(example)))
    return log_probs


def _runner(
    model: "ModelProto", path: Path, example: NDArray[np.uint8], expected: "Tensor"
) -> Callable[[NDArray[np.uint8]], "Tensor"]:
    """A function that runs the graph in one thread: images [N, H, W] uint8 to log-probabilities [N, P, K].

    example: one input [1, H, W] uint8. expected: an output [1, P, K] of the required shape. Raises InputError if
    `captchabench export` cannot have written the graph, or if the graph cannot be run.
    """
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    # Unknown fields would be run without having been checked.
    model.DiscardUnknownFields()
    try:
        max_batch = check_graph(model, example.shape[1:], expected.shape[1:])
    # Shape inference raises exception types of its own.
    except Exception as error:
        raise InputError(
            f"{path}: is not a graph that `captchabench export` wrote ({first_line(error)}); export it again"
        ) from None
    try:
        model.graph.ClearField("value_info")
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        session.run([OUTPUT], {INPUT: example})
    # ONNX Runtime raises a dozen exception types with no common base class but Exception.
    except Exception as error:
        raise InputError(f"{path}: cannot be run ({first_line(error)}); export it again") from None

    def run(images: NDArray[np.uint8]) -> "Tensor":
        log_probs: Any = session.run([OUTPUT], {INPUT: images})[0]
        return torch.from_numpy(log_probs)

    def forward(images: NDArray[np.uint8]) -> "Tensor":
        log_probs = torch.cat([run(images[start : start + max_batch]) for start in range(0, len(images), max_batch)])
        if log_probs.shape != (len(images), *expected.shape[1:]):
            raise InputError(f"{path}: gives log-probabilities of the shape {tuple(log_probs.shape)}; export it again")
        check_log_probs(log_probs, path)
        return log_probs

    return forward
