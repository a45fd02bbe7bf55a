"""To PyTorch the operator is one of its own: it can be checked, traced, compiled and exported."""

import pytest
import torch
from test_resample import problem

from carlib import resample

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
