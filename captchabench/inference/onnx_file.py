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

from captchabench.errors import InputError, first_line
from captchabench.models import blank_recogniser
from captchabench.models.base import Recogniser
from captchabench.models.saved import About, check_config
from captchabench.storage.checksum import flaw

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".onnx"
INPUT, OUTPUT = "pixels", "log_probs"
CONFIG_KEY, FILES_KEY, CHECKSUM_KEY = "captchabench.config", "captchabench.files", "captchabench.checksum"


def read_onnx(path: Path) -> tuple[About, Recogniser]:
    """The recogniser in an exported file; its network is run by ONNX Runtime on the CPU. Raises InputError."""
    encoded, metadata = _checked(path)
    try:
        saved = json.loads(metadata[CONFIG_KEY])
        files = {name: base64.b64decode(held, validate=True) for name, held in json.loads(metadata[FILES_KEY]).items()}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: is not a model that `captchabench export` wrote ({error!r})") from None
    config = check_config(saved, f"{path}: {CONFIG_KEY}")
    recogniser = blank_recogniser(config, f"{path}: {CONFIG_KEY}", len(encoded))
    # Imported here: other models do without torch.
    from captchabench.models.neural import NeuralRecogniser

    if not isinstance(recogniser, NeuralRecogniser):
        raise InputError(f"{path}: says it holds {config.about.model}, which has no network")
    with TemporaryDirectory() as folder:
        for name, content in files.items():
            if Path(name).name != name:
                raise InputError(f"{path}: holds a file called {name!r}; export it anew")
            (Path(folder) / name).write_bytes(content)
        recogniser.load_rest(Path(folder))
    blank = np.zeros((1, config.about.height, config.about.width), np.uint8)
    shape = recogniser.network_input(blank).shape[1:]
    recogniser.run_by(_runner(encoded, path, shape))
    return config.about, recogniser


def _checked(path: Path) -> tuple[bytes, dict[str, str]]:
    """The bytes of the file and its metadata, after a look at what it would have the runtime read."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        encoded = path.read_bytes()
        if (problem := flaw(encoded)) is not None:
            raise ValueError(problem)
        model = onnx.load_model_from_string(encoded)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file that `export` wrote") from None
    except (DecodeError, ValueError) as error:
        raise InputError(
            f"{path}: is damaged, or no model that `captchabench export` wrote ({error}); export it anew"
        ) from None
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise InputError(f"{path}: keeps weights in other files, which `captchabench export` never does")
    return encoded, {entry.key: entry.value for entry in model.metadata_props}


def _runner(encoded: bytes, path: Path, shape: tuple[int, ...]) -> Callable[[np.ndarray], "Tensor"]:
    """What runs the graph on uint8 arrays [B, *shape], on one thread. Raises InputError where it does not."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(encoded, options, providers=["CPUExecutionProvider"])
        takes = {i.name: (i.type, i.shape[1:]) for i in session.get_inputs()}
        if takes != {INPUT: ("tensor(uint8)", list(shape))}:
            raise ValueError(f"takes {takes}")
        session.run([OUTPUT], {INPUT: np.zeros((1, *shape), np.uint8)})
    # The runtime has a dozen exceptions of its own, all of them plain Exceptions.
    except Exception as error:
        raise InputError(f"{path}: cannot be run ({first_line(error)}); export it anew") from None

    def forward(images: np.ndarray) -> "Tensor":
        result: Any = session.run([OUTPUT], {INPUT: images})[0]
        return torch.from_numpy(result)

    return forward
