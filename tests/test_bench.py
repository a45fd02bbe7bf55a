"""The benchmark measures the same job on both sides and says what it measured; no test looks at a time."""

import contextlib
import datetime
import errno
import math
import os
from functools import partial
from itertools import chain

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from carlib import figures, models, network_costs, provenance, rescale, timing
from carlib.bench import downscaling, suite, upscaling


def flat(cases):
    """All rows of the lists that a case yields."""
    return list(chain.from_iterable(cases))


CASES = ["operator", "convolution", "train", "kill", "downscale", "upscale", "start"]
PHOTOGRAPH = torch.randint(254, (32, 32, 3), generator=torch.Generator().manual_seed(0)).byte().numpy()


@pytest.mark.parametrize(("native", "name"), [(True, "bfloat16"), (False, "float32")])
def test_convolution_compares_what_training_uses_here_with_plain_float32(monkeypatch, native, name):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    ours, rival = flat(suite._convolution(1, features=({"channels": 4, "n": 1, "side": 6},)))
    assert (ours["name"], rival["name"]) == (f"carlib, {name} channels_last", "float32 contiguous")
    assert ours["case"] == rival["case"] and "GFLOP/s" in ours["note"]
    assert ("no bfloat16" in ours["note"]) is not native


def test_peak_growth_sees_memory_that_is_freed_again():
    growth, size = timing.peak_growth(lambda: len(b"x" * (64 << 20)))
    assert size == 64 << 20
    assert math.isnan(growth) or 0.99 < growth / size < 1.1


def test_downscale_has_a_row_for_each_method_and_rival(monkeypatch):
    monkeypatch.setattr(downscaling, "_memory_in_a_child", lambda name, shape, scale: 6 / scale)
    rows = flat(downscaling.rows(1, shape=(16, 24, 3)))
    names = [row["name"] for row in rows]
    assert {f"carlib, {name}" for name in rescale.CLASSICAL} | {"Pillow, bicubic"} <= set(names)
    assert len(names) == len(set(names)) and all(row["memory"] == 1.5 and row["seconds"] > 0 for row in rows)
    assert all(row["note"].endswith("memory at x2 3.00") for row in rows)
    assert [row["name"] for row in rows if row["ratio"] == 1] == ["carlib, bicubic", "carlib, dpid"]
    alone = [row for row in rows if row["case"].startswith("other downscalers")]
    assert len(alone) == len(rescale.CLASSICAL) - 2 and all(math.isnan(row["ratio"]) for row in alone)


