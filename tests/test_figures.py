"""Laws of the pictures: colours mean what the legend says, pixels stay pixels, nothing global is touched."""

import io

import matplotlib
import numpy as np
import pandas as pd
import pytest

from carlib import figures
from carlib.figures import tap_maps, tap_places, wheel


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def image(rng, height, width):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def example(rng, size=5, height=6, width=8, offsets=True):
    kernel = rng.normal(size=(size * size, height, width))
    v, h = rng.normal(size=(2, size * size, height, width)) if offsets else (None, None)
    return f"K={size}", kernel, v, h


def drawn(figure):
    figure.savefig(io.BytesIO(), dpi=40)
    return figure


# ------------------------------------------------------------------------------------------------- the colour wheel


def test_zero_offset_is_white():
    assert (figures.offset_colours(np.zeros((2, 3)), np.zeros((2, 3)), 2.0) == 1).all()


@pytest.mark.parametrize(
    ("v", "h", "colour"),
    [
        (0, 1, (1, 0, 0)),  # right: the wheel's first colour, red
        (-0.0, 1, (1, 0, 0)),  # a negative zero points the same way
        (1, 0, (1, 13.5 / 15, 0)),  # down: 13.5 of the 15 steps from red to yellow
        (0, -1, (0, 9 / 11, 1)),  # left: step 27, 2 of the 11 from cyan to blue
        (-1, 0, (4.5 / 13, 0, 1)),  # up: step 40.5, 4.5 of the 13 from blue to magenta
    ],
)
def test_directions_have_the_colours_of_the_middlebury_code(v, h, colour):
    """Steps of the colorwheel in colorcode.cpp (Baker et al.), place = (angle + 1) / 2 * 54."""
    np.testing.assert_allclose(figures.offset_colours(v, h, 1.0), colour, atol=0.02)


def test_length_is_saturation_and_too_long_is_darker():
    half, full, beyond = figures.offset_colours(np.zeros(3), np.array([1.0, 2.0, 2.5]), 2.0)
    np.testing.assert_allclose(half, (1 + full) / 2)
    np.testing.assert_allclose(beyond, 0.75 * full)


def test_colour_wheel_is_the_legend_of_offset_colours():
    wheel = figures.colour_wheel(129)
    assert wheel.shape == (129, 129, 3) and wheel.dtype == np.uint8
    assert tuple(wheel[64, 64]) == (255, 255, 255)  # no offset
    assert tuple(wheel[0, 0]) == (255, 255, 255)  # outside
    for v, h in [(0.5, 0.25), (-0.75, 0.5), (0, -1), (1, 0)]:
        expected = np.round(255 * figures.offset_colours(v, h, 1.0))
        assert (wheel[int(64 + 64 * v), int(64 + 64 * h)] == expected).all()


def test_wheel_has_55_colours_of_full_saturation():
    hues = wheel._wheel()
    assert hues.shape == (55, 3)
    assert (hues.max(axis=1) == 1).all() and (hues.min(axis=1) == 0).all()


def test_colours_need_a_positive_radius():
    with pytest.raises(ValueError, match="max_magnitude=0"):
        figures.offset_colours(1, 1, 0)


# ------------------------------------------------------------------------------------------------------------ crops


def test_crops_draws_the_hr_image_and_every_crop(rng):
    hr = image(rng, 24, 40)
    panels = [("a", "1 dB", image(rng, 24, 40)), ("b", "2 dB", image(rng, 24, 40))]
    panels += [("a", "", image(rng, 6, 10)), ("b", "", image(rng, 12, 20))]
    row = {"name": "one", "hr": hr, "box": (8, 4, 8, 12), "panels": panels}
    figure = drawn(figures.crops([row, {**row, "panels": panels[:1]}]))
    assert len(figure.axes) == (1 + 1 + 4) + (1 + 1 + 1)
    for axes in figure.axes:
        x, y, width, height = axes.get_position().bounds
        assert min(x, y) > 0 and x + width < 1 and y + height < 1


