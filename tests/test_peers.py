"""Table 4: rows that were printed only, claims of order, public weights, and what is marked."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from carlib import cells, data, evaluate, models, rescale, results, runs, tables
from carlib.notebook import ParameterError
from carlib.studies import peers, public_weights

IMAGES = np.array([30.0, 34.0, 38.0, 28.0, 33.0])  # of Set5
NOTHING = pd.DataFrame(columns=results.ROW_COLUMNS)
STAGES = yaml.safe_load((Path(__file__).resolve().parent.parent / "dvc.yaml").read_text())["stages"]

pytestmark = pytest.mark.usefixtures("one_thread")


def rows(steps, scale=2):
    """A row an image of Set5; steps: run -> what it has more than IMAGES."""
    fixed = {"profile": "demo", "scale": scale, "set": "set5", "protocol": "standard"}
    return pd.DataFrame([
        {**fixed, "run": run, "image": f"{number}", "metric": metric, "value": value + step}
        for run, step in steps.items() for metric in ("psnr", "ssim") for number, value in enumerate(IMAGES)
    ], columns=results.ROW_COLUMNS)  # fmt: skip


def line(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


X2 = {"car-edsr-x2": 3.0, "bicubic-edsr-x2": 0.0, "cnn-cr-cnn-sr-x2": 2.0, "tad-tau-x2": 1.0, "irn-irn-x2": 6.0}


def test_every_printed_value_is_in_the_table_once(home):
    table = peers.table(NOTHING, {}, "demo")
    assert len(table) == 270 + 20 + 57 and table.ours.isna().all()  # Table 4, EDSR of Table 1, later.csv
    assert table.groupby("group", sort=False).size().index.tolist() == ["bicubic", "learned", "later"]
    assert set(table[table.group == "later"].source) > {"IRN README"} and "CAR paper" not in set(
        table[table.group == "later"].source
    )
    zssr = line(table, upscaler="zssr", scale=2, set="set5", metric="psnr")
    assert (zssr.printed, zssr.weights) == (37.37, "of each image, 50 steps")
    assert (zssr.run, zssr.note) == ("bicubic-zssr-x2", "set not measured")
    later = line(table, upscaler="hcflow", scale=4, metric="psnr")
    assert (later.weights, later.run) == ("not trained here", "")
    elsewhere = table[(table.group == "later") & (table.upscaler == "tau")]
    assert len(elsewhere) and set(elsewhere.weights) == {"ours: see CAR paper"}


def test_every_printed_network_on_bicubic_lr_has_a_run(home):
    printed = peers.published().query("group == 'bicubic'")
    wanted = set(zip(printed.upscaler, printed.scale, strict=True))
    cells_of = [cell for cell in cells.of(4, "mini") if cell.downscaler == "bicubic"]
    assert {(cell.upscaler, cell.scale) for cell in cells_of} == wanted
    for cell in cells_of:
        run = runs.get(cell.run, "mini")
        assert public_weights.printed_name(run.upscaler) == cell.upscaler and run.loss == (cell.loss or "l2")
        assert run.trains != (run.upscaler == "zssr")


def test_errata_are_shown_marked_and_not_judged(home):
    table = peers.table(rows(X2), {}, "demo")
    typo = line(table, downscaler="car", upscaler="tau", scale=2, set="bsd100", metric="ssim")
    assert typo.printed == 0.7592 and "repeats the x4 value" in typo.note and np.isnan(typo.printed_difference)
    other = table[(table.upscaler == "srcnn") & (table.set == "div2k")]
    assert len(other) == 4 and other.printed_difference.isna().all() and other.note.str.contains("RGB").all()
    grid = tables.grid(table, peers._SHOWN, peers._doubted(table))
    shown = line(grid, upscaler="srcnn", scale=2)
    assert shown.div2k.endswith("(33.05*)") and shown.set5.endswith("(36.66)")
    disputed = line(table, upscaler="tau", downscaler="tad", scale=2, set="set5", metric="psnr", group="learned")
    assert disputed.verdict == "more than printed" and "38.46" in disputed.note


def test_others_are_compared_with_car_of_the_profiles_own_loss(home):
    table = peers.table(rows(X2), {"car-edsr-x2-l1": "missing: no weights are shipped"}, "demo", 2)
    at = {"set": "set5", "metric": "psnr"}
    bicubic = line(table, downscaler="bicubic", upscaler="edsr", **at)
    assert bicubic.difference == pytest.approx(-3) and bicubic.printed_difference == pytest.approx(38.06 - 39.01)
    assert bicubic.verdict == "more than printed" and bicubic.n == 5
    assert bicubic.weights == "of profile demo, 5,000 steps"
    irn = line(table, upscaler="irn", source="IRN README", **at)
    assert irn.difference == pytest.approx(3) and irn.printed == 43.99 and irn.verdict == "reproduced"
    lost = line(table, downscaler="car", upscaler="edsr", loss="l1", source="CAR paper", **at)
    assert np.isnan(lost.ours) and lost.weights == "missing: no weights are shipped" and lost.printed == 38.94
    own = line(table, downscaler="car", upscaler="edsr", loss="l2", **at)
    assert own.verdict == "not tested" and own.ours == pytest.approx(35.6) and np.isnan(own.off)
    assert set(table.scale) == {2}


def test_car_with_the_upscalers_of_others_is_measured_and_not_taken_for_car_with_edsr(home):
    table = peers.table(rows(X2 | {"car-cnn-sr-x2": 2.5, "car-tau-x2": 1.5}), {}, "demo", 2)
    for upscaler, difference, printed, verdict in (
        ("cnn-sr", -0.5, 38.91 - 39.01, "more than printed"), ("tau", -1.5, 37.93 - 39.01, "reproduced"),
    ):  # fmt: skip
        found = line(table, downscaler="car", upscaler=upscaler, set="set5", metric="psnr")
        assert found.difference == pytest.approx(difference) and found.run == f"car-{upscaler}-x2"
        assert found.printed_difference == pytest.approx(printed, abs=0.011) and found.verdict == verdict


def test_car_with_the_upscaler_of_another_is_judged_beside_it(home):
    found = peers.claims(rows(X2 | {"car-cnn-sr-x2": 4.5, "car-tau-x2": 0.5}), "demo", 2).set_index("claim")
    better, worse = (found.loc[text] for text in peers.ALIKE.values())
    paper, ours = "paper (Set5 / B100, dB)", "ours (mean, dB)"
    assert (better[ours], better.verdict) == (pytest.approx(4.5 - X2["cnn-cr-cnn-sr-x2"]), "more than printed")
    assert worse[ours] == pytest.approx(0.5 - X2["tad-tau-x2"]) and worse.verdict == "not"
    assert better[paper].startswith("+0.03") and worse[paper].startswith("+0.24")


def test_car_is_first_if_it_is_before_each_of_the_others(home):
    claims = peers.claims(rows(X2), "demo", 2)
    more, irn = "more than printed", "reproduced"
    alike = ["not tested"] * len(peers.ALIKE)  # CAR with CNN-SR and with TAU were not measured
    assert claims.verdict.tolist() == [more] * 4 + alike + [irn] and claims.claim.tolist()[-1] == peers.IRN
    first = claims[claims.claim.str.contains("first")].iloc[0]
    assert first["ours (mean, dB)"] == 1.0 and first["paper (Set5 / B100, dB)"].startswith("+0.13 / -0.08")
    behind = peers.claims(rows(X2 | {"cnn-cr-cnn-sr-x2": 3.5}), "demo", 2)
    assert behind.verdict.tolist() == [more, "not", more, "not", *alike, irn]
    near = peers.claims(rows(X2 | {"cnn-cr-cnn-sr-x2": 2.85}), "demo", 2)  # before it by 0.15 dB, printed are 0.13
    assert near.verdict.tolist() == [more, "reproduced", more, "reproduced", *alike, irn]
    part = peers.claims(rows({name: step for name, step in X2.items() if name != "tad-tau-x2"}), "demo", 2)
    assert part.verdict.tolist() == [more, more, "not tested", "not tested", *alike, irn]


def test_what_is_written_is_what_the_stage_declares_and_named_by_a_choice(home):
    peers.write(rows(X2), {}, "demo")
    peers.write(rows(X2), {}, "demo", 2, ["set5"])
    folder = results.folder("demo")
    whole = {next(iter(out)).replace("${profile}", "demo") for out in STAGES["table4"]["outs"]}
    part = {name.replace("table4", "table4_x2_set5") for name in whole}
    written = {str(path.relative_to(home)) for kind in ("tables", "metrics") for path in (folder / kind).iterdir()}
    assert written == {name for name in whole | part if not name.endswith(".ipynb")}
    deps = {dep.rpartition("/")[2] for dep in STAGES["table4"]["deps"] if "/runs/" in dep}
    assert deps == {name for name in cells.names(4, "demo") if runs.get(name, "demo").trains}


# ---- public weights -----------------------------------------------------------------------------------


@pytest.fixture
def checkpoints(home, tmp_path, monkeypatch):
    """A set5 of one image, and untrained weights of SRCNN in their public layout."""
    draw = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(draw.normal(0, 2, (26, 36, 3)), 0), 1)
    data.write_image(tmp_path / "sets" / "Set5" / "a.png", np.clip(smooth + 128, 0, 255).astype(np.uint8))
    monkeypatch.setenv("CARLIB_DATA", str(tmp_path / "sets"))
    torch.manual_seed(0)
    path = tmp_path / "srcnn.pth"
    torch.save(models.create("srcnn", 2).state_dict(), path)
    return {"srcnn-x2": str(path)}


def test_a_public_checkpoint_is_measured_on_bicubic_lr(checkpoints):
    measured = public_weights.measure(checkpoints, "demo", ["set5"], device="cpu", progress=False)
    assert [(row["run"], row["upscaler"], row["metric"]) for row in measured] == [
        ("srcnn-x2", "srcnn", "psnr"), ("srcnn-x2", "srcnn", "ssim"),
    ]  # fmt: skip
    chain = public_weights.chain("srcnn-x2", checkpoints, "demo", device="cpu")
    assert isinstance(chain, evaluate.Chain) and not chain.networks.training
    ((_, image),) = data.load("set5")
    hr = data.crop_to_multiple(image, 2)
    lr, sr = chain(hr)
    np.testing.assert_array_equal(lr, rescale.classical("bicubic")(hr, 2))
    network = models.create("srcnn", 2).eval()
    network.load_state_dict(torch.load(checkpoints["srcnn-x2"], weights_only=True))
    np.testing.assert_array_equal(sr, rescale.restore(network, lr))


def test_it_is_judged_by_what_is_printed_beside_our_run_of_the_network(checkpoints):
    measured = rows({**X2, "srcnn-x2": 4.055, "bicubic-srcnn-x2": 1.0})  # 36.655, printed: 36.66
    table = peers.table(measured, {}, "demo", 2, checkpoints)
    at = {"upscaler": "srcnn", "set": "set5", "weights": "public weights"}
    found = line(table, metric="psnr", **at)
    assert (found.run, found.verdict, found.printed) == ("srcnn-x2", "reproduced", 36.66)
    assert found.off == pytest.approx(-0.005) and np.isnan(found.difference)
    assert line(table, metric="ssim", **at).verdict == "not"
    own = line(table, metric="psnr", **at | {"weights": "of profile demo, 1,500 steps"})
    assert (own.run, own.printed) == ("bicubic-srcnn-x2", 36.66) and own.difference == pytest.approx(-2)
    assert len(peers.claims(rows({**X2, "srcnn-x2": 4.055}), "demo", 2, checkpoints)) == 7


def test_a_network_that_was_not_printed_or_is_trained_here_gets_a_row_of_its_own(checkpoints):
    others = {"carn-m-x2": checkpoints["srcnn-x2"], "edsr-x2": checkpoints["srcnn-x2"]}
    table = peers.table(rows({**X2, "carn-m-x2": 1.0, "edsr-x2": 6.0}), {}, "demo", 2, others)
    assert line(table, upscaler="carn-m", metric="psnr").weights == "public weights"
    edsr = table[(table.downscaler == "bicubic") & (table.upscaler == "edsr") & (table.metric == "psnr")]
    assert edsr[edsr.set == "set5"].weights.tolist() == ["of profile demo, 5,000 steps", "public weights"]


@pytest.mark.parametrize(("wanted", "told"), [
    ({"vdsr": "x.pth"}, "checkpoints has 'vdsr': name network and scale, as vdsr-x4; known are edsr, "),
    ({"vdsr-x3": "x.pth"}, "'vdsr-x3': name network and scale"),
    ({"irn-x2": "x.pth"}, "'irn-x2': name network and scale"),
    ({"vdsr-x2": "x.pth"}, r"checkpoints, vdsr-x2: there is no file x\.pth"),
    ({"vdsr-x2": 3}, "vdsr-x2: 3 is neither a file nor"),
    ({"vdsr-x2": {"bias": False}}, "is neither a file nor"),
])  # fmt: skip
def test_checkpoints_that_cannot_be_meant_are_refused(home, wanted, told):
    with pytest.raises(ParameterError, match=told) as refusal:
        peers.check(None, None, wanted)
    assert "\n" not in str(refusal.value)


def test_other_wrong_parameters_are_refused(checkpoints):
    with pytest.raises(ParameterError, match="scale=3 is not in Table 4: use 2 or 4"):
        peers.check(3)
    with pytest.raises(ParameterError, match="checkpoints has srcnn-x2, of which scale=4 leaves nothing"):
        peers.check(4, None, checkpoints)
    wrong = {"vdsr-x2": checkpoints["srcnn-x2"]}
    with pytest.raises(ValueError, match="does not fit VDSR"):
        public_weights.measure(wrong, "demo", ["set5"], progress=False)
    unknown = {"srcnn-x2": {"file": checkpoints["srcnn-x2"], "depth": 3}}
    with pytest.raises(ValueError, match="srcnn cannot be made with"):
        public_weights.measure(unknown, "demo", ["set5"], progress=False)
