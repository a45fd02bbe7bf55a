"""A run's history: weights kept at every validation, and the picture of how kernels and offsets were learned."""

import pandas as pd
import pytest
from matplotlib.text import Text

from carlib import experiments, notebook, results, weights
from carlib.studies import illustrate
from carlib.training import run_folder

TINY = ["steps=6", "validate_every=2", "patch={4: 16}", "validation_crop=32"]
BOX = [40, 120, 48, 64]


def train(folder, *more, name="car-edsr-x4", **options):
    options |= {"folder": folder, "device": "cpu", "progress": False}
    return experiments.prepare(name, "smoke", [*TINY, *more], **options)


def steps(folder):
    return sorted(path.name for path in folder.glob("steps/*"))


def test_every_validation_leaves_its_weights(home, tmp_path):
    folder = tmp_path / "run"
    train(folder)
    assert not steps(folder)
    train(folder, restart=True, history=True)
    assert steps(folder) == ["000002.safetensors", "000004.safetensors", "000006.safetensors"]
    log = pd.read_csv(folder / "log.csv")
    for line, name in zip(log.itertuples(), steps(folder), strict=True):
        _, header = weights.load_run(folder / "steps" / name)
        assert header["steps"] == line.step and header["validation"]["psnr_rgb"] == pytest.approx(line.psnr, abs=1e-3)
    train(folder, "steps=2", restart=True, history=True)
    assert steps(folder) == ["000002.safetensors"]  # nothing of the longer run is left


def test_the_picture_shows_the_start_and_the_kept_steps(home, tmp_path):
    folder = tmp_path / "run"
    train(folder, history=True)
    half = folder / "steps" / ".000002.abcd.safetensors"  # of a killed process
    half.write_bytes(b"")
    figure = illustrate.over_training("smoke", str(folder), "demo/kodim23", 4, BOX)
    titles = " ".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ")
    for title in ("at the start", "after 2 steps", "after 4 steps", "after 6 steps"):
        assert title in titles
    assert results.folder("smoke", "figures", "over_training.png").is_file()
    run_folder.sweep(folder)
    assert not half.exists()


@pytest.mark.parametrize(("count", "chosen"), [(0, []), (1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (100, [0, 4, 21, 99])])
def test_the_steps_shown_spread_evenly_by_logarithm(count, chosen):
    assert illustrate._spread(list(range(count))) == chosen


def test_a_folder_without_history_is_refused(home, tmp_path):
    train(tmp_path / "run")
    with pytest.raises(notebook.ParameterError, match="holds no steps/"):
        illustrate.over_training("smoke", str(tmp_path / "run"), "demo/kodim23", 4, BOX)
    train(tmp_path / "other", name="bicubic-edsr-x4", history=True)
    with pytest.raises(notebook.ParameterError, match="bicubic-edsr-x4, which is no resampler of scale=4"):
        illustrate.over_training("smoke", str(tmp_path / "other"), "demo/kodim23", 4, BOX)


def test_a_finished_run_keeps_no_history_afterwards(home, tmp_path):
    train(tmp_path / "run")
    with pytest.raises(ValueError, match="is finished and kept no weights on the way: --history needs --restart"):
        train(tmp_path / "run", history=True)
