"""Fig. 6: its numbers are those of carlib.studies.spectra, and the verdict follows from them."""

import numpy as np
import pandas as pd
import pytest

from carlib import artefacts, figures, rescale, results
from carlib.notebook import ParameterError
from carlib.studies import figure6, illustrate, spectra


@pytest.fixture(scope="module")
def measured():
    """Of the shipped weights; the largest embedded image takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CARLIB_DATA", raising=False)
        return figure6.measure("demo", "demo/sail", 4)


def test_every_method_makes_an_lr_image_and_the_numbers_are_those_of_spectra(measured):
    assert list(measured.images) == list(measured.aliasing) == list(measured.folded)
    assert [*measured.images][0 :: len(measured.images) - 1] == ["bicubic", "CAR"]
    np.testing.assert_array_equal(measured.images["CAR"], rescale.downscale(measured.hr, 4))
    lr = measured.images["bicubic"]
    np.testing.assert_array_equal(lr, rescale.downscale(measured.hr, 4, "bicubic"))
    assert measured.aliasing["bicubic"].share == spectra.aliasing(measured.hr, lr, 4).share
    limited = rescale.downscale(spectra.band_limited(measured.hr, 4), 4, "bicubic")
    assert measured.folded["bicubic"] == spectra.folded(lr, limited)
    assert measured.floor["bicubic"] == spectra.aliasing(measured.hr, limited, 4).share
    assert measured.floor["bicubic"] < 0.05 * measured.aliasing["bicubic"].share
    assert measured.folded["bicubic"] == pytest.approx(measured.aliasing["bicubic"].share, rel=0.2)


def test_the_picture_and_the_table_say_the_same(measured, home, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "spectra", drawn.extend)
    monkeypatch.setattr(artefacts, "save_figure", lambda *arguments, **fields: None)
    figure6.draw(measured)
    table = figure6.table(measured)
    assert [panel["name"] for panel in drawn[2:]] == table["downscaler"].tolist()
    for panel, share in zip(drawn[2:], table["aliasing"], strict=True):
        assert panel["note"] == f"aliasing {share:.2f} % of its energy"
    assert [panel["aliasing"] is None for panel in drawn[:3]] == [True, True, False]
    assert [panel["reach"] for panel in drawn[:3]] == [2, 0.5, 0.5]
    assert (results.folder("demo", "tables", "fig6").with_suffix(".csv")).is_file()


def test_crops_are_where_the_image_has_most_beyond_nyquist(measured, home):
    figure = figure6.crops(measured)
    assert len(figure.axes) == 1 + 1 + len(measured.images)
    assert (results.folder("demo", "figures", "fig6_crops").with_suffix(".png")).is_file()


def numbers(profile="demo", image="set14/barbara", scale=4, **shares):
    rows = [
        {"downscaler": label, "aliasing": a, "folded": b, "folded_colour": 10 * b} for label, (a, b) in shares.items()
    ]
    return pd.DataFrame(rows).assign(image=image, scale=scale, profile=profile)


def test_the_verdict_follows_from_all_measures(home):
    shares = {"bicubic": (2.0, 3.0), "DPID": (2.5, 2.9), "L0": (9.0, 9.0), "CAR": (1.0, 1.0)}
    found = figure6.verdicts(numbers(**shares))
    assert found["verdict"].tolist() == ["reproduced", "partly"]
    assert (found["aliasing"][1], found["folded"][1]) == ("2.00 / 2.50", "3.00 / 2.90")
    assert (results.folder("demo", "tables", "fig6_claims").with_suffix(".csv")).is_file()
    worse = figure6.verdicts(numbers(**{**shares, "CAR": (2.5, 3.0)}))  # a tie is not less
    assert worse["verdict"][0] == "not"
    coloured = numbers(**shares)
    coloured.loc[coloured.downscaler == "CAR", "folded_colour"] = 1000  # what luma does not show
    assert figure6.verdicts(coloured)["verdict"][0] == "partly"
    own = figure6.verdicts(numbers(perceptual=(0.1, 0.1), **shares))  # Algorithm 1 is no column of the paper
    pd.testing.assert_frame_equal(own, found)


@pytest.mark.parametrize("other", [{"image": "demo/sail"}, {"scale": 2}, {"profile": "smoke"}])
def test_the_verdict_is_about_barbara_at_x4(home, other):
    shares = {"bicubic": (2.0, 3.0), "DPID": (3.0, 4.0), "CAR": (1.0, 1.0)}
    assert set(figure6.verdicts(numbers(**other, **shares))["verdict"]) == {"not tested"}


def test_without_set14_an_embedded_image_is_taken(home):
    assert figure6.choose("demo/china") == "demo/china"
    assert illustrate.check_image(figure6.choose(), 4, figure=6).shape == (280, 360, 3)


@pytest.mark.parametrize(("image", "scale", "told"), [
    ("demo/nobody", 4, "no image 'nobody' in demo"),
    ("demo/sail", 5, "scale=5 has no runs for Fig. 6"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(home, image, scale, told):
    with pytest.raises(ParameterError, match=told):
        figure6.measure("demo", image, scale)
