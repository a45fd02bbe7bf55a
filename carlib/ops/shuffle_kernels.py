"""The loop behind the gradient of pixel shuffles with channels last in memory, compiled for the CPU."""

from numba import prange

from carlib.ops.compiled import compiled


@compiled(parallel=True)
def halve(large, small):
    """small (N, h, w, C * 4) = pixel unshuffle by 2 of large (N, h, 2, w * 2, C); a job is a row of the small image."""
    height, width = small.shape[1:3]
    for job in prange(small.shape[0] * height):
        pixels, rows = small[job // height, job % height], large[job // height, job % height]
        for x in range(width):
            for c in range(rows.shape[2]):
                pixels[x, 4 * c] = rows[0, 2 * x, c]
                pixels[x, 4 * c + 1] = rows[0, 2 * x + 1, c]
                pixels[x, 4 * c + 2] = rows[1, 2 * x, c]
                pixels[x, 4 * c + 3] = rows[1, 2 * x + 1, c]
