"""What a run is trained and validated on: patches of its training sets, and the images that choose its weights."""

import atexit
import signal
import weakref

import numpy as np
import torch

from carlib import data, rescale, runs
from carlib.training import lr_images


class Patches:
    """Random flipped crops of the training sets; the batch of a step depends on (seed, step) alone.

    Args:
        rank, world: of `world` processes that share a batch, this is number `rank`; patches[step] is its share.
    """

    def __init__(self, run: runs.Run, rank=0, world=1):
        self.run, self.size = run, run.patch[run.scale]
        self.share = slice(rank * run.batch // world, (rank + 1) * run.batch // world)
        self.hr = [data.to_colour(image) for name in run.train_sets for _, image in data.load(name)]
        found = len(self.hr)
        self.hr = [data.crop_to_multiple(image, run.scale) for image in self.hr if min(image.shape[:2]) >= self.size]
        self.dropped = found - len(self.hr)
        if not self.hr:
            raise ValueError(f"no image of {', '.join(run.train_sets)} is as large as patch={self.size}")
        self.lr = None if run.classical is None else lr_images.of_run(run, self.hr)

    def batch(self, step: int):
        """(hr, lr or None), float32 (N, 3, size, size) and (N, 3, size/scale, size/scale) in [0, 1].

        lr is what the upscaler sees, or what guides a learned downscaler; CAR has neither.
        """
        draw = np.random.default_rng([self.run.seed, step])
        crops = [self._crop(draw) for _ in range(self.run.batch)]
        hr, lr = zip(*(crop() for crop in crops[self.share]), strict=True)
        return to_batch(np.stack(hr)), None if self.lr is None else to_batch(np.stack(lr))

    __getitem__ = batch

    def ahead(self, steps: range, workers: int):
        """An iterator over the batches of `steps`; with workers, so many processes make them beforehand.

        They end with it, however many batches it has left.
        """
        if not workers:
            return map(self.batch, steps)
        from torch.utils.data import DataLoader

        pinned = torch.cuda.is_available()
        options = {"num_workers": workers, "prefetch_factor": 4, "pin_memory": pinned}
        options["generator"] = torch.Generator()  # the loader draws a number, which is not to be one of the training's
        batches = iter(DataLoader(self, None, sampler=steps, worker_init_fn=_outlive_signals, **options))
        ahead = (batch for batch in batches)
        atexit.register(batches._shutdown_workers)  # after an error; multiprocessing would send SIGTERM and wait
        weakref.finalize(ahead, _dismiss, batches._shutdown_workers).atexit = False
        return ahead

    def _crop(self, draw):
        """Draw a crop; a function that cuts it: (hr, lr or None)."""
        scale, index = self.run.scale, draw.integers(len(self.hr))
        top, left = (int(draw.integers((n - self.size) // scale + 1)) for n in self.hr[index].shape[:2])
        flip = tuple(slice(None, None, -1 if draw.random() < 0.5 else 1) for _ in range(2))
        colour = _colouring(self.run, draw.spawn(1)[0])  # which patch it is does not depend on its colours

        def cut(image, unit):
            size = self.size // scale * unit
            patch = image[top * unit : top * unit + size, left * unit : left * unit + size][flip]
            return colour(patch)

        return lambda: (cut(self.hr[index], scale), None if self.lr is None else cut(self.lr[index], 1))


def _dismiss(shutdown):
    shutdown()
    atexit.unregister(shutdown)  # which held the workers, and what they read, to the process's end


def _outlive_signals(_worker):
    """What tells the whole group of processes to stop is for the one that trains: it still needs its batches."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _colouring(run, draw):
    """What becomes of a patch's colours, a function uint8 (h, w, 3) -> the same; HR and LR patches get the same one.

    `recolour` permutes the channels and multiplies the distance to luma by 0 to 2: colours other than those of the
    training images, and colour edges stronger than theirs.
    """
    if run.grey and draw.random() < run.grey:
        return lambda patch: data.to_colour(data.to_grey(patch))
    if not (run.recolour and draw.random() < run.recolour):
        return lambda patch: patch
    order, saturation = draw.permutation(3), 2 * draw.random()

    def recoloured(patch):
        patch = patch[..., order].astype(np.float64)
        luma = (patch @ data.LUMA)[..., None]
        return np.rint(np.clip(luma + saturation * (patch - luma), 0, 255)).astype(np.uint8)

    return recoloured


def validation_images(run: runs.Run):
    """[(hr uint8 (H, W, 3), lr or None)] of the run's validation set, centre-cropped to `validation_crop`."""
    pairs = []
    for _, image in data.load(run.validation_set, limit=run.validation_images):
        hr = data.crop_to_multiple(data.centre_crop(data.to_colour(image), run.validation_crop), run.scale)
        pairs.append((hr, None if run.learns_downscaling else _downscaled(run, hr)))
    return pairs


def _downscaled(run, hr):
    return rescale.classical(run.classical)(hr, run.scale)


def to_batch(images):
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [0, 1]; the memory stays NHWC, which channels_last wants."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
