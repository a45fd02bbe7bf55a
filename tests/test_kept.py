"""A measurement that was stopped goes on where it was, unless something it depends on is another."""

import json

import numpy as np
import pytest

from carlib import kept, provenance, results, sources

IMAGES = [("a", str(i), np.full((2, 3), i, np.uint8)) for i in range(3)]


class Measure:
    """Counts its calls, and is stopped at the `stop`-th."""

    def __init__(self, stop=None):
        self.seen, self.stop = [], stop

    def __call__(self, image):
        if len(self.seen) == self.stop:
            raise KeyboardInterrupt
        self.seen.append(int(image[0, 0]))
        return [{"value": float(image[0, 0]) / 3}, {"value": float("inf")}]


def rows(measure, made_by=(), images=IMAGES):
    return kept.rows("demo", "job", {"made_by": list(made_by)}, images, measure)


def file():
    return results.folder("demo", "kept", "job.json")


@pytest.fixture
def stopped(home):
    """Two of three images measured."""
    measure = Measure(stop=2)
    with pytest.raises(KeyboardInterrupt):
        rows(measure)
    return measure


def test_rows_name_profile_set_and_image(home):
    found = rows(Measure())
    assert len(found) == 6
    assert found[2] == {"value": 1 / 3, "profile": "demo", "set": "a", "image": "1"}


def test_what_was_measured_before_the_stop_is_not_measured_again(stopped):
    again = Measure()
    found = rows(again)
    assert again.seen == [2]
    file().unlink()
    assert found == rows(Measure())  # to the last bit


def test_another_job_of_the_same_images_takes_all_of_it(home):
    found, again = rows(Measure()), Measure()
    assert rows(again) == found and again.seen == []
    assert rows(again, images=IMAGES[1:]) == found[2:] and again.seen == []


def test_rows_of_several_ways_to_measure_are_kept_side_by_side(home):
    for how in (["rgb", 20], ["rgb", None], ["rgb", 20]):
        measure = Measure()
        kept.rows("demo", "job", {}, IMAGES, measure, how=how)
    assert measure.seen == [] and len(json.loads(file().read_text())["rows"]) == 6


def test_nothing_is_kept_of_code_that_was_edited_meanwhile(home, monkeypatch):
    monkeypatch.setattr(sources, "_BEGUN", 0.0)  # every file is newer
    assert len(rows(Measure())) == 6 and not file().exists()


def test_rows_that_cannot_be_kept_are_not_lost(home, capsys):
    folder = results.folder("demo", "kept")
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder belongs")
    assert len(rows(Measure())) == 6
    assert "these rows are not kept for the next call" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        rows(Measure(stop=1))


def test_a_process_that_is_killed_loses_seconds(home, monkeypatch):
    monkeypatch.setattr(kept, "_WRITTEN", 0.0)
    seen = []

    def measure(image):
        seen.append(file().exists() and len(json.loads(file().read_text())["rows"]))
        return []

    rows(measure)
    assert seen == [False, 1, 2]


def test_another_setting_library_or_image_is_measured_anew(stopped, monkeypatch):
    before = file().read_text()
    changed = Measure()
    rows(changed, images=[("a", "0", IMAGES[1][2]), *IMAGES[1:]])
    assert changed.seen == [1, 2]
    file().write_text(before)
    setting = Measure()
    rows(setting, made_by=["another"])
    assert setting.seen == [0, 1, 2]
    file().write_text(before)
    monkeypatch.setattr(provenance, "versions", lambda: {"imagecodecs": "0"})
    library = Measure()
    rows(library)
    assert library.seen == [0, 1, 2]


def test_a_torn_file_counts_for_nothing(stopped):
    file().write_text(file().read_text()[:-9])
    again = Measure()
    rows(again)
    assert again.seen == [0, 1, 2] and len(json.loads(file().read_text())["rows"]) == 3
