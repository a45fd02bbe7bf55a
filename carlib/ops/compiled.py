"""numba's compiler as this project uses it: what was compiled is kept where a folder can be written to."""

import numba
from numba import njit


def compiled(**options):
    """numba.njit that keeps what it compiled, or where no folder can be written to compiles again in each process."""

    def decorate(function):
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # "no locator available"
            return njit(**options)(function)

    return decorate


def use_torch_threads():
    """torch.set_num_threads governs compiled loops, too."""
    import torch  # here: downscalers without networks need none of it

    threads = torch.get_num_threads()
    numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))
    if torch.get_num_threads() != threads:  # numba's first launch sets OpenMP's number, which is torch's as well
        torch.set_num_threads(threads)


def as_array(tensor, dtype):
    """A tensor on the CPU as compiled loops take it: C-contiguous, without gradient; its own memory where it is so."""
    return tensor.detach().to(dtype).contiguous().numpy()


def launch(loop, *arguments):
    """Run a compiled loop with PyTorch's threads."""
    use_torch_threads()
    loop(*arguments)
