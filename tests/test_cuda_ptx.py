"""The CUDA kernels as numba compiles them, without a GPU: laws of the programs (PTX) for two generations of GPUs.

Needs libNVVM, which the extra `cuda` brings (nvidia-nvvm); the law on registers needs nvJitLink, of the same extra.
"""

import re
from importlib.util import find_spec
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from test_resample import problem

from carlib.ops import resample_cuda, resample_op

KERNELS = ("lay_out", "forward", "backward_taps", "bound", "scatter")
CAPABILITIES = ((8, 0), (9, 0))
IN_FLOAT64 = ("bound", "scatter")  # fixed point is counted in float64 and int64


def why_not() -> str:
    """What keeps numba from compiling for a GPU here, nothing if it can."""
    if resample_cuda.SIMULATED:
        return "numba simulates CUDA (NUMBA_ENABLE_CUDASIM)"
    if not find_spec("numba_cuda"):
        return "numba-cuda is not installed: pip install 'carlib[cuda]'"
    from numba.cuda.cudadrv import nvvm

    try:
        nvvm.NVVM()
    except (ImportError, OSError, RuntimeError) as error:  # no cuda.bindings; no library, or one that cannot be loaded
        told = str(error).strip().partition("\n")[0]
        return f"numba finds no libNVVM ({told}): pip install 'carlib[cuda]', whose nvidia-nvvm has it"
    return ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def launches(monkeypatch, dtype):
    """Kernel -> what it is given for tensors of a dtype, forward and all backward: dtypes of tensors, else int."""
    seen = {}

    def launch(name, blocks, block, geometry, *arguments):
        seen[name] = [a.dtype if isinstance(a, torch.Tensor) else type(a) for a in arguments]
        assert all(kind is int or isinstance(kind, torch.dtype) for kind in seen[name]), name  # numba's int64, all

    with monkeypatch.context() as patched:
        patched.setattr(resample_cuda, "_launch", launch)
        tensors = [t.to(dtype) for t in problem(2, 3, 2, 3, n=1)]
        geometry = resample_op.Geometry(scale=2, size=3, pad=1, centre=1.0, release_border=False)
        lr = resample_cuda.forward(*tensors, geometry)
        resample_cuda.backward(lr, *tensors, geometry, [True] * 4)
    return seen


@pytest.fixture(scope="module")
def programs():
    """(float type, compute capability, the released border's rule) -> kernel -> PTX."""
    from numba import cuda, float32, float64, int64
    from numba.cuda import dispatcher

    made = {}
    with pytest.MonkeyPatch.context() as patched:
        for real, dtype in ((float32, torch.float32), (float64, torch.float64)):
            signatures = {name: (int64,) * len(given) for name, given in launches(patched, dtype).items()}  # addresses
            assert set(signatures) == set(KERNELS)
            for capability, released in product(CAPABILITIES, (False, True)):
                device = SimpleNamespace(compute_capability=capability)  # device functions are compiled for it
                patched.setattr(dispatcher, "get_current_device", lambda device=device: device)
                kernels = resample_cuda._kernels.__wrapped__(real, released)
                made[str(real), capability, released] = {
                    name: cuda.compile_ptx(getattr(kernels, name).py_func, signature, cc=capability)[0]
                    for name, signature in signatures.items()
                }
    return made


def instructions(ptx, pattern):
    """The instructions that match; no declarations, moves or loads of parameters, nor names, which are mangled."""
    lines = (re.sub(r"^@!?%p\d+\s+", "", line.strip()) for line in ptx.splitlines())
    return [line for line in lines if re.match(pattern, line)]


FLOAT64 = r"(?!mov|ld|st|cvta|selp)\w[\w.]*\.f64\b"  # an operation on it, a conversion included


def each(programs, *names):
    return [(key, name, made[name]) for key, made in programs.items() for name in (names or KERNELS)]


def test_lower_precision_is_given_to_the_kernels_as_float32(monkeypatch):
    expected = launches(monkeypatch, torch.float32)
    assert launches(monkeypatch, torch.float16) == launches(monkeypatch, torch.bfloat16) == expected
    assert launches(monkeypatch, torch.float64) != expected


def test_nothing_is_added_up_in_an_order_that_may_change(programs):
    """Atomics are of the image's gradient alone, and of whole numbers."""
    for key, name, ptx in each(programs):
        atomics = instructions(ptx, r"(atom|red)\.")
        assert all(re.match(r"(atom|red)\.\S*add\.u64\b", line) for line in atomics), (key, name)
        assert bool(atomics) == (name == "scatter"), (key, name)


@pytest.mark.parametrize(("real", "loads"), [("float32", ["v4.f32"] * 4), ("float64", ["v2.f64"] * 8)])
def test_the_image_is_read_in_vectors_and_has_the_first_level_cache_for_itself(programs, real, loads):
    """Four pixels a tap, each of four channels, in loads of 16 bytes. Kernel and offsets are read a tap ahead."""
    for (kind, *_), name, ptx in each(programs, "forward", "backward_taps"):
        if kind == real:
            found = [line.split()[0].removeprefix("ld.global.nc.") for line in instructions(ptx, r"ld\.global\.nc\.")]
            assert [load for load in found if load.startswith("v")] == loads, name
            assert [load for load in found if load not in loads] == ["L1::no_allocate." + loads[0][3:]] * 6, name


def test_float32_is_computed_in_float32(programs):
    for (kind, capability, _), name, ptx in each(programs):
        found = instructions(ptx, FLOAT64)
        assert bool(found) == (name in IN_FLOAT64 or (kind == "float64" and name != "lay_out")), (capability, name)


def test_nothing_is_called_and_nothing_lies_in_local_memory(programs):
    for key, name, ptx in each(programs):
        assert not instructions(ptx, r"call\b|ld\.local|st\.local|\.local\b"), (key, name)


def test_registers_suffice(programs):
    """As the assembler tells: nothing is spilled, and two blocks at least find room on a multiprocessor."""
    nvjitlink = pytest.importorskip("cuda.bindings.nvjitlink", reason="nvJitLink comes with the extra cuda")
    for (_, (major, minor), _), name, ptx in each(programs):
        handle = nvjitlink.create(2, [f"-arch=sm_{major}{minor}", "-verbose"])
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, ptx.encode(), len(ptx), name)
        nvjitlink.complete(handle)
        told = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, told)
        nvjitlink.destroy(handle)
        assert b"0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in told, name
        registers = int(re.search(rb"Used (\d+) registers", told)[1])
        assert 2 * registers * resample_cuda.ACROSS * resample_cuda.PARTS <= 65536, name
