"""Evaluation: what a row says, and that bicubic's chain is imresize and PSNR by hand."""

import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from carlib import (
    artefacts,
    data,
    evaluate,
    experiments,
    imresize,
    metrics,
    models,
    rescale,
    results,
    runs,
    weights,
    zssr,
)
from carlib.evaluate import Chain


@pytest.fixture
def sets(home, tmp_path, monkeypatch):
    """A set5 of two images: colour, 26x37, and grey, 32x40; sides that are multiples of nothing."""
    folder = tmp_path / "sets" / "Set5"
    draw = np.random.default_rng(0)
    for name, shape in {"a": (26, 37, 3), "b": (32, 40)}.items():
        smooth = np.cumsum(np.cumsum(draw.normal(0, 2, shape), 0), 1)
        data.write_image(folder / f"{name}.png", np.clip(smooth + 128, 0, 255).astype(np.uint8))
    monkeypatch.setenv("CARLIB_DATA", str(tmp_path / "sets"))
    return folder


def trained(run, path):
    """Untrained weights of a run, as `carlib train` would leave them."""
    torch.manual_seed(0)
    networks = nn.ModuleDict({role: models.create(**options) for role, options in run.networks().items()})
    told = {"networks": run.networks(), "parameters": runs.as_dict(run)}
    weights.save(networks, path, {"run": run.name, "profile": run.profile, **told})
    return path


def plain(scale=2):
    """Bicubic down and up."""
    return Chain(runs.get(f"bicubic-bicubic-x{scale}", "smoke"))


def test_a_row_names_everything(sets):
    rows = evaluate.evaluate(plain(), "set5")
    assert all(list(row) == results.ROW_COLUMNS for row in rows)
    assert [(row["image"], row["metric"]) for row in rows] == [
        ("a", "psnr"),
        ("a", "ssim"),
        ("b", "psnr"),
        ("b", "ssim"),
    ]
    fixed = ("run", "profile", "downscaler", "upscaler", "scale", "set", "protocol")
    assert [rows[0][name] for name in fixed] == [
        "bicubic-bicubic-x2", "smoke", "bicubic", "bicubic", 2, "set5", "standard",
    ]  # fmt: skip
    assert all(isinstance(row["value"], float) for row in rows)


@pytest.mark.parametrize("scale", [2, 4])
def test_bicubic_is_imresize_and_psnr_by_hand(sets, scale):
    rows = evaluate.evaluate(plain(scale), "set5", protocols=metrics.PROTOCOLS)
    for row in rows:
        image = data.read_image(sets / f"{row['image']}.png")
        hr = data.crop_to_multiple(image, 8 if row["protocol"] == "car-release" else scale)
        sr = imresize(imresize(hr, 1 / scale), scale)
        expected = getattr(metrics, row["metric"])(hr, sr, scale, protocol=row["protocol"])
        assert row["value"] == pytest.approx(expected, abs=1e-9)
    assert len(rows) == 2 * len(metrics.PROTOCOLS) * 2


def test_the_protocols_differ(sets):
    rows = evaluate.evaluate(plain(), "set5", protocols=metrics.PROTOCOLS, limit=1)
    values = {row["protocol"]: row["value"] for row in rows if row["metric"] == "psnr"}
    assert len(set(values.values())) == 3


def test_limit_and_crop(sets):
    rows = evaluate.evaluate(plain(), "set5", limit=1, crop=20)
    assert {row["image"] for row in rows} == {"a"}
    hr = data.centre_crop(data.read_image(sets / "a.png"), 20)
    assert hr.shape == (20, 20, 3)
    assert rows[0]["value"] == pytest.approx(metrics.psnr(hr, imresize(imresize(hr, 0.5), 2), 2))


