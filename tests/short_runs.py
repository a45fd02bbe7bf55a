"""Runs that train within a second or so, for the tests of training."""

from carlib import runs, train


def smoke(name="car-edsr-x2", **overrides):
    return runs.get(name, "smoke", overrides)


def short(name="bicubic-edsr-x2", **overrides):
    """A run of a second."""
    return smoke(name, **{"steps": 4, "validate_every": 2, "patch": {2: 16, 4: 16}, "validation_crop": 32} | overrides)


def go(run, folder, **options):
    return train.train(run, folder, device="cpu", progress=False, **options)


def without_seconds(log):
    """The lines of a log without the one column that no second run repeats."""
    return [line.rsplit(",", 1)[0] for line in log.splitlines()]
