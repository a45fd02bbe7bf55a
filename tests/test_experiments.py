"""What notebooks and stages call: crops checked, and the whole pipeline at profile smoke."""

import hashlib
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from carlib import artefacts, evaluate, experiments, figures, results, runs
from carlib.notebook import ParameterError
from carlib.studies import (
    ablation,
    attribution,
    content,
    explore,
    figure3,
    figure6,
    illustrate,
    joint,
    jpeg_chroma,
    jpeg_lr,
    lossless,
    lossless_gain,
    protocols,
    rate_distortion,
    sampling,
    scales,
    seeds,
    trials,
)
from carlib.user_study import preferences

ROOT = Path(__file__).resolve().parent.parent
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
BOX = [40, 120, 96, 96]

pytestmark = pytest.mark.usefixtures("one_thread")


def prepare(name, profile="smoke", params=(), **options):
    return experiments.prepare(name, profile, params, device="cpu", progress=False, **options)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_refused(told, call, *arguments, **options):
    with pytest.raises(ValueError, match=told) as refusal:
        call(*arguments, **options)
    assert "\n" not in str(refusal.value)
    return refusal.value


# ---- crops --------------------------------------------------------------------------------------------


def test_a_crop_that_fits_gives_the_image(home):
    hr = illustrate.check_crop("demo/kodim23", 4, BOX)
    assert hr.dtype == np.uint8 and hr.ndim == 3 and not any(side % 4 for side in hr.shape[:2])
    height, width = hr.shape[:2]
    own = shutil.copy(ROOT / "data" / "demo" / "kodim23.png", home / "mine.png")
    np.testing.assert_array_equal(illustrate.check_crop(str(own), 4, BOX), hr)
    np.testing.assert_array_equal(illustrate.check_crop("mine.png", 4, BOX), hr)  # in the project's folder
    assert illustrate.shown(str(own)) == "mine.png" and illustrate.shown("demo/kodim23") == "demo/kodim23"
    illustrate.check_crop("demo/kodim23", 4, [height - 8, width - 4, 8, 4])  # to the very corner
    illustrate.check_crop("demo/kodim23", 2, [0, 0, height, width])


@pytest.mark.parametrize(("image", "scale", "box", "told"), [
    ("demo/kodim23", 5, BOX, r"scale=5 has no runs for Fig\. 3 in params\.yaml: use 2, 3, 4, 8"),
    ("demo/kodim23", "x", BOX, "scale='x' has no runs"),
    ("demo/kodim", 4, BOX, "no image 'kodim' in demo: there are astronaut, camera, "),
    ("nothing/at-all.jpg", 4, BOX, "image='nothing/at-all.jpg': cannot read "),
    ("~nobody-at-all/a.jpg", 4, BOX, "~nobody-at-all/a.jpg: "),
    ("photo.heic", 4, BOX, "image='photo.heic': unknown image set .*; an image is .set/name., or a file"),
    ("demo", 4, BOX, "no image '' in demo"),
    ("demo/sub/kodim23", 4, BOX, "no image 'sub/kodim23' in demo"),
    ("dmeo/kodim23", 4, BOX, r"image='dmeo/kodim23': unknown image set 'dmeo' \(did you mean demo\?\)"),
    ("", 4, BOX, "image='': unknown image set ''"),
    ("urban100/a", 4, BOX, "image='urban100/a': image set urban100 is not here"),
    ("demo/kodim23", 4, [40, 120, 96], r"box=\[40, 120, 96\] is not \[top, left, height, width\]"),
    ("demo/kodim23", 4, [], r"box=\[\] is not"),
    ("demo/kodim23", 4, [40, 120, 96, 96, 0], "is not .* in multiples of scale=4"),
    ("demo/kodim23", 4, [42, 120, 96, 96], r"box=\[42, 120, 96, 96\] is not .* in multiples of scale=4"),
    ("demo/kodim23", 4, [40, 120, 96, 95], "in multiples of scale=4"),
    ("demo/kodim23", 4, [40, 120, 0, 96], "in multiples of scale=4"),
    ("demo/kodim23", 4, [-4, 120, 96, 96], "in multiples of scale=4"),
    ("demo/kodim23", 4, [40.0, 120, 96, 96], "in multiples of scale=4"),
    ("demo/kodim23", 4, ["40", 120, 96, 96], "in multiples of scale=4"),
    ("demo/kodim23", 4, [40, 120, 4000, 96], r"box=.* reaches beyond demo/kodim23, which is \d+ high and \d+ wide"),
    ("demo/kodim23", 4, [40, 4000, 96, 96], "reaches beyond"),
])  # fmt: skip
def test_a_crop_that_does_not_fit_is_refused(home, image, scale, box, told):
    assert isinstance(assert_refused(told, illustrate.check_crop, image, scale, box), ParameterError)


