"""Layers of more than one network."""

from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional

from carlib.models import layers
from carlib.models.precision import in_own_precision
from carlib.ops import pixel_shuffle

LAST = {"memory_format": torch.channels_last}


@pytest.mark.parametrize("r", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    ("ours", "theirs", "channels"),
    [
        (layers.shuffled, functional.pixel_shuffle, 36),
        (layers.unshuffled, functional.pixel_unshuffle, 5),
        (pixel_shuffle.enlarged, functional.pixel_shuffle, 36),
        (pixel_shuffle.reduced, functional.pixel_unshuffle, 5),
    ],
)
def test_shuffles_with_channels_last_are_pixel_shuffles(ours, theirs, channels, dtype, r):
    """Forward and backward, and channels stay last in memory both ways."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, 6, 12, generator=draw).to(dtype, **LAST).requires_grad_()
    found, expected = ours(x, r), theirs(x, r)
    assert torch.equal(found, expected) and found.is_contiguous(**LAST)
    upstream = torch.randn(found.shape, generator=draw).to(dtype)
    for laid_out in (upstream, upstream.to(**LAST)):
        gradients = [torch.autograd.grad(y, x, laid_out, retain_graph=True)[0] for y in (found, expected)]
        assert torch.equal(*gradients) and gradients[0].is_contiguous(**LAST)


@pytest.mark.parametrize("op", [torch.ops.carlib.enlarged, torch.ops.carlib.reduced])
def test_pytorch_finds_nothing_wrong_with_them(op):
    x = torch.randn(1, 8, 4, 6).to(**LAST).requires_grad_()
    torch.library.opcheck(op.default, (x, 2))


def test_modules_keep_the_order_in_memory():
    x = torch.randn(2, 12, 4, 6)
    for memory in (torch.channels_last, torch.contiguous_format):
        enlarged = layers.PixelShuffle(2)(x.to(memory_format=memory))
        back = layers.PixelUnshuffle(2)(enlarged)
        assert torch.equal(enlarged, functional.pixel_shuffle(x, 2)) and torch.equal(back, x)
        assert enlarged.is_contiguous(memory_format=memory) and back.is_contiguous(memory_format=memory)


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_with_channels_last_on_a_cpu_the_gradient_is_ours(memory):
    x = torch.randn(2, 12, 4, 6).to(memory_format=memory).requires_grad_()
    enlarged = layers.PixelShuffle(2)(x)
    assert ("carlib_enlarged" in type(enlarged.grad_fn).__name__) == (memory == torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_network_of_half_precision_computes_in_its_own(dtype):
    context = in_own_precision(torch.nn.Linear(2, 2).to(dtype), torch.device("cpu"))
    with context:
        assert torch.is_autocast_enabled("cpu") == (dtype != torch.float32)
        assert dtype == torch.float32 or torch.get_autocast_dtype("cpu") == dtype
    assert isinstance(in_own_precision(torch.nn.ReLU(), torch.device("cpu")), nullcontext)


def test_odd_sides_are_refused():
    with pytest.raises(RuntimeError, match="divisible"):
        pixel_shuffle.reduced(torch.randn(1, 3, 4, 5).to(**LAST), 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_channels_stay_last():
    x = torch.randn(2, 12, 4, 6)
    enlarged = layers.PixelShuffle(2)(x.cuda().to(**LAST))
    assert torch.equal(enlarged.cpu(), functional.pixel_shuffle(x, 2)) and enlarged.is_contiguous(**LAST)
    back = layers.PixelUnshuffle(2)(enlarged)
    assert torch.equal(back.cpu(), x) and back.is_contiguous(**LAST)
