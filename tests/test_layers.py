"""Layers of more than one network."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from carlib.models import layers

LAST = {"memory_format": torch.channels_last}


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [
        (layers.shuffled, functional.pixel_shuffle, (2, 12, 3, 5)),
        (layers.unshuffled, functional.pixel_unshuffle, (2, 3, 6, 10)),
    ],
)
def test_shuffles_with_channels_last_are_pixel_shuffles(ours, theirs, shape):
    """Forward and backward, and channels stay last in memory both ways."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(**LAST).requires_grad_()
    found, expected = ours(x, 2), theirs(x, 2)
    assert torch.equal(found, expected) and found.is_contiguous(**LAST)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(**LAST)
    gradients = [torch.autograd.grad(y, x, upstream)[0] for y in (found, expected)]
    assert torch.equal(*gradients) and gradients[0].is_contiguous(**LAST)


def test_modules_take_pytorchs_shuffles_on_a_cpu(monkeypatch):
    """They are faster there, and keep the order in memory."""
    monkeypatch.setattr(layers, "shuffled", None)
    monkeypatch.setattr(layers, "unshuffled", None)
    x = torch.randn(2, 12, 4, 6).to(**LAST)
    enlarged = layers.PixelShuffle(2)(x)
    back = layers.PixelUnshuffle(2)(enlarged)
    assert torch.equal(back, x) and enlarged.is_contiguous(**LAST) and back.is_contiguous(**LAST)


@pytest.mark.parametrize(("device", "memory", "told"), [
    ("cuda", torch.channels_last, True), ("cuda", torch.contiguous_format, False), ("cpu", torch.channels_last, False),
])  # fmt: skip
def test_ours_are_for_gpus_and_channels_last(device, memory, told):
    def is_contiguous(memory_format=torch.contiguous_format):
        return memory_format == memory

    x = SimpleNamespace(device=torch.device(device), is_contiguous=is_contiguous)
    assert layers._is_last_on_gpu(x) == told


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_channels_stay_last():
    x = torch.randn(2, 12, 4, 6)
    enlarged = layers.PixelShuffle(2)(x.cuda().to(**LAST))
    assert torch.equal(enlarged.cpu(), functional.pixel_shuffle(x, 2)) and enlarged.is_contiguous(**LAST)
    back = layers.PixelUnshuffle(2)(enlarged)
    assert torch.equal(back.cpu(), x) and back.is_contiguous(**LAST)