@pytest.mark.parametrize("native", [True, False])
def test_upscale_races_what_the_machine_computes_in_with_plain_float32(monkeypatch, native):
    """The emulated bfloat16 of a processor that lacks it is bfloat16 all the same."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    monkeypatch.setattr(upscaling, "_memory_in_a_child", lambda code, name, size: 1.5)
    monkeypatch.setattr(upscaling, "_photograph", lambda: PHOTOGRAPH)
    monkeypatch.setattr(upscaling, "_LARGE", 128)
    monkeypatch.setattr(upscaling.rescale.tiles, "SIDE", 64)
    rows = flat(upscaling.rows(1, size="mini", side=16))
    own = ["carlib, bfloat16 channels_last"] * native + ["carlib, float32 channels_last"]
    downscalers, large = ["carlib, numba", "grid_sample"], ["carlib, in parts", "whole"]
    assert [row["name"] for row in rows] == [*own, "float32 contiguous"] * 2 + downscalers * 2 + large * 4
    cases = list(dict.fromkeys(row["case"] for row in rows))
    assert cases[:2] == [f"EDSR (mini) x{scale}: one LR image of 16x16" for scale in (4, 2)]
    assert cases[2:4] == [f"CAR's downscaler (mini) x{scale}: one image of 32x32" for scale in (4, 2)]
    assert cases[4:] == [
        f"CAR (mini) x{scale}, {way}: one image of 128x128" for scale in (4, 2) for way in ("down", "up")
    ]
    assert all(row["memory"] == 1.5 and " s per HR megapixel; " in row["note"] for row in rows)
    assert ["no bfloat16" in row["note"] for row in rows] == [not native] * (2 * len(own) + 2) + [False] * 12
    assert all("by 1 of 255" in row["note"] for row in rows[-12:])


def test_upscalers_that_restore_differently_are_not_timed():
    draw = torch.Generator().manual_seed(1)  # another than that of the restoration's error
    sr = torch.rand(1, 3, 64, 64, generator=draw)
    for share, refused in ((0.1, False), (0.2, True)):  # 10 log10(1 + share^2): 0.04 and 0.17 dB
        other = sr + share * 0.01 * torch.randn(sr.shape, generator=draw)
        calls = {"ours": lambda other=other: other, "rival": lambda: sr}
        if refused:
            with pytest.raises(ValueError, match=r"a job: PSNR would move by 0\.1"):
                upscaling._told(calls, "a job")
        else:
            assert "moves a PSNR of 40 dB by 0.0" in upscaling._told(calls, "a job")["ours"]


def test_downscalers_that_differ_are_not_timed():
    lr = PHOTOGRAPH
    assert upscaling._same_pixels({"ours": lambda: lr, "rival": lambda: lr + 1}, "a job").startswith("100.0%")
    with pytest.raises(ValueError, match="a job: images differ by 2 of 255"):
        upscaling._same_pixels({"ours": lambda: lr, "rival": lambda: lr + 2}, "a job")


def test_extra_memory_knows_every_upscaler(monkeypatch):
    monkeypatch.setattr(upscaling, "_photograph", lambda: PHOTOGRAPH)
    monkeypatch.setattr(upscaling, "_LARGE", 32)
    both = upscaling._in_parts_or_whole(2, "up"), upscaling._in_parts_or_whole(2, "down")
    for calls in (upscaling._upscalers(2, "mini", 16), upscaling._downscalers(2), *both):
        for name in calls:
            ratio = upscaling._extra_memory(calls, name, 32 * 32 * 12)
            assert ratio >= 0 or math.isnan(ratio)


def test_all_cases_are_run_by_all(monkeypatch):
    for name in suite._CASES:
        row = {"case": name, "name": "carlib", "seconds": 1.0, "ratio": 1.0, "memory": math.nan, "note": ""}
        monkeypatch.setitem(suite._CASES, name, lambda repeats, row=row, **chosen: [[row]])
    assert list(suite.run("all")["case"]) == CASES


def test_extra_memory_knows_every_downscaler():
    for name in downscaling._calls(downscaling._image((16, 16, 3)), 4):
        for scale in (2, 4):
            ratio = downscaling._extra_memory(name, (64, 64, 3), scale)
            assert ratio >= 0 or math.isnan(ratio)


def test_run_writes_its_table_and_a_picture_beside_it(tmp_path):
    table = suite.run("start", repeats=1, out=tmp_path / "new" / "start.csv")
    assert list(table) == suite.COLUMNS
    assert list(table["name"]) == ["carlib, import", "carlib --help", "python -c pass"]
    assert "torch" in table["machine"][0] and table["memory"].isna().all()
    assert abs(datetime.date.fromisoformat(table["date"][0]) - datetime.date.today()).days <= 1
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["start.csv", "start.png"]
    assert list(pd.read_csv(tmp_path / "new" / "start.csv")["ratio"]) == pytest.approx(table["ratio"], rel=1e-5)


def test_one_case_renews_its_own_rows_of_a_table(tmp_path, monkeypatch):
    def case(name, seconds):
        row = {"case": name, "name": "carlib", "seconds": seconds, "ratio": 1.0, "memory": math.nan, "note": ""}
        return lambda repeats, **chosen: [[row, row | {"name": "rival", "ratio": 2.0, "note": "a note"}]]

    out = tmp_path / "bench.csv"
    for name in suite._CASES:
        monkeypatch.setitem(suite._CASES, name, case(name, 1.0))
    suite.run("all", out=out)
    monkeypatch.setitem(suite._CASES, "convolution", case("convolution", 3.0))
    monkeypatch.setitem(suite._CASES, "start", case("another start", 4.0))
    assert list(suite.run("convolution", out=out)["case"]) == ["convolution"] * 2
    suite.run("start", out=out)
    table = pd.read_csv(out)
    assert list(table.case) == [name for name in (*CASES, "another start") for _ in range(2)]
    assert list(table.seconds[::2]) == [1, 3, 1, 1, 1, 1, 1, 4] and list(table.note[1::2]) == ["a note"] * 8
    pd.read_csv(out).drop(columns="date").to_csv(out, index=False)  # as tables were
    suite.run("start", out=out)
    dates = pd.read_csv(out, keep_default_na=False).groupby("case", sort=False).date.unique()
    assert [list(found) for found in dates[CASES]] == [[""]] * len(CASES) and "" not in dates["another start"]


def test_rows_of_another_processor_stay_and_each_title_tells_its_own(tmp_path, monkeypatch):
    row = {"case": "a", "name": "carlib", "seconds": 1.0, "ratio": 1.0, "memory": math.nan, "note": ""}
    other = pd.DataFrame(
        [row | {"machine": "AMD EPYC, 2 cores, 1 thread, torch 2.13", "date": ""}, row | {"case": "b"}]
    )
    again = pd.DataFrame([row | {"machine": "Intel, 16 cores, 2 threads, torch 2.11", "seconds": 3.0}])
    older = again.assign(machine="Intel, 16 cores, 16 threads, torch 2.10", seconds=2.0)
    before = pd.concat([other.assign(machine=other.machine[0]), older])
    table = suite._renewed(before, again)
    assert list(zip(table.case, table.seconds, strict=True)) == [("a", 1.0), ("b", 1.0), ("a", 3.0)]
    drawn = []
    monkeypatch.setattr(figures, "bench", lambda rows: drawn.extend(rows) or Figure())
    suite._draw(table.to_dict("records"), tmp_path / "bench.png")
    assert [row["case"] for row in drawn] == [f"a; {before.machine.iloc[0]}", "b", f"a; {again.machine[0]}"]


class Stopped(BaseException):
    """As Ctrl-C."""


def test_what_a_stopped_benchmark_measured_is_kept(tmp_path, monkeypatch):
    def case(seconds):
        for name in ("one", "two", "three"):
            if (name, seconds) == ("three", 2.0):
                raise Stopped
            row = {"case": name, "name": "carlib", "seconds": seconds, "ratio": 1.0, "memory": math.nan, "note": ""}
            yield [row, row | {"name": "rival", "ratio": 2.0}]

    out = tmp_path / "bench.csv"
    for seconds, name, stopped in ((1.0, "start", False), (2.0, "start", True), (2.0, "all", True)):
        monkeypatch.setattr(suite, "_CASES", {"start": lambda repeats, seconds=seconds: case(seconds)})
        before = None if name == "start" else out.read_text()
        with pytest.raises(Stopped) if stopped else contextlib.nullcontext():
            suite.run(name, out=out)
        assert before in (None, out.read_text())
    table = pd.read_csv(out)
    assert list(table.case) == [name for name in ("one", "two", "three") for _ in range(2)]
    assert list(table.seconds) == [2.0] * 4 + [1.0] * 2  # no older row is gone before there is a new one
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.csv", "bench.png"]


@pytest.mark.parametrize(
    ("content", "told"), [("a,b\n1,2\n", "it has no column case"), ("", "as CSV"), ("\x00", "it has no column case")]
)
def test_another_table_is_refused_before_anything_is_measured(tmp_path, monkeypatch, content, told):
    monkeypatch.setattr(suite, "_CASES", dict.fromkeys(suite._CASES))
    out = tmp_path / "bench.csv"
    out.write_text(content)
    for case in ("start", "all"):
        with pytest.raises(ValueError, match=told) as refusal:
            suite.run(case, out=out)
        assert "\n" not in str(refusal.value) and out.read_text() == content


def test_a_table_that_cannot_be_written_is_one_line_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "_CASES", dict.fromkeys(suite._CASES))
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^cannot write .*bench\.csv: [^\n]+$"):
        suite.run("start", out=tmp_path / "file" / "bench.csv")
    with pytest.raises(ValueError, match="it is no regular file"):
        suite.run("start", out=tmp_path)


def test_a_disk_that_fills_up_meanwhile_is_one_line_and_keeps_the_table(tmp_path, monkeypatch):
    out, before = tmp_path / "bench.csv", ",".join(suite.COLUMNS) + "\n"
    out.write_text(before)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setitem(suite._CASES, "start", lambda repeats: [[{"case": "a", "name": "b", "seconds": 1.0}]])
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"^cannot write .*bench\.csv: No space left on device$"):
        suite.run("start", out=out)
    assert out.read_text() == before and [path.name for path in tmp_path.iterdir()] == ["bench.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"case": "speed"},
            f"case='speed' is unknown: use one of {', '.join(CASES)}, all",
        ),
        ({"repeats": 0}, "repeats=0"),
        ({"case": "kill", "kills": 0}, "kills=0"),
        ({"case": "operator", "device": "cuda:0"}, "device='cuda:0': the operator is timed on cpu or cuda"),
        ({"out": "bench.png"}, "bench.csv"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        suite.run(**arguments)
    assert "\n" not in str(caught.value)


def test_networks_are_measured_per_hr_megapixel():
    table = pd.DataFrame({"network": ["bicubic", "resampler"], "size": "mini", "scale": 2, "parameters": [0, 1]})
    found = network_costs.measure(table, side=32)
    assert list(found.columns) == [*table.columns, "seconds", "gigabytes", "machine"]
    assert set(found.machine) == {provenance.machine()}
    assert (found.seconds > 0).all() and list(found.network) == ["bicubic", "resampler"]


def test_a_measurement_that_stops_is_told_and_what_it_measured_is_kept(tmp_path):
    table = models.summary(("mini",), (2,)).query("network == 'bicubic'")
    table = pd.concat([table, table.assign(network="nothing")])
    save = partial(network_costs.save, out=tmp_path / "networks.csv")
    with pytest.raises(ValueError, match="stopped after 1 of 2 networks"):
        network_costs.measure(table, side=32, each=save)
    assert list(network_costs.earlier(tmp_path / "networks.csv").network) == ["bicubic"]


def test_a_measurement_that_cannot_be_written_ends_at_once(capfd):
    def full(measured):
        raise ValueError("cannot write")

    table = pd.DataFrame({"network": "bicubic", "size": "mini", "scale": 2}, index=range(1000))
    with pytest.raises(ValueError, match="cannot write"):
        network_costs.measure(table, side=32, each=full)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("profile", "mini"), ("device", "auto"), ("kills", 3), ("seed", 0)])
def test_an_option_of_another_case_is_refused(option, value):
    with pytest.raises(ValueError, match=f"case start has no {option}: leave --{option} out, or use case "):
        suite.run("start", **{option: value})
