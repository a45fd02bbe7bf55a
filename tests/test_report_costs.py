"""The page's end: what runs and networks cost, and what the page was made with; the same each time."""

import csv
import io

import pandas as pd
import pytest

from carlib import artefacts, experiments, network_costs, overview, provenance, results
from carlib.report import costs

TEXTS = {"title": "t", "caption": "c", "command": "d"}


def rows(table):
    return list(csv.DictReader(io.StringIO(table["csv"])))


@pytest.fixture
def saved(home, monkeypatch):
    """A project with one table and two runs."""
    monkeypatch.setattr(overview, "declared", lambda _: ["car-edsr-x4-free", "bicubic-edsr-x4"])
    artefacts.save_table(pd.DataFrame({"a": [1]}), results.folder("demo", "tables", "t"), **TEXTS)
    return home


def test_every_declared_run_has_its_line(saved):
    (runs,) = costs.sections("demo")["Costs"]
    car, plain = rows(runs)
    assert (plain["run"], plain["state"]) == ("bicubic-edsr-x4", "shipped") and runs["caption"].startswith("2 runs: ")
    step, seconds = overview.logged(saved / "data" / "weights" / "car-edsr-x4-free.csv")
    assert (car["state"], int(car["steps"]), int(car["seconds"])) == ("shipped", step, round(seconds))


def test_networks_are_shown_where_they_were_measured(saved):
    row = ["edsr", "mini", 2, 121987, 31.03, 0.5, 0.1, "M, 2 cores"]
    network_costs.save(pd.DataFrame([row], columns=network_costs.COLUMNS), network_costs.path())
    _, networks = costs.sections("demo")["Costs"]
    assert [list(row.values()) for row in rows(networks)] == [list(map(str, row))]
    assert ">M, 2 cores<" in experiments.build_report("demo").read_text(encoding="utf-8")


def test_the_environment_is_that_of_the_program_and_of_the_results(saved, monkeypatch):
    monkeypatch.setattr(provenance, "commit", lambda: "abc1234")
    (table,) = costs.sections("demo")["Environment"]
    told = {row["what"]: row["which"] for row in rows(table)}
    assert told["machine"] == provenance.machine() and told["commit"] == "abc1234"
    assert told["numpy"] == provenance.versions()["numpy"]
    assert told["commit of 1 results"] == "unknown"  # saved outside a git checkout


def test_the_page_with_costs_is_the_same_every_time(saved):
    pages = [experiments.build_report("demo").read_bytes() for _ in range(2)]
    assert pages[0] == pages[1] and b"What each run costs" in pages[0] and b"What this page was made with" in pages[0]
