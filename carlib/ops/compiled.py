"""numba's compiler as this project uses it: what was compiled is kept where a folder can be written to."""

import os
import sys

import numba
from numba import njit
from numba.core import event


def compiled(**options):
    """numba.njit that keeps what it compiled, or where no folder can be written to compiles again in each process."""

    def decorate(function):
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # "no locator available"
            return njit(**options)(function)

    return decorate


class _Notice(event.Listener):
    """Says once why nothing happens yet, to someone who waits at a terminal."""

    told = False

    def on_start(self, event):
        ours = (event.data["dispatcher"].py_func.__module__ or "").startswith("carlib.")  # None: made by exec
        if ours and not self.told and sys.stderr.isatty():
            from tqdm import tqdm  # here: a bar may be on its line

            self.told = True
            tqdm.write("compiling loops for this processor, the first time: up to a minute", file=sys.stderr)

    def on_end(self, event):
        pass


notice = _Notice()
event.register("numba:compile", notice)


def threads() -> int:
    """How many a loop may use: PyTorch's number; of a process that has none of it OMP_NUM_THREADS, else all cores."""
    most, given = numba.config.NUMBA_NUM_THREADS, os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if torch := sys.modules.get("torch"):  # not imported: downscalers without networks need none of it
        return max(1, min(torch.get_num_threads(), most))
    return max(1, min(int(given), most)) if given.isdecimal() else most


def use_torch_threads():
    """torch.set_num_threads governs compiled loops, too."""
    torch = sys.modules.get("torch")
    wanted = torch and torch.get_num_threads()
    numba.set_num_threads(threads())
    if torch and torch.get_num_threads() != wanted:  # numba's first launch sets OpenMP's number, which is torch's, too
        torch.set_num_threads(wanted)


def as_array(tensor, dtype):
    """A tensor on the CPU as compiled loops take it: C-contiguous, without gradient; its own memory where it is so."""
    return tensor.detach().to(dtype).contiguous().numpy()


def launch(loop, *arguments):
    """Run a compiled loop with PyTorch's threads."""
    use_torch_threads()
    loop(*arguments)
