"""Exported models: what an .onnx file of ours says about itself, and how it is read again with ONNX Runtime.

The graph takes grey pixels, `pixels` [batch, height, width] uint8, standardises them and gives `log_probs` [batch,
places, classes] float32. What comes before and after is in its metadata: `captchabench.config`, the model's
config.json; `captchabench.files`, further files of the model in base64; and in words, for other readers,
`preprocessing`, `decoding` and `alphabet`. `captchabench.checksum` holds the sum of the file.
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
from captchabench.models import MOST_BYTES, blank_recogniser
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
# Characters of either: the largest segmenter takes a third of it.
_MOST_METADATA = 4 << 20


def read_onnx(path: Path) -> tuple[About, Recogniser]:
    """The recogniser in an exported file; its network is run by ONNX Runtime on the CPU. Raises InputError."""
    model, held = _parsed(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    try:
        if any(len(metadata[key]) > _MOST_METADATA for key in (CONFIG_KEY, FILES_KEY)):
            raise ValueError("its metadata are too long")
        saved = json.loads(metadata[CONFIG_KEY])
        files = {name: base64.b64decode(file, validate=True) for name, file in json.loads(metadata[FILES_KEY]).items()}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = first_line(error)
        raise InputError(
            f"{path}: is not a model that `captchabench export` wrote ({reason}); export it anew"
        ) from None
    config = check_config(saved, f"{path}: {CONFIG_KEY}")
    recogniser = blank_recogniser(config, f"{path}: {CONFIG_KEY}", held)
    # Imported here: other models do without torch.
    from captchabench.models.neural import NeuralRecogniser

    if not isinstance(recogniser, NeuralRecogniser):
        raise InputError(f"{path}: says it holds {config.about.model}, which has no network")
    _load_rest(recogniser, files, path)
    blank = np.zeros((1, config.about.height, config.about.width), np.uint8)
    takes = recogniser.network_input(blank)
    recogniser.run_by(_runner(model, path, takes, _read_blank(recogniser, takes)))
    return config.about, recogniser


def _parsed(path: Path) -> tuple["ModelProto", int]:
    """What is in the file, and how many bytes it has."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        encoded = read_regular(path, MOST_BYTES)
        if len(encoded) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
        if (problem := flaw(encoded)) is not None:
            raise ValueError(problem)
        model = onnx.load_model_from_string(encoded)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file that `export` wrote") from None
    except (DecodeError, ValueError) as error:
        raise InputError(
            f"{path}: is damaged, or no model that `captchabench export` wrote ({first_line(error)}); export it anew"
        ) from None
    return model, len(encoded)


def _load_rest(recogniser: "NeuralRecogniser", files: dict[str, bytes], path: Path) -> None:
    """Give the recogniser its further files, called as it calls them itself."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        recogniser.save_rest(folder)
        wanted = sorted(file.name for file in folder.iterdir())
        if sorted(files) != wanted:
            held, needed = (", ".join(names) or "nothing" for names in (sorted(files), wanted))
            raise InputError(f"{path}: has {held[:100]} beside the network, not {needed}; export it anew")
        for file in wanted:
            (folder / file).write_bytes(files[file])
        recogniser.load_rest(folder)


def _read_blank(recogniser: "NeuralRecogniser", takes: NDArray[np.uint8]) -> "Tensor":
    """What the network, still without its weights, makes of one image: [1, P, K]."""
    import torch

    from captchabench.networks.network import standardize

    with torch.inference_mode():
        log_probs: Tensor = recogniser.network.eval()(standardize(torch.from_numpy(takes)))
    return log_probs


def _runner(
    model: "ModelProto", path: Path, takes: NDArray[np.uint8], gives: "Tensor"
) -> Callable[[NDArray[np.uint8]], "Tensor"]:
    """What runs the graph, on one thread: images such as `takes` to log-probabilities such as `gives`.

    takes: [1, H, W] uint8. gives: [1, P, K]. Raises InputError where the graph is none of ours, or cannot be run.
    """
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    # What is run is what is looked at.
    model.DiscardUnknownFields()
    try:
        most = check_graph(model, takes.shape[1:], gives.shape[1:])
    # The inference of shapes has exceptions of its own.
    except Exception as error:
        raise InputError(
            f"{path}: is no graph of `captchabench export` ({first_line(error)}); export it anew"
        ) from None
    try:
        model.graph.ClearField("value_info")
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        session.run([OUTPUT], {INPUT: takes})
    # The runtime has a dozen exceptions of its own, all of them plain Exceptions.
    except Exception as error:
        raise InputError(f"{path}: cannot be run ({first_line(error)}); export it anew") from None

    def run(images: NDArray[np.uint8]) -> "Tensor":
        found: Any = session.run([OUTPUT], {INPUT: images})[0]
        return torch.from_numpy(found)

    def forward(images: NDArray[np.uint8]) -> "Tensor":
        log_probs = torch.cat([run(images[start : start + most]) for start in range(0, len(images), most)])
        if log_probs.shape != (len(images), *gives.shape[1:]):
            raise InputError(f"{path}: gives log-probabilities of the shape {tuple(log_probs.shape)}; export it anew")
        check_log_probs(log_probs, path)
        return log_probs

    return forward
