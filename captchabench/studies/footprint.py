"""The cost of reading: floating-point operations per image, bytes on disk, and the time of a single image."""

import copy
import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captchabench.models.base import Recogniser

_WARM_UP = 5


def flops_per_image(recogniser: Recogniser, image: NDArray[np.uint8]) -> int | None:
    """Floating-point operations of the recogniser's network for one `image` [H, W].

    PyTorch's counter counts matrix products and convolutions, a multiplication and an addition as two operations. What
    comes before and after the network (segmentation, decoding) is not counted. None for a recogniser without a network:
    hog_svc spends its time on histograms and dynamic programming, which this count does not cover.
    """
    network = getattr(recogniser, "network", None)
    if network is None:
        return None
    # Imported here, since a recogniser without a network does not need torch.
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    shapes: list[torch.Size] = []
    hook = network.register_forward_pre_hook(lambda _module, inputs: shapes.append(inputs[0].shape))
    recogniser.predict(image[None])
    hook.remove()
    # On the meta device nothing is computed, and the counter sees the matrix products of an LSTM. Gradients are enabled
    # since without them PyTorch fuses a Transformer layer into one call that the counter does not know.
    meta_network = copy.deepcopy(network).to("meta").eval()
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        meta_network(torch.empty(shapes[0], device="meta"))
    return int(counter.get_total_flops())


def bytes_on_disk(folder: Path) -> int:
    """The total size of all files in `folder` and its subfolders."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def latency_seconds(recogniser: Recogniser, pixels: NDArray[np.uint8]) -> float:
    """The median time in seconds to read a single image, over N `pixels` [N, H, W], N at least 1, after a warm-up."""
    for image in pixels[:_WARM_UP]:
        recogniser.predict(image[None])
    seconds = []
    for image in pixels:
        started = time.perf_counter()
        recogniser.predict(image[None])
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
