"""Learned image downscaling with a content adaptive resampler (CAR): operators, networks, training, evaluation.

The names below are the library's doors; each is imported when it is first used, so that `import carlib` costs nothing.

Rooms, highest first; each knows only those below it (tests/test_rooms.py):

    cli, commands          what is typed
    readme                 the generated tables of README.md, REPLICATION.md and docs/
    studies                what the notebooks ask: measured, judged, drawn
    bench, dispatch        ours timed against rivals; many runs, here or on a cluster; and user_study
    experiments            what notebooks and commands share: runs made ready and measured
    report, train          a profile's page; one run (training: what it is made of), and in which folder (run_places)
    evaluate, overview     a run's numbers; how far every run is
    choice, kept           the better of two methods; rows that took long
    cells, tables, ...     what each table shows and how it judges; jobs, sources, run_networks
    artefacts, origin      rows, tables and figures written, with what made them; the same inside LR images
    runs, run_checks       the declared runs
    rescale                images down and up; method_networks (whose weights), zssr, codecs
    weights, pixels        of networks; images as tensors; data, devices, provenance
    models, downscalers    networks; the classical ones; losses; results (where files lie, written atomically)
    ops, figures, formats  operators; pictures; LaTeX and Markdown; metrics, tiles, intervals
"""

from importlib import import_module

__version__ = "0.1.0"

_DOORS = {
    "resample": "carlib.ops.resample",
    "quantize": "carlib.ops.quantize",
    "imresize": "carlib.ops.imresize",
    "downscale": "carlib.rescale",
    "upscale": "carlib.rescale",
}
_ROOMS = (
    "artefacts", "choice", "codecs", "data", "evaluate", "figures", "losses", "metrics", "models", "ops", "pixels",
    "results", "train", "weights", "zssr",
)  # fmt: skip

__all__ = [*_DOORS, *_ROOMS]


def __getattr__(name):
    if name in _DOORS:
        return getattr(import_module(_DOORS[name]), name)
    if name in _ROOMS:
        return import_module(f"carlib.{name}")
    raise AttributeError(f"module 'carlib' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
