"""`carlib bench upscale`: inference of EDSR (size base) on one LR image, and of CAR (size mini), down and up.

EDSR, of untrained weights, runs in bfloat16 by autocast where the machine computes in it, and in float32 as `carlib
upscale` and `carlib evaluate` do: their images, made of arrays (H, W, 3), are channels_last as well. The rival has
contiguous memory. CAR's downscaler, of the shipped weights, resamples by our operator, its rival by grid_sample. An
image of four megapixels goes through CAR's networks in parts, as it does unasked; the rival is the whole at once. Large
tensors of both lie in huge pages, as those of `carlib upscale` do (not in `carlib bench all`, where other cases have
begun before and only memory is measured so).
"""

import copy
from functools import partial
from itertools import product
from math import log10

import numpy as np
import torch

from carlib import data, devices, experiments, memory, method_networks, models, pixels, rescale, timing
from carlib.bench.rivals import grid_sample_resample
from carlib.ops.imresize import imresize
from carlib.ops.resample_op import automatic

SCALES = (4, 2)
_SIDE = 64  # of the LR image, pixels: at x4 a call takes a core about half a second
_LARGE = 2048  # side of the HR image that is computed in parts
_ROUNDS = 3  # of it: a call takes seconds
_RESTORED = 40.0  # PSNR in dB of a good restoration, whose error hides that of half precision
_MOST = 0.1  # dB


def rows(repeats, size="base", side=_SIDE):
    """Rows of `bench.COLUMNS` without machine and date; memory is over the bytes of the HR image in float32.

    Yields:
        a list for every case, once it is measured.
    Raises:
        ValueError: candidates differ by more than `_told` or `_same_pixels` allow, or CAR's weights are not there.
    """
    for scale in SCALES:
        job = f"EDSR ({size}) x{scale}: one LR image of {side}x{side}"
        calls = _upscalers(scale, size, side)
        told = _told(calls, job)
        hr = (side * scale, side * scale)
        yield _raced(calls, repeats, job, hr, told, f"_upscalers({scale}, {size!r}, {side})")
    for scale in SCALES:
        image = _photograph()
        job = f"CAR's downscaler (mini) x{scale}: one image of {image.shape[1]}x{image.shape[0]}"
        calls = _downscalers(scale)
        told = _same_pixels(calls, job)
        yield _raced(calls, repeats, job, image.shape, dict.fromkeys(calls, told), f"_downscalers({scale})")
    for scale, way in product(SCALES, ("down", "up")):
        job = f"CAR (mini) x{scale}, {way}: one image of {_LARGE}x{_LARGE}"
        calls = _in_parts_or_whole(scale, way)
        told = dict.fromkeys(calls, _same_pixels(calls, job))
        whole = _LARGE, _LARGE
        yield _raced(calls, min(repeats, _ROUNDS), job, whole, told, f"_in_parts_or_whole({scale}, {way!r})")


def _raced(calls, repeats, job, hr, told, code):
    """Rows of candidates, which `code` makes again in the processes that measure memory; told: name -> its note."""
    pixels = hr[0] * hr[1]
    seconds = timing.in_turns(calls, repeats, job)
    grown = {name: _memory_in_a_child(code, name, 3 * 4 * pixels) for name in calls}
    notes = {name: f"{s / pixels * 1e6:.3g} s per HR megapixel; {told[name]}" for name, s in seconds.items()}
    return timing.rows(job, seconds, notes, grown)


def _native() -> bool:
    return devices.auto_precision() == "bf16-mixed"


