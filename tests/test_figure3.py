"""Fig. 3: the paper's images where they are, every downscaler that has weights, and the numbers of evaluate."""

import json

import pytest

from carlib import artefacts, data, evaluate, experiments, figures, results
from carlib.notebook import ParameterError
from carlib.studies import figure3

BOX = [64, 152, 72, 96]


@pytest.fixture
def drawn(monkeypatch):
    """The rows that would be drawn, and the caption."""
    found = {}
    monkeypatch.setattr(figures, "crops", lambda rows: found.setdefault("rows", rows))
    monkeypatch.setattr(artefacts, "save_figure", lambda figure, path, **texts: found.update(texts))
    return found


def test_without_set14_embedded_photographs_stand_in(home):
    assert all(image.startswith("demo/") for image in figure3.choose())
    for scale in (2, 3, 4, 8):
        assert list(figure3.check({}, scale)) == list(figure3.choose())  # and their boxes fit
    assert figure3.choose({"demo/sail": BOX}) == {"demo/sail": BOX}


def test_the_papers_boxes_fit_its_images():
    try:
        images = figure3.check(figure3._PAPERS, 4)
    except ValueError as error:
        pytest.skip(f"Set14 is not here: {error}")
    assert list(images) == ["set14/barbara", "set14/comic", "set14/ppt3"] == list(figure3.choose())


def test_numbers_are_those_of_evaluate_and_missing_runs_are_named(home, drawn):
    figure3.draw("demo", {"demo/sail": [176, 196, 72, 96]})
    (row,) = drawn["rows"]
    labels = [label for label, _, _ in row["panels"]]
    assert labels[:2] == ["Bicubic LR", "Bicubic"] and labels[-2:] == ["CAR LR", "CAR"]
    image = dict(data.load("demo"))["sail"]
    rows = evaluate._measure(experiments.chain("car-edsr-x4", "demo"), image, ("standard",), None)
    psnr, ssim = (r["value"] for r in rows)
    assert row["panels"][-1][1] == f"{psnr:.2f} dB / {ssim:.4f}"
    for downscaler, label in figure3._LABELS.items():
        shipped = (home / "data" / "weights" / f"{downscaler}-edsr-x4.safetensors").is_file()
        missing = drawn["caption"].partition("without weights of this profile's recipe: ")[2]
        assert (label in labels) == shipped and (label in missing) != shipped


def test_a_slider_has_the_restored_crops_of_bicubic_and_car(home, drawn, monkeypatch):
    monkeypatch.setattr(figure3, "_LABELS", {"bicubic": "Bicubic", "car": "CAR"})
    figure3.draw("demo", {"demo/sail": BOX})
    folder = results.folder("demo", "figures")
    paths = sorted(folder.glob("*.json"))
    assert [path.stem.rpartition("_")[2] for path in paths] == ["slider1"]
    for path, row in zip(paths, drawn["rows"], strict=True):
        fields = json.loads(path.read_text(encoding="utf-8"))
        assert fields["pair"]["labels"] == ["bicubic + EDSR", "CAR + EDSR"] and row["name"] in fields["title"]
        whole = {label: (told, image) for label, told, image in row["panels"]}
        for place, label in (("before", "Bicubic"), ("after", "CAR")):
            told, image = whole[label]
            crop = image[BOX[0] : BOX[0] + BOX[2], BOX[1] : BOX[1] + BOX[3]]
            picture = data.read_image(folder / fields["pair"][place])
            assert picture.shape[:2] == (6 * BOX[2], 6 * BOX[3]) and (picture[::6, ::6] == crop).all()
            assert told in fields["caption"]


@pytest.mark.parametrize(("crops", "told"), [
    ({"demo/nobody": BOX}, "no image 'nobody' in demo"),
    ({"demo/sail": [0, 0, 72]}, r"box=\[0, 0, 72\] is not"),
    ({"demo/sail": 4}, "is not {\"set/name\""),
    ({"demo/sail": [0, 0, 4000, 96]}, "reaches beyond demo/sail"),
])  # fmt: skip
def test_a_crop_that_does_not_fit_is_one_line(home, crops, told):
    with pytest.raises(ParameterError, match=told) as refusal:
        figure3.check(crops, 4)
    assert "\n" not in str(refusal.value)
