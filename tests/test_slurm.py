"""A real Slurm of one node, where its programs are: tests/slurm/one_node.sh, if it is asked for."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WANTED = "CARLIB_TEST_SLURM"
SCRIPT = Path(__file__).with_name("slurm") / "one_node.sh"
pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")


def run(path, timeout):
    return subprocess.run(
        ["bash", str(SCRIPT), sys.executable],
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )


@pytest.mark.skipif(not os.environ.get(WANTED), reason=f"takes a quarter of an hour and more: set {WANTED}=1")
def test_the_cluster_trains_a_table_whatever_happens_to_its_jobs():
    done = run(os.environ["PATH"], 3600)
    last = done.stdout.strip().splitlines()[-1]
    if done.returncode == 0 and last.startswith("SKIPPED: "):
        pytest.skip(last.removeprefix("SKIPPED: "))
    assert done.returncode == 0 and last == "== all is well", done.stdout[-4000:]


def test_the_script_says_which_program_is_missing(tmp_path):
    """Its own checks, with no program but what they call on the PATH."""
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = run(str(tmp_path), 60)
    told = r"SKIPPED: \w+ is not installed \(Debian: slurm-wlm, munge\)\n"  # /usr/sbin may have the daemons
    assert done.returncode == 0 and re.fullmatch(told, done.stdout)
