"""A measurement that was stopped goes on where it was, unless something it depends on is another."""

import json

import numpy as np
import pytest

from carlib import partial, provenance, results

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
    return partial.rows("demo", "job", {"made_by": list(made_by)}, images, measure)


def kept():
    return results.folder("demo", "partial", "job.json")


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
    partial.forget("demo", "job")
    assert not kept().exists() and found == rows(Measure())  # to the last bit
    partial.forget("demo", "other")


def test_another_setting_library_or_image_is_measured_anew(stopped, monkeypatch):
    before = kept().read_text()
    changed = Measure()
    rows(changed, images=[("a", "0", IMAGES[1][2]), *IMAGES[1:]])
    assert changed.seen == [1, 2]
    kept().write_text(before)
    setting = Measure()
    rows(setting, made_by=["another"])
    assert setting.seen == [0, 1, 2]
    kept().write_text(before)
    monkeypatch.setattr(provenance, "versions", lambda: {"imagecodecs": "0"})
    library = Measure()
    rows(library)
    assert library.seen == [0, 1, 2]


def test_a_torn_file_counts_for_nothing(stopped):
    kept().write_text(kept().read_text()[:-9])
    again = Measure()
    rows(again)
    assert again.seen == [0, 1, 2] and len(json.loads(kept().read_text())["rows"]) == 3
