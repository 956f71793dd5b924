"""What reading costs: operations of one image, bytes on disk, and the time one image takes by itself."""

import copy
import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captchabench.models.base import Recogniser

_WARM_UP = 5


def flops_per_image(recogniser: Recogniser, image: NDArray[np.uint8]) -> int | None:
    """Floating-point operations of the recogniser's network on one `image` [H, W].

    Those of matrix products and convolutions, a multiplication and an addition counting two, by PyTorch's counter;
    what comes before and after the network (segmentation, decoding) is left out. None for a recogniser without a
    network: hog_svc spends its time on histograms and on dynamic programming, which no such count is fair to.
    """
    network = getattr(recogniser, "network", None)
    if network is None:
        return None
    # Imported where needed: a recogniser without a network does without torch.
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    shapes: list[torch.Size] = []
    hook = network.register_forward_pre_hook(lambda _module, inputs: shapes.append(inputs[0].shape))
    recogniser.predict(image[None])
    hook.remove()
    # On tensors without data an LSTM shows its matrix products, and nothing is computed. Gradients stay on: without
    # them PyTorch fuses a Transformer's layer into one call that the counter does not know.
    shadow = copy.deepcopy(network).to("meta").eval()
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(shapes[0], device="meta"))
    return int(counter.get_total_flops())


def bytes_on_disk(folder: Path) -> int:
    """The size of all files in `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def latency_seconds(recogniser: Recogniser, pixels: NDArray[np.uint8]) -> float:
    """The median time to read one image by itself, over the images [N, H, W], N at least 1, after a warm-up."""
    for image in pixels[:_WARM_UP]:
        recogniser.predict(image[None])
    spent = []
    for image in pixels:
        started = time.perf_counter()
        recogniser.predict(image[None])
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)
