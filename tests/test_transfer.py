"""Table 2: its rows, the order joint > frozen > bicubic, and weights that are missing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from carlib import cells, overview, results
from carlib.notebook import ParameterError
from carlib.studies import transfer

IMAGES = np.array([30.0, 34.0, 38.0, 28.0, 33.0])  # of Set5
STAGES = yaml.safe_load((Path(__file__).resolve().parent.parent / "dvc.yaml").read_text())["stages"]
JOINT, FROZEN = "CAR, trained jointly", "CAR, trained with EDSR, frozen"


def rows(network="rcan", *, joint=1.2, frozen=0.7, metrics=("psnr", "ssim"), images=IMAGES):
    """A row an image; the two CARs differ from bicubic by a constant."""
    steps = {f"bicubic-{network}-x4": 0.0, f"car-{network}-x4": joint, f"car-{network}-x4-frozen": frozen}
    fixed = {"profile": "demo", "upscaler": network, "scale": 4, "set": "set5", "protocol": "standard"}
    return pd.DataFrame([
        {**fixed, "run": run, "image": f"{number}", "metric": metric, "value": value + step}
        for run, step in steps.items() for metric in metrics for number, value in enumerate(images)
    ], columns=results.ROW_COLUMNS)  # fmt: skip


def test_a_network_is_compared_with_itself_on_bicubic_lr(home):
    table = transfer.table(rows(), {}, "demo", ["rcan"])
    set5 = table[(table.set == "set5") & (table.metric == "psnr")].set_index("lr")
    assert set5.ours.round(6).tolist() == [32.6, 33.8, 33.3] and set5.printed.tolist() == [32.63, 33.84, 33.37]
    assert set5.difference[[JOINT, FROZEN]].tolist() == pytest.approx([1.2, 0.7])
    assert set5.printed_difference[JOINT] == pytest.approx(1.21) and set5.verdict[JOINT] == "reproduced"
    assert set5.run.tolist() == ["bicubic-rcan-x4", "car-rcan-x4", "car-rcan-x4-frozen"] and set(set5.n) == {5}
    others = table[table.set != "set5"]
    assert set(others.set) == {"set14", "bsd100", "urban100", "div2k"} and set(others.note) == {"set not measured"}


def test_nothing_shipped_is_no_error_and_says_so(home):
    absent = {cell.run: "missing: no weights are shipped" for cell in cells.of(2)}
    table = transfer.table(pd.DataFrame(columns=results.ROW_COLUMNS), absent, "demo")
    assert len(table) == 114 and set(table.note) == {"missing: no weights are shipped"}  # as many as were printed
    assert set(transfer.claims(pd.DataFrame(columns=results.ROW_COLUMNS)).verdict) == {"not tested"}


@pytest.mark.parametrize(("joint", "frozen", "verdicts"), [
    (1.2, 0.7, ["reproduced", "reproduced"]),  # of the 0.47 and 0.74 dB printed neither is 1.5 times exceeded
    (4.2, 2.2, ["more than printed", "more than printed"]),
    (0.5, 0.7, ["not", "reproduced"]),
    (1.2, -0.1, ["more than printed", "not"]),
    (-0.7, -0.2, ["not", "not"]),
])  # fmt: skip
def test_each_step_has_a_verdict(home, joint, frozen, verdicts):
    claims = transfer.claims(rows(joint=joint, frozen=frozen), ["rcan"])
    steps = ["joint - frozen", "frozen - bicubic"]
    lines = claims[claims.set == "set5"]
    assert lines.step.tolist() == steps and lines.n.tolist() == [5, 5] and lines.paper.tolist() == [0.47, 0.74]
    assert lines.ours.tolist() == pytest.approx([joint - frozen, frozen]) and lines.verdict.tolist() == verdicts
    for step, verdict in zip(steps, verdicts, strict=True):
        own = claims[claims.step == step]
        assert own.set.tolist() == ["set5", "set14", "bsd100", "urban100", "div2k", "all printed"]
        assert own.verdict.tolist()[1:] == ["not tested"] * 4 + [verdict]


def test_the_mean_is_of_sets_that_were_measured_and_printed(home):
    """Not of the demo photographs, and what is printed beside it is the mean of the same sets."""
    parts = [rows(), rows(joint=2.0, images=np.tile(IMAGES, 20)).assign(set="bsd100"),
             rows(joint=9.0, images=np.tile(IMAGES, 3)[:11]).assign(set="demo")]  # fmt: skip
    means = transfer.claims(pd.concat(parts), ["rcan"]).query("set == 'all printed'")
    assert means.n.tolist() == [105, 105] and means.ours.tolist() == [0.9, 0.7]
    assert means.paper.tolist() == [0.34, 0.96]
    means = transfer.claims(parts[-1], ["rcan"]).query("set == 'all printed'")
    assert means.n.tolist() == [0, 0] and means.ours.isna().all()


def test_a_step_without_one_of_its_runs_is_not_tested(home):
    part = rows()[lambda frame: frame.run != "car-rcan-x4"]
    joint, frozen = transfer.claims(part, ["rcan"]).query("set == 'set5'").to_dict("records")
    assert (frozen["ours"], frozen["95 %"], frozen["verdict"], frozen["n"]) == (0.7, "[+0.70, +0.70]", "reproduced", 5)
    assert (joint["95 %"], joint["verdict"], joint["n"]) == ("", "not tested", 0) and np.isnan(joint["ours"])


def test_what_is_written_is_what_the_stage_declares_and_named_by_a_choice(home):
    transfer.write(rows(), {}, "smoke")
    transfer.write(rows(), {}, "smoke", ["rcan"], ["set5"], train=False)
    folder = results.folder("smoke")
    whole = {next(iter(out)).replace("${profile}", "smoke") for out in STAGES["table2"]["outs"]}
    part = {name.replace("table2", "table2_rcan_set5") for name in whole}
    written = {str(path.relative_to(home)) for kind in ("tables", "metrics") for path in (folder / kind).iterdir()}
    assert written == {name for name in whole | part if not name.endswith(".ipynb")}
    told = (folder / "tables" / "table2_rcan_set5.json").read_text()
    assert '-y \\"{networks: [rcan], sets: [set5], train: false}\\"' in told


def test_the_stage_needs_the_runs_of_the_table(home):
    deps = [dep.rpartition("/")[2] for dep in STAGES["table2"]["deps"] if "/runs/" in dep]
    assert deps == cells.names(2, "demo")


def test_profile_demo_measures_what_is_shipped(home, monkeypatch):
    """Here nothing is: the images are read by none."""
    monkeypatch.setattr(overview, "line", lambda name, profile: {"state": "missing", "note": ""})
    table, claims = transfer.study("demo", ["rdn"], ["demo"], device="cpu", progress=False)
    assert set(table.network) == {"RDN"} and table.ours.isna().all() and len(claims) == 12


@pytest.mark.parametrize("networks", [["ddbpn"], [], ["rdn", "edsr"]])
def test_networks_that_are_not_in_the_table_are_refused(home, networks):
    with pytest.raises(ParameterError, match="are not in Table 2: use some of srdensenet, d-dbpn, rdn, rcan"):
        transfer.check(networks)
