"""A run that is killed, at any moment and between any two of its files, continues to the same bits."""

from collections import Counter

import pytest
import torch

from carlib import runs, weights
from carlib.bench import kills
from carlib.bench.kills import Moment

# Just before the log and the checkpoint of step 0 take their places; then weights, log and checkpoint of a validation.
BETWEEN = [Moment("writing", count, 0.0) for count in (2, 3, 5, 4, 5)]


@pytest.fixture(autouse=True)
def one_thread_each(monkeypatch):
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_a_killed_run_continues_to_the_same_bits(home, tmp_path):
    run = runs.get("car-edsr-x2", "smoke", {"validate_every": 2, "patch": {2: 16}, "validation_crop": 32})
    moments = [*BETWEEN, *kills.draw_moments(4, seed=4, every=2)]
    trained, _ = kills.sweep(run, tmp_path, moments)
    assert kills.differences(tmp_path / "whole", tmp_path / "killed") == []
    state = torch.load(tmp_path / "killed" / "last.ckpt", weights_only=True)
    assert state["step"] == trained.steps
    assert [row["step"] for row in state["log"]] == list(range(2, trained.steps + 1, 2))


def test_moments_share_out_over_what_a_run_does():
    moments = kills.draw_moments(20, seed=0, every=3)
    assert Counter(moment.part for moment in moments) == dict.fromkeys(kills.PARTS, 5)
    assert len({moment.fraction for moment in moments}) == 20 and all(0 <= m.fraction < 1 <= m.count for m in moments)
    assert moments == kills.draw_moments(20, seed=0, every=3) != kills.draw_moments(20, seed=1, every=3)


def finished(folder, **changed):
    """A folder as a finished training leaves it."""
    state = {"recipe": "{}", "step": 2, "log": [], "networks": {"w": torch.ones(2)}, "optimizer": {0: [1.0]}, "rng": {}}
    folder.mkdir()
    torch.save({key: changed.get(key, value) for key, value in state.items()}, folder / "last.ckpt")
    header = {"run": "car", "commit": folder.name}
    layer = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.constant_(layer.weight, changed.get("weight", 1))
    torch.nn.init.zeros_(layer.bias)
    weights.save(layer, folder / "weights.safetensors", header)
    (folder / "log.csv").write_text(changed.get("log_csv", f"step,psnr,seconds\n2,30,{folder.name}\n"))
    (folder / f".last.{folder.name}.ckpt").write_text("half")
    return folder


def test_what_two_trainings_left_is_compared_to_the_bit(tmp_path):
    one = finished(tmp_path / "1")
    assert kills.differences(one, finished(tmp_path / "2")) == []  # other seconds, another commit
    for number, (what, changed) in enumerate(
        {
            "step": {"step": 3},
            "networks": {"networks": {"w": torch.tensor([1, 1 + 2**-20])}},
            "optimizer": {"optimizer": {0: [2.0]}},
            "weights": {"weight": 1.001},
            "log": {"log_csv": "step,psnr,seconds\n2,31,1\n"},
        }.items()
    ):
        assert kills.differences(one, finished(tmp_path / f"other{number}", **changed)) == [what]
    (one / "log.csv").unlink()
    assert kills.differences(tmp_path / "2", one)[0].startswith("files (last.ckpt, log.csv, weights")
