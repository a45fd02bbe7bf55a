"""What is refused before a run begins: numbers out of range, unknown names, parts that do not go together."""

import math

from carlib import method_networks, models, rescale

_ABOVE_0 = (
    "batch", "validate_every", "scale", "lr", "adam_eps", "bound", "guided_eps", "plateau_patience", "accumulate",
)  # fmt: skip
_AT_LEAST_0 = (
    "steps", "image_steps", "lambda_offset", "gamma_tv", "guidance", "distribution", "alpha", "bit_price", "clip",
    "seed",
)  # fmt: skip
_SHARES = {"grey": "patches", "recolour": "patches", "penalties_after": "steps", "resampler_after": "steps"}
_NAMES = {
    "loss": ("l1", "l2", "charbonnier"),
    "guidance_loss": ("l1", "l2"),
    "offset_reading": ("weighted", "printed", "regulated"),
    "tv_reading": ("batch", "mean"),
    "weighting": ("clamp", "softmax", "signed", "guided", "static"),
    "activation": ("relu", "leaky_relu"),
    "taps": ("symmetric", "paper"),
    "border": ("replicate", "release"),
    "schedule": ("constant", "one-cycle", "plateau"),
    "precision": ("auto", "32-true", "bf16-mixed"),
}

_SIGNED = ("signed", "guided")  # weightings that add a residual to a kernel


def _is_car(run):
    return run.downscaler == "car"


def _follows_the_image(run):
    return _is_car(run) and run.weighting != "static"


def _trains_car(run):
    return _is_car(run) and not run.resampler_from


def _trains_downscaling(run):
    return run.learns_downscaling and not run.resampler_from


# Parameter -> whose it is, and whether a run is of these. Every run has a use for the others.
_USERS = {
    **dict.fromkeys(
        ("weighting", "taps", "border", "kernel_size", "offsets", "local", "prior_sigma"),
        ("CAR", _is_car),
    ),
    **dict.fromkeys(
        ("activation", "learned_prior", "resampler_width", "resampler_blocks"),
        ("a CAR whose kernels follow the image", _follows_the_image),
    ),
    "head_scale": (
        "a CAR whose kernels follow the image and that begins anew",
        lambda run: _follows_the_image(run) and not run.resampler_start and not run.resampler_from,
    ),
    "bound": (
        f"a CAR with weighting={' or '.join(_SIGNED)}",
        lambda run: _is_car(run) and run.weighting in _SIGNED,
    ),
    "guided_eps": ("a CAR with weighting=guided", lambda run: _is_car(run) and run.weighting == "guided"),
    **dict.fromkeys(("resampler_lr", "resampler_after"), ("a CAR that is trained", _trains_car)),
    **dict.fromkeys(
        ("lambda_offset", "offset_reading", "gamma_tv", "tv_reading", "penalties_after"),
        ("a CAR that is trained with offsets", lambda run: _trains_car(run) and run.offsets),
    ),
    **dict.fromkeys(("alpha", "bit_price"), ("a learned downscaler that is trained", _trains_downscaling)),
    "jpeg": ("a run that is trained", lambda run: run.trains),
    "lr": (
        "an upscaler, or a resampler without resampler_lr",
        lambda run: run.upscaler != "bicubic" or run.resampler_lr is None,
    ),
    "plateau_patience": ("schedule=plateau", lambda run: run.schedule == "plateau"),
    **dict.fromkeys(
        ("guidance", "guidance_loss"),
        ("CNN-CR, TAD and IRN", lambda run: run.learns_downscaling and run.downscaler != "car"),
    ),
    "distribution": ("IRN", lambda run: run.downscaler == "irn"),
}


def check(run):
    """Refuse a `runs.Run` whose values have the right types and cannot be all the same.

    Raises:
        ValueError: so, in one line.
    """
    _check_numbers(run)
    _check_resampler(run)
    _among("downscaler", run.downscaler, (*method_networks.LEARNED, *rescale.CLASSICAL))
    _among("upscaler", run.upscaler, models.UPSCALERS)
    if (run.downscaler == "irn") != (run.upscaler == "irn"):
        raise ValueError(
            f"downscaler={run.downscaler!r}, upscaler={run.upscaler!r}: IRN is one network, name it as both or neither"
        )
    if run.image_steps and (run.downscaler, run.upscaler) != ("bicubic", "zssr"):  # its sons are made by bicubic
        raise ValueError(f"image_steps={run.image_steps!r} is for ZSSR on bicubic LR images, not for {run.name}")
    _check_starts(run)
    if run.priced and not _trains_downscaling(run):
        whose = _USERS["bit_price"][0]
        raise ValueError(
            f"bit_price={run.bit_price!r} is for {whose}, not for {run.name}: leave it out, or set it to 0"
        )
    for name, allowed in _NAMES.items():
        _among(name, getattr(run, name), allowed)
    for network in run.networks().values():
        _among(f"size of {network['name']}", network["size"], models.SIZES[network["name"]])
    if run.trains and run.steps:
        if not run.train_sets:
            raise ValueError("train_sets=[] names no image set to train on: give one, such as [demo]")
        patch = run.patch.get(run.scale)
        if isinstance(patch, bool) or not isinstance(patch, int) or patch <= 0 or patch % run.scale:
            told = f"{run.name}, profile {run.profile}: patch={run.patch!r} holds no multiple of scale={run.scale}"
            own = f"{run.scale}: {32 * run.scale}"
            raise ValueError(f"{told}: add {own}, say, to the profile's patch, or give -p 'patch={{{own}}}'")


