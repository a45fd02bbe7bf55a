"""LR images that training reads: made once by a classical downscaler, which may take long, and kept as sets are.

How they are kept decides no weights, so this is no part of a run's recipe (checkpoint.code_digest); what makes them is.
"""

import hashlib
import json

import numpy as np

from carlib import data, provenance, rescale, runs, sources
from carlib.data import decoded


def of_run(run: runs.Run, hr) -> list[np.ndarray]:
    """What the run's classical downscaler makes of uint8 images (H, W, 3), read-only; see `decoded.kept`.

    What was kept counts only for these pixels, and for the code and the versions of libraries that made it.
    """

    def downscaled(image):
        return rescale.classical(run.classical)(image, run.scale)

    if sources.edited():  # the code that runs is not the code that the key names
        return [downscaled(image) for image in hr]
    made_by = [run.classical, run.scale, sources.digest_of_downscaler(run.classical), provenance.versions()]
    key = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode())
    for image in hr:
        key.update(f"{image.shape}".encode() + image.tobytes())
    name = f"{'+'.join(map(data.label, run.train_sets))}-{run.classical}-x{run.scale}"
    return decoded.kept(name, key.hexdigest(), hr, downscaled, "downscaling")
