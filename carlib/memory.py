"""How this process holds its memory: what is given back to the system comes again as pages that are cleared first."""

import contextlib
import ctypes
import os
import sys
from pathlib import Path

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_ASKED = "THP_MEM_ALLOC_ENABLE"


def keep_freed():
    """Have the C library keep what this process frees, for its next step (glibc's; others are left as they are).

    Else activations are given back to the system at every step: thousands of page faults, a tenth of a step of mini
    size on one core, more where another process trains beside it.
    Where the environment settles glibc's memory (MALLOC_..., GLIBC_TUNABLES), that holds.
    """
    settled = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt and not settled:
        mallopt(-3, 2**25)  # M_MMAP_THRESHOLD: larger blocks come and go alone; the most that glibc itself goes up to
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: what is free at the heap's end stays


def use_huge_pages():
    """Have PyTorch ask Linux for pages of 2 MiB, not 4 KiB, for tensors of that size and more.

    A photograph's activations are larger than what `keep_freed` keeps: half of the time of down- and upscaling would go
    to page faults. It takes up to a fifth more memory. PyTorch looks at its first tensor whether to do so; after that
    this changes nothing. Where the environment says so or otherwise (THP_MEM_ALLOC_ENABLE), that holds.
    """
    try:
        chosen = _HUGE_PAGES.read_text()
    except OSError:  # no Linux, or one without them, where PyTorch would warn
        return
    if "[never]" in chosen or _ASKED in os.environ:
        return
    import torch

    os.environ[_ASKED] = "1"
    torch.empty(1)
    del os.environ[_ASKED]  # other processes may choose for themselves


@contextlib.contextmanager
def shortage_told():
    """Within it PyTorch's errors for want of memory, which are RuntimeErrors, are MemoryErrors of one line."""
    import torch

    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise MemoryError(str(error).splitlines()[0].rpartition("] ")[2]) from error
