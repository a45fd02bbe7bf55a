"""Table 1's pair under several seeds: the gain is paired by seed, and its interval is Student's."""

import math

import numpy as np
import pandas as pd
import pytest
import yaml

from carlib import cells, results
from carlib.studies import seeds

IMAGES = np.array([30.0, 34.0, 38.0, 28.0, 33.0])  # of Set5


def rows(values):
    """A row an image; values: run -> what is added to every image."""
    fixed = {"profile": "mini", "upscaler": "edsr", "scale": 2, "set": "set5", "protocol": "standard", "metric": "psnr"}
    return pd.DataFrame([
        {**fixed, "run": run, "downscaler": run.partition("-")[0], "image": f"image{number}", "value": image + step}
        for run, step in values.items() for number, image in enumerate(IMAGES)
    ])  # fmt: skip


def test_gains_are_paired_by_seed(home):
    table = seeds.table(rows({
        "bicubic-edsr-x2": 0, "bicubic-edsr-x2-seed1": 10, "bicubic-edsr-x2-seed2": 20,
        "car-edsr-x2": 1.0, "car-edsr-x2-seed1": 11.5, "car-edsr-x2-seed2": 22.0,
    }), "mini")  # fmt: skip
    line = table.iloc[0]
    assert len(table) == 1 and list(table.columns) == seeds.COLUMNS
    assert (line.n, line.seeds, line.gain, line.lowest, line.highest) == (5, 3, 1.5, 1.0, 2.0)
    assert line.bicubic == pytest.approx(IMAGES.mean() + 10) and line.car == pytest.approx(IMAGES.mean() + 11.5)
    assert line.interval == pytest.approx(4.302653 * 0.5 / math.sqrt(3), abs=1e-5)  # Student, two degrees of freedom
    assert line.printed_gain == pytest.approx(38.94 - 38.06)


def test_a_seed_with_one_of_both_is_left_out(home):
    table = seeds.table(rows({"bicubic-edsr-x2": 0, "bicubic-edsr-x2-seed1": 10, "car-edsr-x2": 1.0}), "mini")
    line = table.iloc[0]
    assert line.seeds == 1 and line.gain == 1.0 and math.isnan(line.interval)
    assert line.bicubic == pytest.approx(IMAGES.mean())


def test_a_scale_may_have_fewer_seeds(home):
    at_x4 = rows({"bicubic-edsr-x4": 0, "car-edsr-x4": 2.0, "car-edsr-x4-seed1": 9.0}).assign(scale=4)
    at_x2 = rows({
        "bicubic-edsr-x2": 0, "bicubic-edsr-x2-seed1": 10, "car-edsr-x2": 1.0, "car-edsr-x2-seed1": 11.5,
    })  # fmt: skip
    table = seeds.table(pd.concat([at_x4, at_x2]), "mini")
    assert table[["scale", "seeds", "gain"]].to_numpy().tolist() == [[2, 2, 1.25], [4, 1, 2.0]]
    assert table.car[1] == pytest.approx(IMAGES.mean() + 2) and math.isnan(table.interval[1])


def test_as_many_seeds_as_params_yaml_wants(home):
    content = yaml.safe_load((home / "params.yaml").read_text())
    content["seeds"] = {"pair": {"smoke": 2}}
    (home / "params.yaml").write_text(yaml.safe_dump(content))
    pair = ["bicubic-edsr-x2", "car-edsr-x2", "bicubic-edsr-x4", "car-edsr-x4"]
    wanted = [*pair, *(f"{name}-seed1" for name in pair)]
    assert seeds.names("smoke") == wanted
    assert set(wanted) < set(cells.names(1, "smoke")) and len(cells.names(1, "smoke")) == len(cells.of(1, "smoke")) + 4


def test_what_is_written_is_the_same_each_time(home):
    found = [seeds.write(rows({"bicubic-edsr-x2": 0, "car-edsr-x2": 1}), "mini") for _ in range(2)]
    written = pd.read_csv(results.folder("mini", "tables", "seeds.csv"))
    assert found[0].equals(found[1]) and written.gain.tolist() == [1.0]
