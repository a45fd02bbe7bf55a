"""Times and memory of calls that race each other: what the benchmarks share."""

import os
import subprocess
import sys
import time
from math import nan
from pathlib import Path
from statistics import median

from tqdm import tqdm


def in_turns(calls, repeats, job, statistic=median):
    """name -> seconds of each call, their median or another statistic, after one round that is not timed."""
    seconds = {name: [] for name in calls}
    for number in tqdm(range(repeats + 1), desc=job, unit="round"):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if number > 0:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistic(times) for name, times in seconds.items()}


def rows(job, seconds, notes=None, memory=None):
    """One row a candidate, ours first."""
    ours = next(iter(seconds.values()))
    return [
        {
            "case": job,
            "name": name,
            "seconds": value,
            "ratio": value / ours,
            "memory": (memory or {}).get(name, nan),
            "note": (notes or {}).get(name, ""),
        }
        for name, value in seconds.items()
    ]


def number_from_a_child(code) -> float:
    """What `code` prints in a fresh process, in which freed memory is returned at once and so cannot be used unseen."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # bytes; what is larger is mapped and unmapped
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def peak_growth(call):
    """(bytes by which the resident memory grew at its peak during `call`, what it returned); NaN off Linux."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak, VmHWM
        before = _resident("VmRSS")
    except OSError:
        return nan, call()
    found = call()
    return _resident("VmHWM") - before, found


def _resident(field) -> int:
    """Bytes of a field of /proc/self/status."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024