def _upscalers(scale, size="base", side=_SIDE):
    """name -> function without arguments: sr of one LR image."""
    memory.use_huge_pages()
    candidates = {
        "carlib, bfloat16 channels_last": (torch.bfloat16, torch.channels_last),
        "carlib, float32 channels_last": (torch.float32, torch.channels_last),
        "float32 contiguous": (torch.float32, torch.contiguous_format),
    }
    if not _native():  # emulated, it is slow
        del candidates["carlib, bfloat16 channels_last"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.create("edsr", scale, size).eval()
    lr = pixels.to_tensor(data.centre_crop(_photograph(), side))
    return {
        name: partial(
            _upscale, copy.deepcopy(network).to(memory_format=layout), lr.contiguous(memory_format=layout), dtype
        )
        for name, (dtype, layout) in candidates.items()
    }


@torch.inference_mode()
def _upscale(network, lr, dtype):
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        return network(lr)


def _told(calls, job) -> dict[str, str]:
    """What tells each candidate's result from the last one's, in words.

    Raises:
        ValueError: it would move the PSNR of a good restoration, by an error that is drawn, by more than 0.1 dB.
    """
    remark = "" if _native() else "this processor has no bfloat16"
    *others, rival = [call() for call in calls.values()]
    error = torch.empty_like(rival).normal_(std=10 ** (-_RESTORED / 20), generator=torch.Generator().manual_seed(0))
    told = dict.fromkeys(calls, remark or "the rival")
    for name, sr in zip(calls, others, strict=False):
        difference = sr - rival
        moved = abs(_decibels(difference - error) - _decibels(error))
        if not moved <= _MOST:
            raise ValueError(f"{job}: PSNR would move by {moved:.2g} dB, more than {_MOST:g}; nothing was timed")
        told[name] = f"sr at most {float(difference.abs().max()):.1g} from the rival's ({_decibels(difference):.0f} dB)"
        told[name] += f", which moves a PSNR of {_RESTORED:g} dB by {moved:.1g}" + f"; {remark}" * bool(remark)
    return told


def _decibels(difference) -> float:
    return -10 * log10(max(float(difference.double().square().mean()), 1e-30))


def _downscalers(scale):
    """name -> function without arguments: uint8 LR image of the photograph."""
    image = _photograph()
    network = method_networks.downscaler_of(experiments.chain(f"car-edsr-x{scale}", "demo").networks)
    rival = copy.copy(network)
    rival.downscale = partial(_plain_downscale, network)
    candidates = {f"carlib, {automatic(torch.empty(0))}": network, "grid_sample": rival}
    return {name: partial(rescale.learned_downscale, candidate, image) for name, candidate in candidates.items()}


def _in_parts_or_whole(scale, way):
    """name -> function without arguments: uint8 image of CAR, `way` "down" or "up"."""
    networks = experiments.chain(f"car-edsr-x{scale}", "demo").networks
    photo = _photograph()
    hr = np.pad(photo, [(0, _LARGE - n) for n in photo.shape[:2]] + [(0, 0)], mode="symmetric")
    call = partial(rescale.learned_downscale, method_networks.downscaler_of(networks), hr)
    if way == "up":
        call = partial(_restored, networks["upscaler"], imresize(hr, 1 / scale))
    return {"carlib, in parts": partial(call, tile=None), "whole": partial(call, tile=0)}


def _restored(upscaler, lr, tile):
    return pixels.to_8_bits(rescale.restore(upscaler, lr, tile))


def _plain_downscale(network, hr):
    predicted = network(hr)
    return grid_sample_resample(hr, *predicted, scale=network.scale), predicted


def _same_pixels(calls, job) -> str:
    """In how many of the image's 8-bit numbers candidates differ, by 1 at most.

    Raises:
        ValueError: by more.
    """
    ours, rival = (call().astype(np.int16) for call in calls.values())
    difference = np.abs(ours - rival)
    if difference.max() > 1:
        raise ValueError(f"{job}: images differ by {difference.max()} of 255, more than 1; nothing was timed")
    return f"{np.mean(difference > 0):.1%} of the numbers differ, by 1 of 255"


def _photograph():
    """uint8 RGB, 320x320."""
    return next(iter(data.load("demo", limit=1)))[1]


def _memory_in_a_child(code, name, size) -> float:
    """Peak growth of a fresh process, over `size` bytes."""
    code = f"from carlib.bench import upscaling as b; print(b._extra_memory(b.{code}, {name!r}, {size}))"
    return timing.number_from_a_child(code)


def _extra_memory(calls, name, size) -> float:
    calls[name]()  # compiles, starts threads
    growth, _ = timing.peak_growth(calls[name])
    return growth / size