def test_lr_crop_is_enlarged_without_interpolation(rng):
    hr, lr = image(rng, 24, 40), image(rng, 6, 10)
    row = {"name": "one", "hr": hr, "box": (8, 4, 8, 12), "panels": [("LR", "", lr)]}
    axes = figures.crops([row]).axes[-1]
    shown = np.asarray(axes.get_images()[0].get_array())
    crop = lr[2:4, 1:4]
    times = shown.shape[0] // crop.shape[0]
    assert times > 1 and (shown == crop.repeat(times, 0).repeat(times, 1)).all()
    assert (axes.get_xlim(), axes.get_ylim()) == ((4, 16), (16, 8))


def test_box_across_lr_pixels_shows_parts_of_them(rng):
    row = {"name": "one", "hr": image(rng, 24, 40), "box": (7, 5, 8, 12), "panels": [("LR", "", image(rng, 6, 10))]}
    axes = figures.crops([row]).axes[-1]
    assert axes.get_images()[0].get_extent() == [4, 20, 16, 4]  # whole LR pixels ...
    assert (axes.get_xlim(), axes.get_ylim()) == ((5, 17), (15, 7))  # ... cut at the box


@pytest.mark.parametrize(
    ("change", "message"),
    [({"box": (20, 0, 8, 8)}, "not inside 24x40"), ({"panels": [("x", "", np.zeros((7, 10, 3), np.uint8))]}, "one, x")],
)
def test_crops_refuses_what_does_not_fit(rng, change, message):
    with pytest.raises(ValueError, match=message):
        figures.crops([{"name": "one", "hr": image(rng, 24, 40), "box": (0, 0, 8, 8), "panels": [], **change}])


# ---------------------------------------------------------------------------------------------------------- kernels


@pytest.mark.parametrize(("offsets", "axes"), [((False,), 1 + 1 + 1), ((False, True, True), 1 + 3 + 2 + 1 + 1)])
def test_kernels_offsets_has_a_panel_for_each_map(rng, offsets, axes):
    examples = [example(rng, 4 + k, offsets=has) for k, has in enumerate(offsets)]
    assert len(drawn(figures.kernels_offsets(image(rng, 24, 32), examples, 4)).axes) == axes


def test_central_taps_lie_as_around_the_lr_pixel():
    kernel = np.arange(25.0)[:, None, None] * np.ones((25, 6, 8))  # tap (a, b) has the weight 5a + b everywhere
    _, central, _, _ = tap_maps._central_taps(("", kernel, None, None), np.zeros((24, 32, 3)), 4)
    mosaic = tap_maps._mosaic(central)
    assert mosaic.shape == (18, 24)
    assert mosaic[::6, ::8].tolist() == [[6, 7, 8], [11, 12, 13], [16, 17, 18]]


def test_weights_share_one_scale_about_zero(rng):
    figure = figures.kernels_offsets(image(rng, 24, 32), [example(rng), example(rng)], 4)
    limits = {
        picture.get_clim() for axes in figure.axes for picture in axes.get_images() if picture.get_array().ndim == 2
    }
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high


def test_wheel_legend_names_its_radius_in_hr_pixels(rng):
    title, kernel, v, _ = example(rng)
    figure = figures.kernels_offsets(image(rng, 24, 32), [(title, kernel, 0 * v + 3, 0 * v + 4)], 4)
    assert "radius = 5.0 HR px" in [text.get_text() for text in figure.texts]


def test_offsets_that_move_nothing_are_white(rng):
    """Stretched to the whole wheel, a thousandth of a pixel would look as a pixel does."""
    title, kernel, v, h = example(rng)
    for size in (0, 1e-3):
        figure = figures.kernels_offsets(image(rng, 24, 32), [(title, kernel, size * v, size * h)], 4)
        assert "radius = 0.25 HR px" in [text.get_text() for text in figure.texts]
        (shown,) = (axes for axes in figure.axes if "offsets" in axes.get_title("left"))
        assert shown.get_images()[0].get_array().min() > 0.95


@pytest.mark.parametrize("scale", [3, 2])
def test_kernels_offsets_refuses_another_scale(rng, scale):
    with pytest.raises(ValueError, match=f"scale={scale}"):
        figures.kernels_offsets(image(rng, 24, 32), [example(rng)], scale)


