"""The file of measured networks keeps the rows that are not measured anew, and is no other file."""

import pandas as pd
import pytest

from carlib import network_costs


def measured(*networks, seconds=0.5, scale=2):
    row = {"size": "mini", "scale": scale, "parameters": 7, "gigamacs": 1.0, "seconds": seconds}
    rest = {"gigabytes": float("nan"), "machine": "M, 2 cores"}
    return pd.DataFrame([{"network": name, **row, **rest} for name in networks])


def test_a_later_measurement_renews_its_own_rows(tmp_path):
    path = tmp_path / "networks.csv"
    network_costs.save(measured("edsr", "rdn"), path, network_costs.earlier(path))
    network_costs.save(measured("edsr", seconds=0.25), path, network_costs.earlier(path))
    network_costs.save(measured("edsr", scale=4), path, network_costs.earlier(path))
    found = network_costs.earlier(path)
    assert list(found.columns) == network_costs.COLUMNS
    lines = list(found[["network", "scale", "seconds"]].itertuples(index=False, name=None))
    assert sorted(lines) == [("edsr", 2, 0.25), ("edsr", 4, 0.5), ("rdn", 2, 0.5)]


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "", "\x00"])
def test_another_file_is_refused_and_stays(tmp_path, content):
    path = tmp_path / "other.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"other\.csv .*name another file"):
        network_costs.earlier(path)
    assert path.read_text() == content


def test_what_cannot_be_written_is_told_before_the_measurement(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^cannot write .*n\.csv: "):
        network_costs.earlier(tmp_path / "file" / "n.csv")


def test_what_was_not_measured_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="add --measure"):
        network_costs.earlier(tmp_path / "n.csv", measured=False)
    assert network_costs.earlier(None, measured=False) is None
