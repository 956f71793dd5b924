"""Weights of an image classifier, into a network that takes grey images."""

from pathlib import Path

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
            return load_file(path)
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
