"""Taps of single pixels: which are told, the picture, and the sliders of a live notebook."""

import types

import ipywidgets
import numpy as np
import pytest
from ipykernel import kernelbase

from carlib import data, notebook
from carlib.studies import explore, illustrate

ARGUMENTS = ("demo", "demo/kodim23", 4, [40, 120, 64, 96])


def test_the_pixels_told_are_flat_at_an_edge_and_in_texture():
    """A picture of three parts: even grey, one vertical edge, and noise."""
    hr = np.full((96, 192, 3), 100, np.uint8)
    hr[:, 96:128] = 180
    hr[:, 128:] = np.random.default_rng(0).integers(0, 256, (96, 64, 1))
    found = {label: (row, column) for label, row, column in explore.telling(hr, 4)}
    assert list(found) == ["flat", "edge", "texture"]
    assert all(2 <= row < 22 and 2 <= column < 46 for row, column in found.values())
    assert found["flat"][1] < 22 and found["texture"][1] > 31
    photograph = dict(data.load("demo"))["camera"][:64, :64, None].repeat(3, axis=2)
    assert len({(row, column) for _, row, column in explore.telling(photograph, 4)}) == 3
    lone = hr.copy()
    lone[:, 128:] = 180
    assert dict((label, column) for label, _, column in explore.telling(lone, 4))["edge"] in (23, 24)


def test_the_picture_is_written_with_what_it_shows(home):
    figure = explore.taps(*ARGUMENTS)
    assert len(figure.axes) == 3 * (4 + 1)
    name = illustrate.name_of("taps", 4, *ARGUMENTS[1:2], ARGUMENTS[3])
    assert {path.suffix for path in (home / "results/demo/figures").glob(f"{name}.*")} == {".png", ".pdf", ".json"}


def test_sliders_choose_the_pixel_where_somebody_can_move_them(home, monkeypatch):
    monkeypatch.setattr(notebook, "is_live", lambda: True)
    widget = explore.taps_of_any_pixel(*ARGUMENTS)
    (row, column), picture = widget.children[0].children, widget.children[1]
    assert isinstance(row, ipywidgets.IntSlider) and (row.max, column.max) == (15, 23)
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG")
    row.value = 0
    above = bytes(picture.value)
    column.value = 23
    assert len({before, above, bytes(picture.value)}) == 3


def test_a_crop_without_an_inside_is_refused(home):
    with pytest.raises(notebook.ParameterError, match=r"box=\[0, 0, 16, 64\] is too small: give sides above 16"):
        explore.taps("demo", "demo/kodim23", 4, [0, 0, 16, 64])


def test_elsewhere_a_line_says_where(home):
    assert "JupyterLab" in explore.taps_of_any_pixel(*ARGUMENTS)


@pytest.mark.parametrize(("asks", "live"), [(True, True), (False, False)])
def test_a_notebook_is_live_where_its_kernel_may_ask(monkeypatch, asks, live):
    assert hasattr(kernelbase.Kernel, "_allow_stdin")  # what is read below, and no public name tells
    shell = types.SimpleNamespace(kernel=types.SimpleNamespace(_allow_stdin=asks))
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    assert notebook.is_live() is live
    monkeypatch.setattr("IPython.get_ipython", lambda: None)
    assert notebook.is_live() is False
