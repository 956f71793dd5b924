"""Random distortions of a batch, on the device it lives on."""

import math

import torch
from torch import Tensor


def augment(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Distort each image a little: affine jitter, contrast, noise.

    images: [B, 1, H, W] float32, standardized. strength: 0 leaves them as they are; at 1, turns of up to 6 degrees,
    shear up to 0.2, scale within 12 %, shifts up to 5 % of the width and 10 % of the height, contrast within 30 %,
    noise of up to 0.2 standard deviations. Random numbers come from `generator` alone.
    """
    batch, _, height, width = images.shape
    device = images.device
    jitter = strength * (2 * torch.rand(8, batch, device=device, generator=generator) - 1)
    turn, shear = jitter[0] * math.radians(6), jitter[1] * 0.2
    grow_x, grow_y = 1 + jitter[2] * 0.12, 1 + jitter[3] * 0.12
    # Coordinates run from -1 to 1 on both axes, so the pixel aspect enters the turn.
    aspect = height / width
    rows = [
        torch.stack([turn.cos() * grow_x, (shear - turn.sin()) * aspect, jitter[4] * 0.1], dim=1),
        torch.stack([turn.sin() / aspect, turn.cos() * grow_y, jitter[5] * 0.2], dim=1),
    ]
    grid = torch.nn.functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast = (1 + jitter[6] * 0.3).view(-1, 1, 1, 1)
    spread = (jitter[7].abs() * 0.2).view(-1, 1, 1, 1)
    noise = torch.randn(moved.shape, device=device, generator=generator)
    return moved * contrast + noise * spread
