"""Freed memory is kept between steps, and large tensors lie in huge pages."""

import ctypes
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from short_runs import go, short

from carlib import evaluate, memory, method_networks

OTHERS = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_PR", "THP_"))}


def printed(script, *arguments, **settings) -> int:
    """The number that a script prints in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    return int(subprocess.check_output(command, env=OTHERS | settings))


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc alone has it")
def test_freed_memory_is_kept_for_the_next_step():
    script = """
        import resource, sys
        import numpy as np
        from carlib import memory
        if "keep" in sys.argv:
            memory.keep_freed()
        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            [np.ones(6 * 2**20, np.float32) for _ in range(4)]  # 24 MiB each
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        faults()
        print(faults())
    """
    assert printed(script, "keep") < printed(script) / 4
    assert printed(script, "keep", MALLOC_MMAP_THRESHOLD_="65536") > 0  # what the user says holds


def test_training_on_a_cpu_keeps_freed_memory(home, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "keep_freed", lambda: asked.append(True))
    go(short(steps=1, validate_every=1), tmp_path)
    assert asked


@pytest.mark.skipif(
    not memory._HUGE_PAGES.is_file() or "[never]" in memory._HUGE_PAGES.read_text(), reason="no huge pages here"
)
def test_large_tensors_ask_for_huge_pages():
    """After PyTorch and we were imported, as by `carlib.upscale` in a notebook; whether Linux has some is its own."""
    script = """
        import re, sys
        import carlib.evaluate
        from carlib import memory
        if "huge" in sys.argv:
            memory.use_huge_pages()
        import torch
        tensor = torch.ones(2**24)
        for line in open("/proc/self/smaps"):
            if found := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
                first, end = (int(address, 16) for address in found.groups())
            if line.startswith("VmFlags:") and first <= tensor.data_ptr() + 2**21 < end:
                print(int("hg" in line.split()))  # asked for by madvise
    """
    assert printed(script, "huge") == 1
    assert printed(script) == printed(script, "huge", THP_MEM_ALLOC_ENABLE="0") == 0  # what the user says holds


@pytest.mark.parametrize(("told", "asks"), [
    ("always [madvise] never", True), ("[always] madvise never", True), ("always madvise [never]", False), (None, False)
])  # fmt: skip
def test_huge_pages_are_asked_for_where_the_system_has_them(tmp_path, monkeypatch, told, asks):
    path = tmp_path / "enabled"
    if told:
        path.write_text(told)
    seen = []
    monkeypatch.setattr(memory, "_HUGE_PAGES", path)
    monkeypatch.setattr(torch, "empty", lambda count: seen.append(os.environ["THP_MEM_ALLOC_ENABLE"]))
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    memory.use_huge_pages()
    assert seen == ["1"] * asks and "THP_MEM_ALLOC_ENABLE" not in os.environ  # other processes choose for themselves
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    memory.use_huge_pages()
    assert len(seen) == asks and os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


def test_down_and_upscaling_and_measuring_ask_for_them(monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "use_huge_pages", lambda: asked.append(True))
    with pytest.raises(ValueError, match="nowhere"):
        method_networks._loaded("nowhere.safetensors", "cpu")
    with pytest.raises(ValueError, match="cannot be used"):
        evaluate.Chain(short(), device="nowhere")
    assert len(asked) == 2
