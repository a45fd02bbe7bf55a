"""The numbers on the pages are those of the committed results, and nothing else on a page is touched."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from carlib import tables
from carlib.readme import findings, pages, speed

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(("name", "block"), [(name, block) for name in pages.PAGES for block in pages.PAGES[name]])
def test_a_page_shows_the_committed_results(monkeypatch, name, block):
    monkeypatch.setenv("CARLIB_HOME", str(ROOT))
    page = (ROOT / name).read_text(encoding="utf-8")
    assert pages.insert(page, block, pages.render(block)) == page, "call `carlib report --profile mini --readme`"


def test_insert_replaces_what_stands_between_the_markers():
    page = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n"
    assert pages.insert(page, "x", "new\n") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n"


@pytest.mark.parametrize("page", ["", "<!-- x -->\n", "<!-- /x -->", "<!-- x -->\n<!-- /x --><!-- x -->\n<!-- /x -->"])
def test_a_page_without_one_pair_of_markers_is_refused(page):
    with pytest.raises(ValueError, match="single pair"):
        pages.insert(page, "x", "new\n")


def test_what_was_timed_has_a_table_per_machine_with_a_line_per_case(tmp_path, monkeypatch):
    monkeypatch.setenv("CARLIB_HOME", str(tmp_path))
    row = {"case": "a", "name": "carlib, x, y", "seconds": 0.5, "ratio": 1, "memory": 1.5, "machine": "one"}
    rival = row | {"name": "rival", "seconds": 12, "ratio": 24, "memory": None}
    alone = row | {"case": "b", "name": "carlib", "seconds": 0.00123, "memory": None, "machine": "two, 4 cores"}
    rows, path = pd.DataFrame([row, rival, row | {"case": "b"}, alone, alone | {"ratio": None}]), tmp_path / "results"
    path.mkdir()
    rows.to_csv(path / "bench.csv", index=False)
    head = ["| case | ours | others, times as long | memory |", "| --- | --- | --- | --- |"]
    assert pages.render("bench").splitlines() == [
        *("one:", "", *head, "| a | x; y 500 ms | rival 24.00 | 1.50 |", "| b | x; y 500 ms |  | 1.50 |", ""),
        *("two, 4 cores:", "", *head, "| b | carlib 1.23 ms | carlib 1.23 ms | - |"),
    ]
    rows.assign(date=["2026-01-03", None, "2026-01-02", "2026-01-02", None]).to_csv(path / "bench.csv", index=False)
    told = [line for line in pages.render("bench").splitlines() if line.endswith(":")]
    assert told == ["one; 2026-01-02 to 2026-01-03:", "two, 4 cores; 2026-01-02:"]


def test_the_readme_shows_some_of_the_cases(tmp_path, monkeypatch):
    monkeypatch.setenv("CARLIB_HOME", str(tmp_path))
    (tmp_path / "results").mkdir()
    shown = ["operator x4: 16 patches, 13x13 taps", "operator x2 on GPU, forward: one image of 4K"]
    shown += ["operator x2 on GPU, forward: 16 patches", "CAR (mini) x4, up"]
    others = ["operator x4: 16 patches, 13x13 taps, hr's gradient too", "DPID x4"]
    row = {"name": "a", "seconds": 1, "ratio": 1, "memory": None, "machine": "one"}
    rows = [row | {"case": case} for case in [*others, *shown]]
    pd.DataFrame(rows).to_csv(tmp_path / "results" / "bench.csv", index=False)
    lines = pages.render("speed").splitlines()[4:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == shown


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.00053, "0.53 ms"),
        (0.00996, "10.0 ms"),
        (0.054, "54.0 ms"),
        (0.9996, "1000 ms"),
        (4.7, "4700 ms"),
        (12, "12 s"),
    ],
)
def test_times_have_three_digits_or_all_of_a_millisecond(seconds, told):
    assert speed._time(SimpleNamespace(seconds=seconds)) == told


def cells(*verdicts):
    """A Table 1 of PSNR at x2, bicubic upscaling: CAR's verdict on Set5, and on B100 if there is a second."""
    lines = []
    for name, verdict in zip(("set5", "bsd100"), verdicts, strict=False):
        shared = {"upscaler": "bicubic", "scale": 2, "set": name, "metric": "psnr"}
        lines.append({**shared, "downscaler": "bicubic", "ours": 33.0, "printed": 33.5, "gain": None, "verdict": "not"})
        car = {"downscaler": "car", "ours": 34.25, "printed": 34.0, "gain": 1.25, "verdict": verdict}
        lines.append({**shared, **car})
    return pd.DataFrame(lines)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("reproduced", "reproduced"), "reproduced"),
        (("reproduced", "not"), "partly"),
        (("reproduced", "more than printed"), "reproduced"),
        (("more than printed", "more than printed"), "more than printed"),
        (("partly", "more than printed"), "partly"),
        (("not", "not tested"), "not"),
        (("not tested", "not tested"), "not tested"),
    ],
)
def test_a_claim_takes_the_verdict_its_sets_agree_on(verdicts, expected):
    plain, car = tables.claims(cells(*verdicts))[:2]
    assert plain["ours (Set5 / B100, dB)"] == "33.00 / 33.00" and plain["verdict"] == "not"
    assert car["paper (Set5 / B100, dB)"] == "+0.50 / +0.50" and car["ours (Set5 / B100, dB)"] == "+1.25 / +1.25"
    assert car["verdict"] == expected