def test_effective_kernels_place_taps_where_they_sample(rng):
    title, kernel, v, h = example(rng, size=3)
    cloud = tap_places._cloud((title, kernel, v, h), ("", 2, 5))
    np.testing.assert_allclose(cloud[:, 0], v[:, 2, 5] + [-1, -1, -1, 0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(cloud[:, 1], h[:, 2, 5] + [-1, 0, 1] * 3)
    np.testing.assert_allclose(cloud[:, 2], kernel[:, 2, 5])


def test_effective_kernels_have_a_panel_for_each_pixel_and_example(rng):
    examples, hr = [example(rng, 4, offsets=False), example(rng, 5)], image(rng, 24, 32)
    figure = drawn(figures.effective_kernels(hr, examples, [("edge", 0, 0), ("flat", 5, 7), ("x", 1, 1)], scale=4))
    assert len(figure.axes) == 3 * (3 + 1)
    with pytest.raises(ValueError, match="outside 6x8"):
        figures.effective_kernels(hr, examples, [("off", 6, 0)], 4)
    with pytest.raises(ValueError, match="at least one example and one pixel"):
        figures.effective_kernels(hr, examples, [], 4)


def test_effective_kernels_lie_over_the_pixels_that_they_read(rng):
    """LR pixel (2, 3) at x4 has its centre on the corner of HR pixels 9 and 10, 13 and 14."""
    hr = image(rng, 24, 32)
    figure = drawn(figures.effective_kernels(hr, [example(rng, 4)], [("", 2, 3)], 4))
    whole, behind = figure.axes[:2]
    (picture,) = behind.get_images()
    left, right, bottom, top = (round(edge) for edge in picture.get_extent())
    shown = hr[top + 10 : bottom + 10, left + 14 : right + 14]
    assert (
        picture.get_extent() == [left, right, bottom, top]
        and left <= behind.get_xlim()[0] < behind.get_xlim()[1] <= right
    )
    times = picture.get_array().shape[0] // shown.shape[0]
    np.testing.assert_allclose(picture.get_array()[::times, ::times], 0.6 * 255 + 0.4 * shown, atol=1)
    (marked, _) = whole.patches
    assert marked.get_x() + marked.get_width() / 2 == 14 and marked.get_y() + marked.get_height() / 2 == 10


# ---------------------------------------------------------------------------------------------------------- spectra


def panel(rng, reach=0.5, aliasing=True):
    curve = np.linspace(0, 0.7, 8), rng.normal(size=8)
    levels = rng.normal(size=(12, 16)) + 10 * reach
    found = {"name": "x", "note": "1 %", "levels": levels, "reach": reach, "average": curve}
    return {**found, "aliasing": curve if aliasing else None}


def test_spectra_have_a_picture_each_one_colour_scale_and_two_plots(rng):
    rows = [panel(rng, 2.0, aliasing=False), *(panel(rng) for _ in range(4))]
    figure = drawn(figures.spectra(rows))
    assert len(figure.axes) == 5 + 1 + 2
    pictures = [axes.get_images()[0] for axes in figure.axes[:5]]
    (limits,) = {picture.get_clim() for picture in pictures}
    assert limits == tuple(np.percentile([row["levels"] for row in rows[1:]], [1, 99.9]))
    assert pictures[0].get_extent() == [-2, 2, -2, 2]
    assert [len(axes.patches) for axes in figure.axes[:5]] == [2, 0, 0, 0, 0]  # the square and its rim
    averages, aliasing = figure.axes[-2:]
    assert len(averages.lines) == 5 + 1 and len(aliasing.lines) == 4 + 1  # and the Nyquist mark
    for axes in (averages, aliasing):
        assert list(axes.lines[-1].get_xdata()) == [0.5, 0.5]


# ------------------------------------------------------------------------------------------------- training, timing


def log(steps, validated=True, rates=(1e-4, 5e-5)):
    step = np.arange(steps)
    psnr = np.where(step % 10 == 0, 30 + step / 100, np.nan) if validated else np.nan
    rate = np.where(step < steps / 2, *rates)
    return pd.DataFrame({"step": step, "loss": 1 / (1 + step), "psnr": psnr, "seconds": step * 1.0, "lr": rate})


@pytest.mark.parametrize(
    ("frame", "axes"), [(log(200), 3), (log(200, validated=False), 2), (log(1, rates=(1, 1), validated=False), 1)]
)
def test_training_curve_shows_what_the_log_has(frame, axes):
    assert len(drawn(figures.training_curve(frame)).axes) == axes


def titles(axes):
    """Of a case of the bench: the text that stands left of the axes."""
    return [text.get_text() for text in axes.texts if text.get_position()[0] == 0 and text.xy == (0.01, 1)]


def test_bench_sorts_each_case_and_starts_bars_at_zero():
    rows = [
        {"name": n, "case": c, "seconds": s, "ratio": r} for c in "xy" for n, s, r in [("b", 2, 4), ("carlib", 0.5, 1)]
    ]
    figure = drawn(figures.bench(rows))
    assert [titles(axes) for axes in figure.axes] == [["x"], ["y"]]
    for axes in figure.axes:
        assert [label.get_text() for label in axes.get_yticklabels()] == ["carlib", "b"]
        assert [bar.get_x() for bar in axes.patches] == [0, 0]
        assert [text.get_text() for text in axes.texts[:2]] == ["0.5 s", "2 s   4×"]
    alone = drawn(figures.bench([{"name": "a", "case": "x", "seconds": 2, "ratio": float("nan")}])).axes[0]
    assert [text.get_text() for text in alone.texts] == ["2 s", "x"]


@pytest.mark.parametrize(("count", "bars", "columns"), [(3, 2, [3]), (1, 60, [1]), (20, 2, [10, 10]), (9, 9, [4, 5])])
def test_many_cases_of_a_bench_stand_in_two_columns_in_their_order(count, bars, columns):
    rows = [{"name": f"{b}", "case": f"{c}", "seconds": 1, "ratio": 1} for c in range(count) for b in range(bars)]
    figure = drawn(figures.bench(rows))
    shown = [axes for axes in figure.axes if titles(axes)]
    assert [titles(axes) for axes in shown] == [[f"{c}"] for c in range(count)]
    for axes in shown:  # from the left edge of its column, over the names
        (title,) = (text for text in axes.texts if text.xy == (0.01, 1))
        left, names = title.get_window_extent().x0, [label.get_window_extent().x0 for label in axes.get_yticklabels()]
        assert axes.figure.bbox.x0 <= left <= min(names)
    parts = [axes.figure for axes in shown]
    assert [parts.count(part) for part in dict.fromkeys(parts)] == columns
    assert [bool(axes.get_xlabel()) for axes in shown].count(True) == len(columns)
    assert figure.get_size_inches()[0] == 7 * len(columns)


@pytest.mark.parametrize(
    "draw", [figures.crops, figures.bench, figures.spectra, lambda rows: figures.training_curve(log(0))]
)
def test_nothing_to_draw_is_an_error(draw):
    with pytest.raises(ValueError, match="no r"):
        draw([])


def test_the_callers_style_is_neither_used_nor_changed():
    with matplotlib.rc_context({"font.size": 31, "axes.facecolor": "green"}):
        before = dict(matplotlib.rcParams)
        figure = figures.training_curve(log(20))
        assert dict(matplotlib.rcParams) == before
    assert figure.axes[0].yaxis.label.get_size() < 12
    assert figure.axes[0].get_facecolor() == (1, 1, 1, 1)


def test_a_long_title_of_a_bench_stays_in_its_column():
    case = "training step of a run with a very long name on a machine that has one, too: 16 patches of 192 px"
    rows = [{"name": "a", "case": f"{case} {n}", "seconds": 1, "ratio": 1} for n in range(20)]
    for axes in drawn(figures.bench(rows)).axes:
        for title in (text for text in axes.texts if text.xy == (0.01, 1)):
            assert title.get_window_extent().x1 <= axes.figure.bbox.x1 and "\n" in title.get_text()