@pytest.mark.parametrize("name", ["car-edsr-x2", "bicubic-edsr-x4", "car-bicubic-x4"])
def test_a_trained_chain_gives_8_bit_lr_and_sr_of_the_size(sets, tmp_path, name):
    run = runs.get(name, "smoke")
    chain = Chain(run, trained(run, tmp_path / "w.safetensors"))
    for shape in ((16, 24, 3), (16, 24)):
        hr = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        lr, sr = chain(hr)
        assert lr.dtype == np.uint8 and lr.shape == (16 // run.scale, 24 // run.scale, *shape[2:])
        assert sr.shape == hr.shape and sr.dtype == (np.uint8 if run.upscaler == "bicubic" else np.float32)
        if run.downscaler == "bicubic":
            np.testing.assert_array_equal(lr, imresize(hr, 1 / run.scale))
    rows = evaluate.evaluate(chain, "set5", protocols=["standard", "car-release"])
    assert len(rows) == 8 and all(np.isfinite(row["value"]) for row in rows)


def test_a_run_of_zssr_trains_on_each_image_as_many_steps_as_it_says(sets):
    hr = data.crop_to_multiple(data.read_image(sets / "a.png"), 2)
    for steps in (1, 3):
        run = runs.get("bicubic-zssr-x2", "smoke", {"image_steps": steps})
        lr, sr = Chain(run)(hr)
        np.testing.assert_array_equal(lr, imresize(hr, 0.5))
        np.testing.assert_array_equal(sr, zssr.restore(lr, 2, steps=steps, size="mini"))


def test_what_zssr_gave_is_kept_for_its_steps_only(sets):
    def kept(steps):
        chain = Chain(runs.get("bicubic-zssr-x2", "smoke", {"image_steps": steps}))
        evaluate.evaluate(chain, "set5", keep=True)
        return sorted(path.read_text() for path in results.folder("smoke").rglob("bicubic-zssr-x2-set5*"))

    first = kept(1)
    assert first and kept(1) == first and kept(2) != first


@pytest.mark.parametrize("name", rescale.CLASSICAL)
def test_a_chain_takes_every_classical_downscaler(home, name):
    run = runs.get("bicubic-bicubic-x2", "smoke", {"downscaler": name})
    hr = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    lr, sr = Chain(run)(hr)
    np.testing.assert_array_equal(lr, rescale.classical(name)(hr, 2))
    np.testing.assert_array_equal(sr, imresize(lr, 2))


def assert_refused(told, call, *arguments, **options):
    with pytest.raises(ValueError, match=told) as refusal:
        call(*arguments, **options)
    assert "\n" not in str(refusal.value)


def test_what_does_not_fit_is_refused(sets, tmp_path):
    assert_refused("image set urban100 is not here", evaluate.evaluate, plain(), "urban100")
    assert_refused("unknown image set 'set55'.*did you mean set5", evaluate.evaluate, plain(), "set55")
    assert_refused("unknown protocol 'matlab'", evaluate.evaluate, plain(), "set5", protocols=["matlab"])
    assert_refused("no weights at", Chain, runs.get("car-edsr-x2", "smoke"), tmp_path / "none.safetensors")
    assert_refused("device 'abacus' cannot be used", chain_on, tmp_path, "abacus")
    data.write_image(sets / "c.png", np.zeros((3, 3), np.uint8))
    assert_refused("smaller than multiple=4", evaluate.evaluate, plain(4), "set5")


def chain_on(tmp_path, device):
    run = runs.get("bicubic-edsr-x2", "smoke")
    return Chain(run, trained(run, tmp_path / "w.safetensors"), device=device)


@pytest.mark.parametrize(("other", "profile"), [
    ("bicubic-edsr-x2", "smoke"),
    ("car-edsr-x4", "smoke"),
    ("car-bicubic-x2", "smoke"),
    ("car-edsr-x2", "mini"),
])  # fmt: skip
def test_weights_of_another_run_or_profile_are_refused(sets, tmp_path, other, profile):
    """All would give images of the right size, and numbers under the wrong name."""
    path = trained(runs.get(other, profile), tmp_path / "w.safetensors")
    told = f"is of run {other}, profile {profile}, not of car-edsr-x2, smoke"
    assert_refused(told, Chain, runs.get("car-edsr-x2", "smoke"), path)


@pytest.mark.parametrize("changed", [{"downscaler": "box"}, {"upscaler": "rcan"}, {"scale": 4}])
def test_weights_of_another_system_under_the_same_name_are_refused(sets, tmp_path, changed):
    """A run's numbers may be others for a trial; what it is, may not."""
    path = trained(runs.get("bicubic-edsr-x2", "smoke", changed), tmp_path / "w.safetensors")
    ((key, value),) = changed.items()
    assert_refused(
        f"was trained with {key}={value!r}, run bicubic-edsr-x2 has", Chain, runs.get("bicubic-edsr-x2", "smoke"), path
    )


def test_a_set_by_any_name_counts_once(sets):
    rows = experiments.measure("bicubic-bicubic-x2", "smoke", ["SET5", "set5"], progress=False)
    assert {row["set"] for row in rows} == {"set5"} and len(rows) == len(
        {(row["image"], row["metric"]) for row in rows}
    )


def test_weights_that_name_no_run_are_refused(sets, tmp_path):
    run = runs.get("car-edsr-x2", "smoke")
    networks = nn.ModuleDict({role: models.create(**options) for role, options in run.networks().items()})
    weights.save(networks, tmp_path / "w.safetensors", {"networks": run.networks()})
    assert_refused("is of run None, profile None, not of car-edsr-x2", Chain, run, tmp_path / "w.safetensors")


def test_profile_demo_takes_the_weights_of_mini(sets, tmp_path):
    path = trained(runs.get("car-edsr-x2", "mini"), tmp_path / "w.safetensors")
    rows = evaluate.evaluate(Chain(runs.get("car-edsr-x2", "demo"), path), "set5")
    assert {row["profile"] for row in rows} == {"demo"}
    tiny = trained(runs.get("car-edsr-x2", "smoke"), tmp_path / "smoke.safetensors")
    assert_refused("profile smoke, not of car-edsr-x2, demo", Chain, runs.get("car-edsr-x2", "demo"), tiny)


def counted(monkeypatch):
    """The shapes of the images that chains are called with from now on."""
    seen, call = [], Chain.__call__
    monkeypatch.setattr(Chain, "__call__", lambda self, hr: seen.append(hr.shape) or call(self, hr))
    return seen


def test_rows_are_kept_for_the_next_notebook(sets, tmp_path, monkeypatch):
    run = runs.get("car-edsr-x2", "smoke")
    chain = Chain(run, trained(run, tmp_path / "w.safetensors"))
    fresh, seen = evaluate.evaluate(chain, "set5"), counted(monkeypatch)
    assert evaluate.evaluate(chain, "set5", keep=True) == fresh and len(seen) == 2
    found = evaluate.evaluate(chain, "set5", keep=True)
    assert found == fresh and len(seen) == 2 and all(list(row) == results.ROW_COLUMNS for row in found)
    evaluate.evaluate(chain, "set5", limit=1, keep=True)
    assert len(seen) == 2
    evaluate.evaluate(chain, "set5", limit=1)
    assert len(seen) == 3  # nothing is kept unless asked for


def test_rows_count_only_for_what_made_them(sets, tmp_path, monkeypatch):
    run = runs.get("bicubic-edsr-x2", "smoke")
    path = trained(run, tmp_path / "w.safetensors")
    evaluate.evaluate(Chain(run, path), "set5", keep=True)
    seen = counted(monkeypatch)
    evaluate.evaluate(Chain(run, path), "set5", crop=20, keep=True)
    evaluate.evaluate(Chain(run, path), "set5", protocols=["rgb"], keep=True)
    networks, metadata = weights.load_run(path)
    networks["upscaler"].head[0].bias.data += 0.01
    weights.save(networks, path, metadata)
    evaluate.evaluate(Chain(run, path), "set5", protocols=["rgb"], keep=True)
    monkeypatch.setattr(evaluate, "_MEASURING", ("evaluate.py",))
    evaluate.evaluate(Chain(run, path), "set5", protocols=["rgb"], keep=True)
    assert len(seen) == 8
    evaluate.evaluate(Chain(run, path), "set5", protocols=["rgb"], keep=True)
    assert len(seen) == 8


def test_rows_are_of_the_weights_that_were_loaded(sets, tmp_path, monkeypatch):
    """Training replaces the file while an evaluation runs."""
    run = runs.get("bicubic-edsr-x2", "smoke")
    chain = Chain(run, trained(run, tmp_path / "w.safetensors"))
    networks, metadata = weights.load_run(tmp_path / "w.safetensors")
    networks["upscaler"].head[0].bias.data += 0.5
    weights.save(networks, tmp_path / "w.safetensors", metadata)
    before = evaluate.evaluate(chain, "set5", keep=True)
    after = evaluate.evaluate(Chain(run, tmp_path / "w.safetensors"), "set5", keep=True)
    assert before[0]["value"] != after[0]["value"] and after == evaluate.evaluate(
        Chain(run, tmp_path / "w.safetensors"), "set5"
    )


def test_rows_are_of_the_scale_that_the_run_has(sets):
    def measured(scale):
        run = runs.make(
            name="plain", profile="smoke", downscaler="bicubic", upscaler="bicubic", scale=scale, size="mini"
        )
        return evaluate.evaluate(Chain(run), "set5", keep=True)[0]["value"]

    assert measured(2) > measured(4) + 1


def test_rows_of_networks_that_were_given_are_not_kept(sets, tmp_path):
    run = runs.get("bicubic-edsr-x2", "smoke")
    networks, _ = weights.load_run(trained(run, tmp_path / "w.safetensors"))
    evaluate.evaluate(Chain(run, networks=networks), "set5", keep=True)
    assert not results.folder("smoke", "kept").exists()


def test_given_weights_leave_nothing_behind(sets, tmp_path):
    path = trained(runs.get("car-edsr-x2", "smoke"), tmp_path / "w.safetensors")
    experiments.measure("car-edsr-x2", "smoke", ["set5"], weights=path, progress=False)
    assert not results.folder("smoke", "kept").exists()
    experiments.measure("bicubic-bicubic-x2", "smoke", ["set5"], progress=False)
    assert [file.name for file in results.folder("smoke", "kept").iterdir()] == ["bicubic-bicubic-x2-set5.json"]


def test_measure_takes_the_profiles_sets(sets):
    rows = experiments.measure("bicubic-bicubic-x2", "smoke", progress=False)
    assert {row["set"] for row in rows} == {"demo"} and len(rows) == 4
    rows = experiments.measure("bicubic-bicubic-x2", "smoke", ["set5"], progress=False)
    assert {row["set"] for row in rows} == {"set5"}


def test_measure_takes_the_weights_it_is_given_or_none(sets, tmp_path):
    (sets / "nothing").mkdir()
    for profile in ("smoke", "demo"):  # demo has shipped ones, which must not step in
        with pytest.raises(ValueError, match=r"no weights at .*typo"):
            experiments.measure("car-edsr-x2", profile, ["set5"], weights=tmp_path / "typo.safetensors", progress=False)
    with pytest.raises(ValueError, match=r"no weights at .*results/smoke/runs/car-edsr-x2"):
        experiments.measure("car-edsr-x2", "smoke", ["set5"], progress=False)


def test_measure_says_when_no_set_is_here(home):
    with pytest.raises(ValueError, match=r"none of the image sets set5, set14, .* is here"):
        experiments.measure("bicubic-bicubic-x2", "paper", progress=False)


def test_a_summary_is_the_mean_over_images(sets):
    rows = experiments.measure("bicubic-bicubic-x2", "smoke", ["set5"], progress=False)
    line = experiments.summary(rows).query("metric == 'psnr'").iloc[0]
    values = [row["value"] for row in rows if row["metric"] == "psnr"]
    assert line["mean"] == pytest.approx(np.mean(values)) and line["images"] == 2


def test_an_unknown_protocol_is_refused_before_an_image_is_restored(sets, monkeypatch):
    monkeypatch.setattr(evaluate.Chain, "__call__", None)
    with pytest.raises(ValueError, match="unknown protocol 'foo'"):
        experiments.measure("bicubic-bicubic-x2", "smoke", ["set5"], protocols=["standard", "foo"], progress=False)


def test_rows_come_back_from_their_file(sets, tmp_path):
    rows = experiments.measure("bicubic-bicubic-x2", "smoke", ["set5"], progress=False)
    frame = pd.read_csv(artefacts.save_rows(rows, tmp_path / "rows.csv"))
    assert list(frame.columns) == results.ROW_COLUMNS
    np.testing.assert_allclose(frame["value"], [row["value"] for row in rows], rtol=0, atol=1e-6)


def test_images_that_were_trained_on_are_told(sets, tmp_path, capsys):
    run, shown = runs.get("car-edsr-x2", "smoke"), tmp_path / "w.safetensors"
    networks, header = weights.load_run(trained(run, shown))
    for data_of, expected in (
        (["demo", "./gone"], ""),
        ([str(sets)], "was trained on 2 of the 2 images that are measured of set5"),
    ):
        weights.save(networks, shown, header | {"data": data_of})
        capsys.readouterr()
        experiments.measure(run.name, "smoke", ["set5"], weights=shown, progress=False)
        told = capsys.readouterr().err
        assert expected in told if expected else told == ""


def test_rows_of_other_weights_leave_those_of_the_run_alone(carlib, sets, tmp_path):
    path = trained(runs.get("car-edsr-x2", "smoke"), tmp_path / "w.safetensors")
    code, out, _ = carlib("evaluate", "car-edsr-x2", "--profile", "smoke", "--set", "set5", "--weights", path)
    name = f"car-edsr-x2-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}-set5.csv"
    assert code == 0 and out.strip().endswith(str(results.folder("smoke", "metrics", name)))
    assert [file.name for file in results.folder("smoke", "metrics").iterdir()] == [name]
