"""numba's compiler as this project uses it: what was compiled is kept where a folder can be written to."""

from numba import njit


def compiled(**options):
    """numba.njit that keeps what it compiled, or where no folder can be written to compiles again in each process."""

    def decorate(function):
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # "no locator available"
            return njit(**options)(function)

    return decorate
