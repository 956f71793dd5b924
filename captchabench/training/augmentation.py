"""Random distortions of a batch of images, on the device that holds it."""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

# Rows and columns of the coarse field of random displacements that bends an image.
_BENDS = (3, 7)


def augment(images: Tensor, strength: float, pieces: tuple[int, int] = (1, 1), *, mirror: bool = False) -> Tensor:
    """Distort each image a little: affine and elastic jitter, contrast, noise, erasing. Returns [B, 1, H, W] float32.

    images: [B, 1, H, W] float32, standardized. Random numbers come from torch's generator of their device. pieces: the
    rows and columns of equal parts that an image is made of; each is distorted separately. mirror: mirror half of the
    images, or of the parts, left to right. strength: 0 changes nothing else; at 1:

    - rotation of up to 6 degrees, shear up to 0.2, scaling within 12 %, shifts up to 5 % of the width and 10 % of the
      height;
    - bends of up to 2 % of the width and 8 % of the height, by a smooth random field (Simard, Steinkraus and Platt,
      ICDAR 2003);
    - contrast within 30 %, noise of up to 0.2 standard deviations;
    - a patch of up to 8 % of the width and half the height set to 0 (Zhong et al., AAAI 2020).
    """
    if pieces != (1, 1):
        batch, _, height, width = images.shape
        down, across = pieces
        parts = images.reshape(batch, down, height // down, across, width // across).transpose(2, 3)
        changed = augment(parts.reshape(-1, 1, height // down, width // across), strength, mirror=mirror)
        return changed.view(parts.shape).transpose(2, 3).reshape(images.shape)
    batch, _, height, width = images.shape
    device = images.device
    jitter = strength * (2 * torch.rand(12, batch, device=device) - 1)
    turn, shear = jitter[0] * math.radians(6), jitter[1] * 0.2
    grow_x, grow_y = 1 + jitter[2] * 0.12, 1 + jitter[3] * 0.12
    # Coordinates run from -1 to 1 on both axes, so a rotation depends on the aspect ratio.
    aspect = height / width
    if mirror:
        grow_x = torch.where(torch.rand(batch, device=device) < 0.5, grow_x, -grow_x)
    rows = [
        torch.stack([turn.cos() * grow_x, (shear - turn.sin()) * aspect, jitter[4] * 0.1], dim=1),
        torch.stack([turn.sin() / aspect, turn.cos() * grow_y, jitter[5] * 0.2], dim=1),
    ]
    grid = affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    field = 2 * torch.rand(batch, 2, *_BENDS, device=device) - 1
    bend = interpolate(field, (height, width), mode="bilinear", align_corners=True)
    reach_x, reach_y = jitter[8].abs() * 0.04, jitter[9].abs() * 0.16
    grid = grid + torch.stack([bend[:, 0] * reach_x.view(-1, 1, 1), bend[:, 1] * reach_y.view(-1, 1, 1)], dim=3)
    moved = grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast = (1 + jitter[6] * 0.3).view(-1, 1, 1, 1)
    spread = (jitter[7].abs() * 0.2).view(-1, 1, 1, 1)
    noisy = moved * contrast + torch.randn(moved.shape, device=device) * spread
    return noisy.masked_fill(_patch(jitter[10], jitter[11], height, width), 0.0)


def _patch(across: Tensor, down: Tensor, height: int, width: int) -> Tensor:
    """A random rectangle in each image: [B, 1, H, W] bool. across, down: [B], its size; none if either is negative."""
    centre = torch.rand(2, len(across), 1, device=across.device)
    x = (torch.arange(width, device=across.device) + 0.5) / width
    y = (torch.arange(height, device=across.device) + 0.5) / height
    inside_x = (x - centre[0]).abs() < across.clamp(min=0)[:, None] * 0.04
    inside_y = (y - centre[1]).abs() < down.clamp(min=0)[:, None] * 0.25
    return (inside_x[:, None, :] & inside_y[:, :, None])[:, None]