def test_a_set_that_was_not_measured_is_a_dash():
    assert tables.claims(cells("reproduced"))[1]["ours (Set5 / B100, dB)"] == "+1.25 / -"


def test_part_of_a_set_is_not_shown_as_the_whole():
    fixed = {"scale": 2, "psnr": 30.0, "gain": 1.0}
    counts = {"CAR": (14, 20), "CAR's colour only": (13, 20)}  # one image of Set14 is grey
    lines = [
        {**fixed, "variant": variant, "set": name, "n": n}
        for variant, some in counts.items()
        for name, n in zip(("set14", "bsd100"), some, strict=True)
    ]
    head, _, first, second = findings._attribution(pd.DataFrame(lines)).splitlines()
    assert head.split(" | ")[1:] == ["x2 Set14 (14)", "x2 B100 (first 20 of 100) |"]
    assert first.count("+1.00") == second.count("+1.00") == 2


def test_what_seeds_vary_by_is_told_where_there_are_several():
    line = {"scale": 2, "trained": "priced", "downscaler": "car", "against": "HR", "set": "all", "bd_rate": -5.04,
            "least": -7.0, "most": -3.0, "low": 25.0, "high": 30.0, "saved_share": 80.0, "n": 5, "fewer": 80.0,
            "pooled": -6.0}  # fmt: skip
    lines = [line | {"seeds": 3, "seed_interval": 1.26}, line | {"seeds": 1, "seed_interval": float("nan")}]
    several, one = findings._jpeg_rates(pd.DataFrame(lines)).splitlines()[2:]
    assert "| -5.0 [-7.0, -3.0] | ± 1.3 (3) | 4 of 5 images | -6.0 |" in several
    assert "| -5.0 [-7.0, -3.0] | - |" in one


def test_of_the_scales_those_that_the_paper_lacks_are_shown():
    line = {"set": "set5", "metric": "psnr", "n": 5, "bicubic both ways": 28.0, "bicubic": 30.0, "gain": 2.0}
    line |= {"car": 32.0, "low": 1.5, "high": 2.5, "seeds": 3, "seed_interval": 0.257}
    others = [line | {"scale": 2}, line | {"scale": 3, "metric": "ssim"}, line | {"scale": 3, "set": "demo"}]
    alone = line | {"scale": 8, "seeds": 1, "seed_interval": float("nan")}
    shown = findings._scales(pd.DataFrame([*others, line | {"scale": 3}, alone])).splitlines()[2:]
    told = "Set5 (5) | 28.00 | 30.00 | 32.00 | +2.00 [+1.50, +2.50]"
    assert shown == [f"| x3 | {told} | ± 0.26 (3) |", f"| x8 | {told} | - |"]
    with pytest.raises(ValueError, match="a table has no line"):
        findings._scales(pd.DataFrame(others))


def test_a_table_without_a_line_that_the_pages_show_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CARLIB_HOME", str(tmp_path))
    path = tmp_path / "results" / "mini" / "tables" / "scales.csv"
    path.parent.mkdir(parents=True)
    pd.DataFrame([{"scale": 2, "set": "demo", "metric": "psnr"}]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"scales\.csv: a table has no line that the pages show: measure it on Set5"):
        pages.render("scales")
