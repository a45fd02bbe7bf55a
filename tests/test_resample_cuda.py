"""The CUDA kernels: here under numba's simulator in a process of its own, on a GPU where there is one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_resample import CASES, problem

from carlib import resample
from carlib.ops import resample_cuda, resample_op

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def on_gpu(test):
    for mark in gpu:
        test = mark(test)
    return test


def results(impl, args, scale, **options):
    """lr and all four gradients."""
    args = [t.detach().requires_grad_() for t in args]
    lr = resample(*args, scale=scale, impl=impl, **options)
    upstream = torch.linspace(-1, 1, lr.numel(), dtype=torch.float64, device=lr.device).to(lr.dtype).view_as(lr)
    return lr.detach(), *torch.autograd.grad(lr, args, upstream)


def test_the_kernels_are_right_under_the_simulator():
    """In a process of its own: numba decides when it is imported whether it simulates."""
    file = Path(__file__).with_name("simulated_cuda.py")
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=file.parent.parent)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert re.search(r"\d+ passed", done.stdout) and "skipped" not in done.stdout


def test_the_kernels_refuse_a_cpu_tensor():
    args = [t.float() for t in problem(2, 3, 2, 3)]
    with pytest.raises(ValueError, match=r'impl="cuda" cannot run here: hr is on cpu.*use impl="torch" or "auto"') as e:
        resample(*args, scale=2, impl="cuda")
    assert "\n" not in str(e.value)


class Tensor:
    """One on a GPU, as far as it is looked at."""

    device = torch.device("cuda")


@pytest.mark.parametrize(("capability", "told"), [((6, 1), "has compute capability 6.1"), ((7, 0), ""), ((9, 0), "")])
def test_a_gpu_older_than_volta_is_refused(capability, told, monkeypatch):
    monkeypatch.setattr(resample_cuda, "_why_no_compiler", lambda: "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    resample_cuda._why_too_old.cache_clear()
    why = resample_op._why_no_cuda(Tensor())
    resample_cuda._why_too_old.cache_clear()
    assert told in why and bool(why) == bool(told)


def test_auto_takes_the_kernels_where_they_run_and_torch_elsewhere(monkeypatch):
    for reason, room in [("", "resample_cuda"), ("no compiler", "resample_torch")]:
        monkeypatch.setattr(resample_op, "_why_no_cuda", lambda hr, reason=reason: reason)
        forward, backward = resample_op._passes("auto", Tensor())
        assert forward.__module__ == backward.__module__ == f"carlib.ops.{room}"
    with pytest.raises(ValueError, match="no compiler"):
        resample_op._passes("cuda", Tensor())


def test_auto_says_once_what_keeps_the_kernels_from_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr(resample_op, "_why_no_cuda", lambda hr: "nothing is installed")
    monkeypatch.setattr(torch.version, "hip", None)
    resample_op._warn.cache_clear()
    assert [resample_op.automatic(Tensor()) for _ in range(3)] == ["torch"] * 3
    told = capsys.readouterr().err
    assert told == 'carlib: resampling by impl="torch", not by the CUDA kernels: nothing is installed\n'
    monkeypatch.setattr(torch.version, "hip", "6.0")  # AMD's, which PyTorch calls cuda, too
    resample_op._warn.cache_clear()
    assert resample_op.automatic(Tensor()) == resample_op.automatic(torch.empty(0, device="meta")) == "torch"
    assert resample_op.automatic(torch.empty(0)) == "numba" and not capsys.readouterr().err


def test_a_machine_without_a_compiler_is_told_what_to_install(monkeypatch):
    from carlib.ops import resample_cuda

    resample_cuda._why_no_compiler.cache_clear()
    monkeypatch.setattr(resample_cuda.cuda, "is_available", lambda: False)
    assert re.fullmatch(r"numba finds no CUDA .*pip install 'carlib\[cuda\]'", resample_cuda._why_no_compiler())
    resample_cuda._why_no_compiler.cache_clear()
    monkeypatch.setattr(resample_cuda.cuda, "is_available", lambda: True)

    def refuse(signature):
        raise OSError("libNVVM cannot be found\nin many lines")

    monkeypatch.setattr(resample_cuda.cuda, "jit", refuse)
    assert "(libNVVM cannot be found); install" in resample_cuda._why_no_compiler()
    resample_cuda._why_no_compiler.cache_clear()


@on_gpu
@pytest.mark.parametrize("options", [{}, {"border": "release"}, {"taps": "paper"}, {"pad": 23}])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("scale", "size", "h", "w"), [*CASES, (4, 13, 9, 35)])
@pytest.mark.parametrize("impl", ["cuda", "torch"])
def test_on_a_gpu_each_way_matches_the_reference_on_the_cpu(impl, scale, size, h, w, channels, options):
    args = problem(scale, size, h, w, c=channels)
    expected = results("reference", args, scale, **options)
    for ours, reference in zip(results(impl, [t.cuda() for t in args], scale, **options), expected, strict=True):
        torch.testing.assert_close(ours.cpu(), reference, rtol=0, atol=1e-10)


@on_gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_on_a_gpu_two_runs_have_the_same_bits(dtype):
    args = [t.to("cuda", dtype) for t in problem(4, 13, 24, 40, n=3)]
    first = results("cuda", args, 4)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, results("cuda", args, 4), strict=True))


@on_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_on_a_gpu_lower_precision_is_computed_in_float32(dtype):
    args = [t.to("cuda", dtype) for t in problem(2, 7, 8, 40)]
    expected = results("reference", [t.double() for t in args], 2)
    limit = 32e-6 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps  # of float32: positions among many pixels
    # Where a position comes near a pixel, rounding may take it past, where the gradient of its offset is another.
    doubled = [2 * offset.double() for offset in args[2:]]
    certain = [*[slice(None)] * 3, *((twice - twice.round()).abs() > 1e-3 for twice in doubled)]
    for ours, reference, where in zip(results("cuda", args, 2), expected, certain, strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double()[where], reference[where], rtol=limit, atol=limit)


@on_gpu
def test_on_a_gpu_the_current_stream_is_kept():
    """The kernels wait for what fills their input on the same stream, and for nothing on another."""
    args = [t.cuda() for t in problem(2, 7, 64, 64)]
    expected = results("cuda", args, 2)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        late = [torch.empty_like(t).fill_(torch.nan) for t in args]
        torch.cuda._sleep(50_000_000)
        for empty, full in zip(late, args, strict=True):
            empty.copy_(full)
        found = results("cuda", late, 2)
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@on_gpu
def test_on_a_gpu_views_with_gaps_are_as_good():
    hr, *taps = (t.cuda() for t in problem(2, 3, 8, 12))
    wide = [torch.nn.functional.pad(t, (3, 5, 1, 2))[..., 1:-2, 3:-5] for t in taps]
    expected = resample(hr, *taps, scale=2, impl="cuda")
    assert torch.equal(resample(hr.to(memory_format=torch.channels_last), *wide, scale=2, impl="cuda"), expected)
