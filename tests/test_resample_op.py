"""To PyTorch the operator is one of its own: it can be checked, traced, compiled and exported."""

import pytest
import torch
from test_resample import problem

from carlib import resample
from carlib.ops import guided_op, penalties, pixel_shuffle

NUMBERS = {"scale": 2, "size": 3, "pad": 1, "centre": 1.0, "release_border": False}


def tensors(requires_grad=True):
    return [t.requires_grad_(requires_grad) for t in problem(2, 3, 3, 4, n=1, c=2)]


@pytest.mark.parametrize("impl", ["torch", "numba"])
def test_pytorch_finds_nothing_wrong_with_it(impl):
    """Schema, fake tensors, autograd registration and AOT with static and dynamic shapes."""
    torch.library.opcheck(torch.ops.carlib.resample.default, (*tensors(), *NUMBERS.values(), impl))


def test_pytorch_finds_nothing_wrong_with_its_backward_pass():
    needed = [True, True, False, True]
    backward = (torch.ones(1, 2, 3, 4, dtype=torch.float64), *tensors(False), *NUMBERS.values(), "numba", needed)
    torch.library.opcheck(torch.ops.carlib.resample_backward.default, backward)


def loss(hr, kernel, offset_v, offset_h):
    return resample(hr * 2, kernel.softmax(1), offset_v.tanh(), offset_h, scale=2).square().mean()


def test_a_function_with_it_compiles_without_a_graph_break_forward_and_backward():
    args = tensors()
    expected = loss(*args), *torch.autograd.grad(loss(*args), args)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    found = compiled(*args), *torch.autograd.grad(compiled(*args), args)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


class Downscale(torch.nn.Module):
    def forward(self, hr, kernel, offset_v, offset_h):
        return resample(hr, kernel, offset_v, offset_h, scale=2)


def test_a_network_with_it_is_exported_as_one_node():
    args = tensors(requires_grad=False)
    exported = torch.export.export(Downscale(), tuple(args))
    calls = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert calls.count("carlib.resample.default") == 1 and len(calls) == 1
    torch.testing.assert_close(exported.module()(*args), Downscale()(*args))


def test_shapes_are_known_without_computing():
    args = [t.detach().to("meta").requires_grad_() for t in tensors()]
    lr = resample(*args, scale=2)
    lr.sum().backward()
    assert lr.shape == (1, 2, 3, 4) and lr.device.type == "meta"
    assert [t.grad.shape for t in args] == [t.shape for t in args]


@pytest.mark.parametrize("impl", ["torch", "numba"])
def test_a_second_derivative_is_refused_and_the_reference_has_it(impl):
    args = tensors()

    def curvature(which):
        lr = resample(*args, scale=2, impl=which)
        first = torch.autograd.grad(lr.square().sum(), args, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), args)

    with pytest.raises(RuntimeError, match='second derivatives only with impl="reference"'):
        curvature(impl)
    assert all(g.isfinite().all() for g in curvature("reference"))


@pytest.mark.parametrize("impl", ["auto", "torch", "numba"])
def test_a_forward_derivative_is_refused_and_the_reference_has_it(impl):
    """An operator without a rule for it would give 0 without a word."""
    hr, kernel, *offsets = (tensor.detach() for tensor in tensors())

    def lr(kernel, which):
        return resample(hr, kernel, *offsets, scale=2, impl=which)

    with pytest.raises(RuntimeError, match='only with impl="reference"'):
        torch.func.jvp(lambda kernel: lr(kernel, impl), (kernel,), (torch.ones_like(kernel),))
    _, found = torch.func.jvp(lambda kernel: lr(kernel, "reference"), (kernel,), (torch.ones_like(kernel),))
    torch.testing.assert_close(found, lr(torch.ones_like(kernel), "reference"))  # linear in the kernel
    assert lr(kernel, impl).isfinite().all()


def test_the_other_operators_refuse_a_forward_derivative():
    offsets = torch.rand(1, 9, 2, 3)
    image = torch.rand(1, 3, 4, 6).to(memory_format=torch.channels_last)
    step, window = torch.rand(1, 3, 2, 3), torch.rand(1, 9, 2, 3)
    for call, tensor in [
        (lambda x: penalties.sum_of_lengths(x, offsets, torch.ones(9)), offsets),
        (lambda x: penalties.sum_of_steps(x, offsets, offsets), offsets),
        (lambda x: pixel_shuffle.reduced(x, 2), image),
        (lambda x: guided_op.guided(x, image, window, 2, 1.0, 0.1), step),
    ]:
        with pytest.raises(RuntimeError, match="no forward-mode derivatives"):
            torch.func.jvp(call, (tensor,), (torch.ones_like(tensor),))


def test_a_batch_without_an_image_is_told():
    hr, *others = (tensor[:0] for tensor in tensors())
    with pytest.raises(ValueError, match=r"hr \(0, .* holds no image"):
        resample(hr, *others, scale=2)
