"""How many cores this process may use; without PyTorch, as the number of threads is told before it is imported."""

import os


def count() -> int:
    """Those that taskset, Slurm or a container's set of cores leave it; where that is not told, the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