def check_overrides(run, overrides):
    """Refuse numbers given for a single training that it has no use for: they would be ignored.

    Raises:
        ValueError: so, in one line.
    """
    for name, value in overrides.items():
        whose, uses = _USERS.get(name, ("", None))
        if value is not None and uses is not None and not uses(run):
            raise ValueError(f"{name}={value!r} is for {whose}, not for {run.name}: leave it out")


def _check_numbers(run):
    for name in _ABOVE_0:
        if not 0 < getattr(run, name) < math.inf:
            raise ValueError(f"{name}={getattr(run, name)!r} must be above 0 and finite")
    for name in ("resampler_lr", "prior_sigma", "validation_images", "validation_crop"):
        value = getattr(run, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r} must be above 0, or empty")
    for name in _AT_LEAST_0:
        if not 0 <= getattr(run, name) < math.inf:
            raise ValueError(f"{name}={getattr(run, name)!r} must be a finite number >= 0")
    if run.validation_crop is not None and run.validation_crop < run.scale:
        raise ValueError(f"validation_crop={run.validation_crop!r} is less than a LR pixel, which is {run.scale} wide")
    if run.jpeg is not None and not _is_range(run.jpeg):
        raise ValueError(f"jpeg={run.jpeg!r} is no lowest and highest quality of JPEG: give [30, 95], or nothing")
    for name, what in _SHARES.items():
        if not 0 <= getattr(run, name) <= 1:
            raise ValueError(f"{name}={getattr(run, name)!r} is no share of the {what}: give 0 to 1")
    if not 0 <= run.ema < 1:
        raise ValueError(f"ema={run.ema!r} is no decay of an average: give 0 (none) or a number below 1, such as 0.995")


def _check_resampler(run):
    if run.head_scale is not None and not 0 <= run.head_scale < math.inf:
        raise ValueError(f"head_scale={run.head_scale!r} must be a finite number >= 0, or empty")
    if run.resampler_width is not None and (run.resampler_width < 4 or run.resampler_width % 4):
        raise ValueError(f"resampler_width={run.resampler_width!r} is not a positive multiple of 4, nor empty")
    if run.resampler_blocks is not None and run.resampler_blocks < 0:
        raise ValueError(f"resampler_blocks={run.resampler_blocks!r} must be a whole number >= 0, or empty")
    if run.learned_prior and run.weighting not in _SIGNED:
        raise ValueError(f"learned_prior=True is for weighting={' or '.join(_SIGNED)}, not {run.weighting!r}")
    if run.downscaler == "car" and run.weighting == "static" and (run.offsets or run.local):
        raise ValueError("weighting='static' follows no image: set offsets=false, local=0")
    if run.resampler_after and (run.downscaler != "car" or run.upscaler == "bicubic" or run.resampler_from):
        raise ValueError(
            f"resampler_after={run.resampler_after!r} is for a CAR that is trained with an upscaler, not for {run.name}"
        )


def _check_starts(run):
    for name, other in run.starts.items():
        if other == run.name:
            raise ValueError(f"{name}={run.name!r}: a run cannot start from itself")
        if name.startswith("resampler") and run.downscaler != "car":
            raise ValueError(f"{name}={other!r} needs downscaler=car: {run.downscaler} has none")
    if run.resampler_from and run.upscaler == "bicubic":
        raise ValueError(f"resampler_from={run.resampler_from!r} freezes all that a run with bicubic upscaling trains")
    if run.resampler_from and run.resampler_start:
        raise ValueError(
            f"resampler_start={run.resampler_start!r} is to be trained on, resampler_from={run.resampler_from!r} to be "
            "frozen: leave one out"
        )


def _is_range(jpeg) -> bool:
    whole = all(isinstance(quality, int) and not isinstance(quality, bool) for quality in jpeg)
    return whole and len(jpeg) == 2 and 1 <= jpeg[0] <= jpeg[1] <= 100


def _among(name, value, allowed):
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown: use one of {', '.join(allowed)}")
