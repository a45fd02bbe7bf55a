"""ZSSR (Shocher et al., CVPR 2018): super-resolution by a network that has seen nothing but the image itself.

The LR image, or a smaller copy of it, is a father; a son is a father made smaller by the scale. The network learns son
-> father on random crops and is then applied to the LR image. Numbers are those of the released configuration, read as
facts: L1, Adam 1e-3, a rate divided by ten whenever the error on the whole image stops falling, crops of 128, eight
orientations whose median counts, ten back-projections. Ours is the single jump: no gradual scales, which the printed
37.37 dB use, and no shear; the sizes of the fathers are our choice.
"""

import math
import time
from functools import partial
from itertools import product
from numbers import Real

import numpy as np

from carlib import devices, memory, tiles
from carlib.data import to_grey
from carlib.ops.imresize import imresize
from carlib.pixels import to_8_bits, to_tensor

_CROP = 128  # pixels of a father
_FATHERS = (1.0, 0.9, 0.8, 0.7, 0.6)  # sizes of the image that serve as fathers
_EVERY = 50  # steps between looks at the error on the whole image
_WINDOW = 5  # looks to which a line is fitted
_LOWEST_RATE = 9e-6
_BACK_PROJECTIONS = 10


def restore(lr, scale, *, steps=3000, seconds=math.inf, seed=0, size="paper", device="cpu", progress=False):
    """Enlarge one image by training on it; minutes at size "paper" on a CPU.

    Args:
        lr:       uint8 (h, w) or (h, w, 3) RGB, made by bicubic downscaling; sides of 4*scale pixels at least.
        scale:    whole number >= 2.
        steps:    at most so many; fewer when the rate has fallen below 9e-6.
        seconds:  stop training after these; the result then depends on the machine. Enlarging comes on top, at size
                  "paper" and scale 4 twelve seconds of two cores for every 100x100 LR pixels.
        seed:     of the network and the crops. On a CPU the same seed and steps give the same image.
        size:     of the network, see `carlib.models.SIZES`.
        device:   of the network: "cpu", "cuda", ...; "auto": a GPU where there is one.
        progress: show a bar of training, then one of enlarging.
    Returns:
        uint8 (h*scale, w*scale[, 3]).
    Raises:
        ValueError: the image is not uint8, has other than one or three colours, or is too small to have a son; scale,
            steps, seconds or seed are not such numbers, or there is no such device.
        MemoryError: the image is too large for the machine.
    """
    if not isinstance(lr, np.ndarray) or lr.dtype != np.uint8 or (lr.ndim != 2 and lr.shape[2:] != (3,)):
        raise ValueError("lr is no uint8 image (h, w) or (h, w, 3): read it with carlib.data.read_image")
    for name, value, least in (("scale", scale, 2), ("steps", steps, 0), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, Real) or value % 1 != 0 or value < least:
            raise ValueError(f"{name}={value!r} is not a whole number >= {least}")
    if not isinstance(seconds, Real) or not seconds >= 0:
        raise ValueError(f"seconds={seconds!r} is not a number >= 0")
    if min(lr.shape[:2]) < 4 * scale:
        raise ValueError(f"lr is {lr.shape[1]}x{lr.shape[0]}: ZSSR at scale {scale} needs sides of {4 * scale} pixels")
    from carlib.ops.precision import undisturbed

    device = devices.usable(device)
    image = to_tensor(lr)[0].permute(1, 2, 0).double().numpy()
    budget = {"steps": int(steps), "seconds": seconds, "seed": int(seed)}
    with memory.shortage_told(), undisturbed(device):
        network = train(image, int(scale), **budget, size=size, device=device, progress=progress)
        sr = to_8_bits(apply(network, image, int(scale), progress=progress))
    return sr if lr.ndim == 3 else to_grey(sr)


def train(image, scale, *, steps, seconds=math.inf, seed=0, size="paper", device="cpu", progress=False):
    """A ZSSR network trained on `image`, float (h, w, 3) in [0, 1]; the other arguments as in `restore`."""
    import torch
    from tqdm import tqdm

    from carlib import models

    draw = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):  # the caller's own random numbers stay where they are
        torch.default_generator.manual_seed(seed)  # not a GPU's
        network = models.create("zssr", scale, size).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    fathers = _fathers(image, scale)
    whole, errors = _to_multiple(image, scale), []
    son_of_whole, whole = (_tensor(part, device) for part in (imresize(whole, 1 / scale), whole))
    began = time.perf_counter()
    for step in tqdm(range(steps), desc="ZSSR", unit="step", disable=not progress):
        father = _crop(fathers[draw.integers(len(fathers))], scale, draw)
        loss = (network(_tensor(imresize(father, 1 / scale), device)) - _tensor(father, device)).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % _EVERY == _EVERY - 1:
            with torch.inference_mode():
                errors.append(float((network(son_of_whole) - whole).square().mean()))
            if _stalls(errors):
                optimizer.param_groups[0]["lr"] /= 10
                errors = []
        if optimizer.param_groups[0]["lr"] < _LOWEST_RATE or time.perf_counter() - began > seconds:
            break
    return network.eval()


def apply(network, image, scale, progress=False):
    """float (h, w, 3) in [0, 1] -> (h*scale, w*scale, 3): the median over eight orientations, back-projected."""
    from tqdm import tqdm

    variants, orientations = [], list(product(range(4), (1, -1)))
    for turns, step in tqdm(orientations, desc="ZSSR, enlarging", unit="orientation", disable=not progress):
        turned = np.rot90(image, turns)[:, ::step]
        sr = tiles.in_parts(partial(_enlarged, network), turned, network, tile=None)
        variants.append(np.rot90(back_project(sr, turned, scale)[:, ::step], -turns))
    return back_project(np.median(variants, 0), image, scale).clip(0, 1)


def _enlarged(network, image):
    import torch

    with torch.inference_mode():
        sr = network(_tensor(image, next(network.parameters()).device))
    return sr[0].permute(1, 2, 0).cpu().double().numpy()


def back_project(sr, lr, scale, iterations=_BACK_PROJECTIONS):
    """Add to `sr` what its bicubic downscaling lacks of `lr`, enlarged, again and again (Irani and Peleg 1991)."""
    for _ in range(iterations):
        sr = sr + imresize(lr - imresize(sr, 1 / scale), scale)
    return sr


def _fathers(image, scale):
    """The image and smaller ones that still have sons."""
    made = [image if f == 1 else imresize(image, f) for f in _FATHERS]
    return [father for father in made if min(father.shape[:2]) >= 4 * scale]


def _crop(father, scale, draw):
    """A random crop in a random orientation, both sides multiples of the scale."""
    height, width = (min(_CROP, n) // scale * scale for n in father.shape[:2])
    top, left = draw.integers(father.shape[0] - height + 1), draw.integers(father.shape[1] - width + 1)
    crop = np.rot90(father[top : top + height, left : left + width], draw.integers(4))
    return crop[:, ::-1] if draw.random() < 0.5 else crop


def _to_multiple(image, scale):
    height, width = (n // scale * scale for n in image.shape[:2])
    return image[:height, :width]


def _stalls(errors):
    """Whether the error's fall over the last looks is no longer clear: 1.5 slopes within the slope's own deviation."""
    if len(errors) < _WINDOW:
        return False
    (slope, _), covariance = np.polyfit(np.arange(_WINDOW) * _EVERY, errors[-_WINDOW:], 1, cov=True)
    return -1.5 * slope < math.sqrt(covariance[0, 0])


def _tensor(image, device):
    import torch

    return torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)[None].float().to(device)