def test_panels_show_a_small_image_and_what_is_restored_from_it():
    hr = np.arange(16 * 24, dtype=np.uint16).reshape(16, 24).astype(np.uint8)  # grey

    def chain(hr):
        return hr[::2, ::2], hr

    chain.run = runs.get("car-edsr-x2", "smoke")
    (title, below, lr), (sr_title, psnr, sr) = illustrate.panels("CAR + EDSR", chain, hr, [0, 0, 8, 12])
    assert (title, below, sr_title) == ("CAR LR", "6×4 px", "CAR + EDSR") and psnr.startswith("inf dB / 1.0")
    assert lr.shape == (8, 12, 3) and sr.shape == (16, 24, 3)
    assert illustrate.panels("CAR", chain, hr, [0, 0, 8, 12], lambda lr: f"{lr.size} numbers")[0][1] == "96 numbers"


# ---- the pipeline -------------------------------------------------------------------------------------


def shown_runs():
    """Runs that a stage with a notebook depends on, those of table2 and table4 apart: they have tests of their own."""
    deps = [dep for name, stage in STAGES.items() if name not in ("table2", "table4") for dep in stage.get("deps", [])]
    return list(dict.fromkeys(dep.rpartition("/")[2] for dep in deps if dep.startswith("results/${profile}/runs/")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project in which every run that the stages need was trained under profile smoke."""
    home = tmp_path_factory.mktemp("smoke")
    shutil.copy(ROOT / "params.yaml", home)
    shutil.copytree(ROOT / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (home / "data").symlink_to(ROOT / "data")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARLIB_HOME", str(home))
        patch.delenv("CARLIB_DATA", raising=False)
        for name in shown_runs():
            prepare(name)
    torch.set_num_threads(threads)
    return home


@pytest.fixture
def smoke(trained, monkeypatch):
    monkeypatch.setenv("CARLIB_HOME", str(trained))
    monkeypatch.delenv("CARLIB_DATA", raising=False)
    return trained


def outs(stage):
    """A stage's outputs under profile smoke, without the executed notebook."""
    paths = [next(iter(out)).replace("${profile}", "smoke") for out in STAGES[stage]["outs"]]
    return [path for path in paths if not path.endswith(".ipynb")]


def test_the_pipeline_makes_every_output_of_its_stages(smoke):
    for folder in ("metrics", "tables", "figures", "report"):
        shutil.rmtree(smoke / "results" / "smoke" / folder, ignore_errors=True)
    table = joint.study("smoke", progress=False)
    seeds.study("smoke", device="cpu", progress=False)
    scales.study("smoke", device="cpu", progress=False)
    scales.figure("smoke")
    parameters = notebook_defaults("01_downscaling_for_sr")
    picture = illustrate.figure3("smoke", *(parameters[f"figure_{name}"] for name in ("image", "scale", "box")))
    parameters = notebook_defaults("06_kernels_offsets")
    arguments = [parameters[name] for name in ("image", "scale", "box")]
    maps, lengths = illustrate.figure4("smoke", *arguments), illustrate.offset_lengths("smoke", *arguments)
    explore.taps("smoke", *arguments)
    sizes = lossless.table5("smoke", progress=False)
    lossless_gain.table("smoke", lossless_gain.study("smoke", device="cpu", progress=False))
    lossless_gain.figure("smoke")
    rates = rate_distortion.study("smoke", device="cpu", progress=False)
    rate_distortion.table("smoke", rates)
    rate_distortion.figure("smoke", rates)
    stored = jpeg_lr.study("smoke", device="cpu", progress=False)
    jpeg_lr.table("smoke", stored), jpeg_lr.rates("smoke", stored), jpeg_lr.prices("smoke", stored)
    jpeg_lr.figure("smoke", stored)
    jpeg_chroma.study("smoke", device="cpu", progress=False)
    measured = figure6.measure("smoke", notebook_defaults("07_spectra")["image"])
    figure6.draw(measured), figure6.crops(measured), figure6.verdicts(figure6.table(measured))
    parts = attribution.study("smoke", progress=False)
    attribution.draw("smoke", parts)
    restored = content.study("smoke", device="cpu", progress=False)
    content.colour("smoke", restored), content.table("smoke", restored)
    content.figure("smoke")
    without, _ = ablation.study("smoke", device="cpu", progress=False)
    parameters = notebook_defaults("03_ablation")
    illustrate.figure5("smoke", parameters["figure_image"], 4, parameters["figure_box"])
    trials.draw(trials.sensitivity(), "smoke")
    sampling.draw("smoke"), figure3.draw("smoke"), protocols.study("smoke", progress=False)
    preferences.kits("smoke", device="cpu", progress=False)
    preferences.table("smoke", preferences.answers("smoke"))
    page = experiments.build_report("smoke")
    named = ("table1", "table5", "rate_distortion", "jpeg", "fig3", "fig4", "fig6", "attribution", "ablation")
    for stage in (*named, "protocol", "user_study", "report"):
        assert [path for path in outs(stage) if not (smoke / path).exists()] == []

    assert list(table.columns) == [
        "upscaler", "downscaler", "scale", "set", "metric", "ours", "seeds", "seed_interval", "printed", "difference",
        "gain", "low", "high", "gain_seed_interval", "printed_gain", "verdict", "n", "run", "profile",
    ]  # fmt: skip
    assert len(table) == 2 * 7 * 2 and set(table["set"]) == {"demo"} and set(table["n"]) == {2}
    assert np.isfinite(table["ours"]).all() and (table["ours"][table.metric == "psnr"] > 5).all()
    assert np.isfinite(table["gain"][table.downscaler == "car"]).all() and set(table["verdict"]) == {"not tested"}
    written = pd.read_csv(smoke / "results/smoke/tables/table1.csv")
    np.testing.assert_allclose(written["ours"], table["ours"], atol=5e-5)
    rows = pd.read_csv(smoke / "results/smoke/metrics/table1.csv")
    assert list(rows.columns) == results.ROW_COLUMNS and len(rows) == 2 * len(table)
    assert len(joint.gains(table)) == 4

    assert list(lengths.columns) == ["run", "mean", "largest", "spread"]
    assert lengths["run"].tolist() == ["car-edsr-x4", "car-edsr-x4-free"]
    assert np.isfinite(lengths[["mean", "largest"]]).all(axis=None) and (lengths["mean"] <= lengths["largest"]).all()
    assert len(picture.axes) == 1 + 1 + 5  # the image, its crop, LR and SR crops
    titles = " ".join(axes.get_title(loc="left") for axes in maps.axes)
    for part in ("bicubic: weights", "CAR: weights", "CAR: offsets", "CAR, no offset loss: offsets"):
        assert part in titles

    assert len(sizes) == 2 * 8 * 3 and set(sizes["n"]) == {2} and set(sizes["verdict"]) == {"not tested"}

    assert len(without) == 2 * 4 * 2 and np.isfinite(without["ours"]).all() and set(without["note"]) == {""}
    assert set(without["seeds"]) == {1} and np.isfinite(without["difference"]).sum() == 2 * 3 * 2

    html = page.read_text(encoding="utf-8")
    assert "Table 1" in html and "Table 5" in html and "Fig. 3" in html and "Fig. 4" in html
    assert html.count("data:image/png") == 15 + 2 * 3 and "Bits against fidelity" in html
    assert "profile smoke" in html
    made = ["tables/table1", "tables/table5", "tables/table5_findings", "tables/table5_totals", "tables/fig6"]
    made += ["tables/lossless_gain", "figures/lossless_gain", "tables/content", "figures/content"]
    made += ["tables/rate_distortion", "tables/rate_distortion_claims", "tables/table3", "tables/table3_claims"]
    made += ["tables/protocol", "tables/table1_grid", "tables/table1_claims", "figures/fig3"]
    for sidecar in (*made, "figures/fig3_x4", "figures/fig4", "figures/fig6", "figures/rate_distortion"):
        fields = json.loads((smoke / f"results/smoke/{sidecar}.json").read_text())
        assert "profile smoke" in fields["title"] and "-p profile smoke" in fields["command"]
        name = re.search(r"notebooks/(\w+)\.ipynb", fields["command"])[1]
        assert (ROOT / "notebooks" / f"{name}.ipynb").is_file()


def notebook_defaults(name):
    """The values of a notebook's parameters cell."""
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    (tagged,) = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    values = {}
    exec("".join(tagged["source"]), values)
    return values


def test_maps_are_cut_from_those_of_the_whole_image(smoke):
    top, left, height, width = BOX
    part = illustrate.tap_maps("smoke", "demo/kodim23", 4, BOX)
    hr = illustrate.check_crop("demo/kodim23", 4, BOX)
    whole = illustrate.tap_maps("smoke", "demo/kodim23", 4, [0, 0, *hr.shape[:2]])
    for name, arrays in part.items():
        for cut, full in zip(arrays, whole[name], strict=True):
            assert cut.shape == (13 * 13, height // 4, width // 4)
            np.testing.assert_array_equal(cut, full[:, top // 4 :, left // 4 :][:, : height // 4, : width // 4])


def test_offset_lengths_by_hand(smoke, monkeypatch):
    kernel = np.array([0.5, -0.25, 0.25, 0.0]).reshape(4, 1, 1)
    offsets = np.array([3.0, 0.0, 0.0, 30.0]).reshape(4, 1, 1), np.array([4.0, 1.0, 0.0, 40.0]).reshape(4, 1, 1)
    monkeypatch.setattr(illustrate, "tap_maps", lambda *arguments: {"a": [kernel, *offsets]})
    (line,) = illustrate.offset_lengths("smoke", "demo/kodim23", 4, BOX).to_dict("records")
    assert line == {"run": "a", "mean": pytest.approx((0.5 * 5 + 0.25 * 1) / 1), "largest": 50.0, "spread": 0.0}


def test_the_spread_of_offsets_is_that_over_lr_pixels_and_not_over_taps():
    kernel = np.array([[[0.25, 0.25]], [[0.75, -0.75]]])
    offset_v, offset_h = np.array([[[1.0, 7.0]], [[2.0, 2.0]]]), np.array([[[4.0, -4.0]], [[9.0, 9.0]]])
    assert illustrate.lengths(kernel, offset_v, offset_h)["spread"] == pytest.approx(0.25 * 5)  # hypot(3, 4), and 0


def test_bicubic_taps_sum_to_one_and_are_the_same_everywhere():
    for scale, size in ((2, 6), (2, 7), (4, 13)):
        taps = illustrate.bicubic_taps(scale, size**2, 3, 5)
        assert taps.shape == (size**2, 3, 5)
        np.testing.assert_allclose(taps.sum(0), 1, atol=1e-6)
        assert (taps == taps[:, :1, :1]).all() and taps.min() < 0


def test_a_figure_that_cannot_be_made_leaves_the_earlier_one(smoke):
    folder = smoke / "results" / "smoke" / "figures"
    paths = [results.write_text(folder / name, "earlier") for name in ("fig3_x4.png", "fig4.png")]
    assert_refused("reaches beyond", illustrate.figure3, "smoke", "demo/kodim23", 4, [0, 0, 4000, 4])
    assert_refused(r"scale=3 has no runs for Fig\. 4", illustrate.figure4, "smoke", "demo/kodim23", 3, BOX)
    assert [path.read_text() for path in paths] == ["earlier"] * 2


def test_the_numbers_under_figure_3_are_those_of_evaluate(smoke, monkeypatch):
    chain = evaluate.Chain(runs.get("car-edsr-x4", "smoke"), experiments.ready("car-edsr-x4", "smoke"))
    rows = evaluate.evaluate(chain, "demo")
    (psnr,) = (row["value"] for row in rows if row["image"] == "kodim23" and row["metric"] == "psnr")
    drawn = []
    monkeypatch.setattr(figures, "crops", drawn.extend)
    monkeypatch.setattr(artefacts, "save_figure", lambda *arguments, **fields: None)
    illustrate.figure3("smoke", "demo/kodim23", 4, BOX)
    labels = {label: caption for label, caption, _ in drawn[0]["panels"]}
    assert labels["CAR + EDSR"].startswith(f"{psnr:.2f} dB / ") and drawn[0]["box"] == tuple(BOX)
    assert list(labels) == ["bicubic + bicubic", "bicubic LR", "bicubic + EDSR", "CAR LR", "CAR + EDSR"]


def run_notebook(params, out=None):
    pytest.importorskip("papermill", reason="papermill comes with the extra notebooks")
    params = ["profile=smoke", *params]
    return experiments.run_notebook("notebooks/06_kernels_offsets.ipynb", params, out=out, progress=False)


def fig4(smoke):
    """The files of Fig. 4, of whatever crop."""
    return sorted((smoke / "results" / "smoke" / "figures").glob("fig4*"))


@pytest.fixture
def kernel(smoke, monkeypatch):
    """No fig4 yet; the notebook runs in this environment's kernel."""
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    for path in fig4(smoke):
        path.unlink()
    return smoke


def test_a_notebook_runs_and_leaves_its_answer(kernel):
    out = run_notebook(["box=[40, 120, 48, 64]"])
    assert out == kernel / "results" / "smoke" / "notebooks" / "06_kernels_offsets.ipynb"
    name = "fig4_demo-kodim23_40-120-48-64"  # of its own: the pipeline's shows another crop
    assert [path.name for path in fig4(kernel)] == [f"{name}.{suffix}" for suffix in ("json", "pdf", "png")]
    cells = [cell for cell in json.loads(out.read_text())["cells"] if cell["cell_type"] == "code"]
    injected = next(cell for cell in cells if "injected-parameters" in cell["metadata"].get("tags", []))
    assert "box = [40, 120, 48, 64]" in "".join(injected["source"])
    shown = json.dumps(cells[-2]["outputs"])  # the last one draws a history, where one is given
    assert "car-edsr-x4-free" in shown and "largest" in shown


@pytest.mark.parametrize(("params", "told"), [
    (["sclae=4"], "unknown parameter sclae: 06_kernels_offsets takes profile, scale, image, box"),
    (["scale=x"], "06_kernels_offsets, cell 3: ParameterError: scale='x' is str, not int"),
    (["box=[40, 120, 4000, 96]"], r"cell 3: ParameterError: box=\[40, 120, 4000, 96\] reaches beyond"),
])  # fmt: skip
def test_a_notebook_with_wrong_parameters_is_refused_in_one_line(kernel, tmp_path, params, told):
    assert_refused(told, run_notebook, params, tmp_path / "out.ipynb")
    assert not fig4(kernel)


def test_an_unknown_notebook_or_profile_is_refused(smoke, tmp_path):
    pytest.importorskip("papermill", reason="papermill comes with the extra notebooks")
    told = "no notebook '07_none': there are 01_downscaling_for_sr, 02_sr_networks, 03_ablation, 04_benchmark"
    assert_refused(told, experiments.run_notebook, "07_none")
    told = "profile 'smok' is unknown: did you mean 'smoke'"
    assert_refused(told, experiments.run_notebook, "06_kernels_offsets", ["profile=smok"])
    assert_refused("is not name=value", experiments.run_notebook, "06_kernels_offsets", ["profile"])
    assert not (smoke / "results" / "smok").exists()


def test_a_notebooks_command_names_what_is_not_default():
    command = experiments.papermill_command("03_ablation", "mini", scale=4, seeds=1, sets=None, train=True)
    assert command == (
        "papermill notebooks/03_ablation.ipynb results/mini/notebooks/03_ablation.ipynb --cwd . -p profile mini "
        '-y "{scale: 4, seeds: 1}"'
    )
    assert experiments.papermill_command("03_ablation", "mini", train=False).endswith('-y "{train: false}"')
    assert experiments.papermill_command("03_ablation", "mini", train=True).endswith("-p profile mini")
    assert experiments.papermill_command("03_ablation", "demo", train=False).endswith("-p profile demo")  # never does
    command = experiments.papermill_command("04_benchmark", "mini", checkpoints={"vdsr-x4": 'my $1 "weights".pth'})
    assert yaml.safe_load(shlex.split(command)[-1]) == {"checkpoints": {"vdsr-x4": 'my $1 "weights".pth'}}
