"""docs/library.md: its blocks run as they stand."""

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.usefixtures("one_thread")
def test_the_blocks_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "data" / "demo" / "coffee.png", "photo.png")
    (tmp_path / "data").symlink_to(ROOT / "data")
    text = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    known = {}
    for block in blocks:
        exec(compile(block, "docs/library.md", "exec"), known)
    assert len(blocks) == 7 and known["sr"].shape == known["hr"].shape and known["stored"].shape == known["lr"].shape
    assert known["sr_float"].shape[2:] == known["hr"].shape[:2] and known["image"].grad is not None
    printed = re.findall(r"^(standard|car-release|rgb) ([\d.]+) ([\d.]+)$", capsys.readouterr().out, re.MULTILINE)
    assert len(printed) == 3 and all(float(psnr) > 25 and 0.8 < float(ssim) < 1 for _, psnr, ssim in printed)
    assert known["exported"].module()(known["torch"].rand(1, 3, 40, 24)).shape == (1, 3, 160, 96)
