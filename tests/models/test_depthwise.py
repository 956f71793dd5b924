"""Trimmed depthwise convolutions give the results and gradients of the whole ones."""

import copy

import pytest
import torch
from torch import nn

from captchabench.models.effnet_b1 import TrimmedConv2d, trim_depthwise


@pytest.mark.parametrize("size", [(1, 13), (2, 13), (2, 2), (1, 1), (4, 3), (9, 9)])
@pytest.mark.parametrize(("kernel", "stride"), [(5, (1, 1)), (5, (2, 1)), (3, (2, 2))])
def test_trimming_changes_no_result(size: tuple[int, int], kernel: int, stride: tuple[int, int]) -> None:
    whole = nn.Sequential(nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=False))
    trimmed = copy.deepcopy(whole)
    trim_depthwise(trimmed)
    assert isinstance(trimmed[0], TrimmedConv2d)
    images = torch.randn(2, 6, *size)
    results = [network(images) for network in (whole, trimmed)]
    torch.testing.assert_close(results[0], results[1])
    for result in results:
        result.square().sum().backward()
    assert whole[0].weight.grad is not None
    assert trimmed[0].weight.grad is not None
    torch.testing.assert_close(whole[0].weight.grad, trimmed[0].weight.grad, atol=1e-4, rtol=1e-4)


def test_other_convolutions_are_not_replaced() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, groups=2))
    trim_depthwise(network)
    assert not any(isinstance(layer, TrimmedConv2d) for layer in network)
