"""The pictures of the paper and of this kit: data in, a matplotlib Figure out.

Nothing here computes a metric, loads a model or touches a file; what these functions return artefacts.save_figure
writes. Figures are built with matplotlib's object-oriented API in one fixed style, whatever the caller's rcParams are.
"""

from carlib.figures.bars import bench
from carlib.figures.comparisons import crops
from carlib.figures.curves import training_curve
from carlib.figures.gains import changes, gains
from carlib.figures.jpeg_curves import jpeg_curves
from carlib.figures.preferences import preferences
from carlib.figures.rate_curves import rate_curves
from carlib.figures.sampling import sampling
from carlib.figures.spectra import spectra
from carlib.figures.tap_maps import kernels_offsets
from carlib.figures.tap_places import effective_kernels
from carlib.figures.wheel import colour_wheel, offset_colours

__all__ = [
    "bench",
    "changes",
    "colour_wheel",
    "crops",
    "effective_kernels",
    "gains",
    "jpeg_curves",
    "kernels_offsets",
    "offset_colours",
    "preferences",
    "rate_curves",
    "sampling",
    "spectra",
    "training_curve",
]
