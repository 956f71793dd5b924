"""Distortions: none at strength 0, reproducible, mild, different for each image."""

import pytest
import torch

from captchabench.training.augmentation import augment


def striped(count: int) -> torch.Tensor:
    """`count` equal images of dark bars on a light background."""
    image = torch.ones(1, 1, 32, 100)
    for x in range(10, 90, 20):
        image[..., 8:24, x : x + 8] = -1.5
    return image.expand(count, -1, -1, -1)


def test_strength_zero_changes_nothing() -> None:
    images = torch.randn(3, 1, 8, 20)
    torch.testing.assert_close(augment(images, 0.0), images, atol=1e-5, rtol=0)


def test_equal_seeds_give_equal_distortions() -> None:
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(augment(striped(4), 1.0))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert not torch.equal(results[0][0], results[0][1])


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_images_stay_recognisable_and_strength_matters(strength: float) -> None:
    torch.manual_seed(0)
    images = striped(64)
    changed = (augment(images, strength) - images).abs().mean(dim=(1, 2, 3))
    torch.manual_seed(0)
    more = (augment(images, 2 * strength) - images).abs().mean(dim=(1, 2, 3))
    assert changed.mean() < more.mean()
    # Half the pixels of a mirrored image would differ by 2.5.
    assert 0.02 < changed.mean() < 0.8
    assert augment(images, strength).isfinite().all()


def test_patches_are_erased_in_some_images() -> None:
    torch.manual_seed(0)
    # Only contrast, noise and patches change a constant image. A patch is exactly 0.
    erased = (augment(torch.full((200, 1, 32, 100), 9.0), 1.0) == 0).flatten(1).float().mean(dim=1)
    assert 0.1 < (erased > 0).float().mean() < 0.5
    assert erased.max() <= 0.08 * 0.5 + 0.01


def test_pieces_are_distorted_separately() -> None:
    torch.manual_seed(0)
    row = striped(1).repeat(8, 1, 1, 3)
    row[..., 100:200] = 0.0
    changed = augment(row, 1.0, pieces=(1, 3))
    assert changed.shape == row.shape
    # The empty piece has only noise of at most 0.2 standard deviations, and nothing of its neighbours.
    assert changed[..., 100:200].abs().max() < 1.2
    assert augment(row, 1.0)[..., 100:200].abs().max() > 1.2
    # Each piece is distorted differently.
    assert not torch.allclose(changed[..., :100], changed[..., 200:], atol=0.5)


def test_tiles_of_a_grid_are_distorted_separately() -> None:
    torch.manual_seed(0)
    grids = torch.zeros(4, 1, 96, 96)
    grids[..., 32:64, 32:64] = 3.0
    changed = augment(grids, 1.0, pieces=(3, 3))
    assert changed.shape == grids.shape
    # The edges of the bright tile stay where they are; the others have noise alone.
    assert changed[..., 32:64, 32:64].median() > 2
    changed[..., 32:64, 32:64] = 0
    assert changed.abs().max() < 1.2


def test_half_of_the_images_are_mirrored() -> None:
    images = torch.randn(64, 1, 8, 20)
    torch.manual_seed(0)
    changed = augment(images, 0.0, mirror=True)
    mirrored = [torch.allclose(c, i.flip(-1), atol=1e-5) for c, i in zip(changed, images, strict=True)]
    assert 16 < sum(mirrored) < 48
    torch.testing.assert_close(changed[~torch.tensor(mirrored)], images[~torch.tensor(mirrored)], atol=1e-5, rtol=0)


def test_tiles_are_mirrored_in_their_places() -> None:
    torch.manual_seed(0)
    grids = torch.randn(1, 1, 24, 24)
    changed = augment(grids, 0.0, (3, 3), mirror=True)
    kept = 0
    for row in range(0, 24, 8):
        for column in range(0, 24, 8):
            tile, now = (x[..., row : row + 8, column : column + 8] for x in (grids, changed))
            is_kept = torch.allclose(now, tile, atol=1e-5)
            assert is_kept or torch.allclose(now, tile.flip(-1), atol=1e-5)
            kept += is_kept
    assert 0 < kept < 9
