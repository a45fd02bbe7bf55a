"""Laws of the page: it holds everything, escapes everything, asks the network for nothing and is always the same."""

import base64
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from matplotlib.figure import Figure

from carlib import report, results


@pytest.fixture
def folder(tmp_path):
    """results/<profile> with two tables and two figures."""
    for number, rows in (("2", 3), ("10", 1)):
        frame = pd.DataFrame({"set": ["Set5"] * rows, "ours": [30.5] * rows, "verdict": ["partly"] * rows})
        path = tmp_path / "tables" / f"table{number}"
        results.save_table(frame, path, title=f"Table {number}", caption="Of <sets> & 'all'.", command="carlib study 1")
    for name in ("curve", "crops"):
        figure = Figure(figsize=(2, 1))
        figure.text(0, 0, name)
        path = tmp_path / "figures" / name
        results.save_figure(
            figure, path, title=name, alt=f'The "{name}"', caption="Look.", command=f"carlib study {name}"
        )
    return tmp_path


def build(folder, **kwargs):
    return report.build(folder, "demo", **kwargs).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Tags with their attributes, and whether every element that was opened is closed in order."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.nested = [], [], True
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        self.nested &= bool(self.open) and self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_page_is_well_formed(folder):
    page = Page(build(folder))
    assert page.nested and not page.open
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")} <= set(ids)


def test_every_figure_and_table_is_embedded(folder):
    text = build(folder)
    for png in folder.glob("figures/*.png"):
        assert base64.b64encode(png.read_bytes()).decode() in text
    page = Page(text)
    assert len(page.all("img")) == 2 and len(page.all("table")) == 2
    assert [image["alt"] for image in page.all("img")] == ['The "crops"', 'The "curve"']
    assert len(page.all("tr")) == (1 + 3) + (1 + 1)


def test_tables_come_first_and_in_the_order_of_their_numbers(folder):
    text = build(folder)
    places = [text.index(f'id="{name}"') for name in ("table-table2", "table-table10", "figure-crops", "regenerate")]
    assert places == sorted(places)


def test_page_asks_the_network_for_nothing(folder):
    for _, attributes in Page(build(folder)).tags:
        for name in ("src", "href", "srcset", "action", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    text = re.sub(r"base64,[^\"]*", "", build(folder))
    assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text


def test_page_is_the_same_every_time(folder):
    assert build(folder) == build(folder)


@pytest.mark.parametrize("field", ["title", "caption", "alt", "command"])
def test_sidecar_text_is_escaped(folder, field):
    path = folder / "figures" / "crops.json"
    fields = {**json.loads(path.read_text()), field: '"><script>alert(1)</script>&'}
    path.write_text(json.dumps(fields))
    text = build(folder)
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in text


def test_cells_profile_and_headline_are_escaped(folder):
    path = folder / "tables" / "table2"
    results.save_table(pd.DataFrame({"<b>": ["<i>"], "x": ["<u>"]}), path, title="t", caption="c", command="d")
    text = report.build(folder, "<s>", headline="<em> & more").read_text(encoding="utf-8")
    for tag in ("b", "i", "u", "s", "em"):
        assert f"&lt;{tag}&gt;" in text
    assert not {"i", "u", "s", "em"} & {tag for tag, _ in Page(text).tags}
    assert "&lt;em&gt; &amp; more" in text


def test_numbers_are_aligned_right_and_words_left(folder):
    page = build(folder)
    assert '<td class="n">30.5' in page and '<th scope="row">Set5' in page
    assert '<td><span class="verdict fair">partly</span></td>' in page


@pytest.mark.parametrize("text", ["1", "-0.25", "33.53 / 0.9012", "[-0.31, 0.12]", "1e-4", "12 %", "±0.1", "2×"])
def test_looks_like_a_number(text):
    assert report._number(text)


@pytest.mark.parametrize("text", ["", "Set5", "4 images", "-", "n/a", "2x2 box"])
def test_does_not_look_like_a_number(text):
    assert not report._number(text)


def test_pair_makes_a_slider_with_both_pictures(folder):
    pair = {"kind": "figure", "title": "pair", "pair": {"before": "crops.png", "after": "curve.png"}}
    (folder / "figures" / "pair.json").write_text(json.dumps(pair))
    page = Page(build(folder))
    assert page.nested and len(page.all("img")) == 4
    assert [i["type"] for i in page.all("input")] == ["range"] and page.all("input")[0]["aria-label"]
    assert len(page.all("script")) == 1


@pytest.mark.parametrize("name", ["../tables/table2.csv", "missing.png"])
def test_pair_stays_inside_its_folder(folder, name):
    pair = {"kind": "figure", "title": "pair", "pair": {"before": "crops.png", "after": name}}
    (folder / "figures" / "pair.json").write_text(json.dumps(pair))
    with pytest.raises(ValueError, match=re.escape(name)):
        build(folder)


def test_a_missing_picture_or_broken_sidecar_is_named(folder):
    (folder / "figures" / "crops.png").unlink()
    with pytest.raises(ValueError, match=r"crops\.png"):
        build(folder)
    (folder / "figures" / "crops.json").write_text("{")
    with pytest.raises(ValueError, match=r"crops\.json"):
        build(folder)


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_to_report_is_one_line(tmp_path, exists):
    with pytest.raises(ValueError, match="nothing to report") as caught:
        report.build(tmp_path if exists else tmp_path / "none", "demo")
    assert "\n" not in str(caught.value)


def test_headline_says_what_the_profile_is_worth(folder):
    assert "not of the paper&#x27;s size" in build(folder)
    assert "Two images only." in build(folder, headline="Two images only.")


def test_claims_come_first_then_the_papers_tables(folder):
    frame = pd.DataFrame({"claim": ["CAR is first", "x" * 29], "verdict": ["partly", "not"]})
    for name in ("alpha", "alpha_claims", "fig6_claims", "table10_claims", "table2_claims", "table1_claims"):
        results.save_table(frame, folder / "tables" / name, title=name, caption="c", command="d")
    text = build(folder)
    names = [f"{name}_claims" for name in ("table1", "table2", "table10", "fig6", "alpha")]
    order = [text.index(f'<section id="table-{name}">') for name in (*names, "table2", "table10", "alpha")]
    assert order == sorted(order)
    assert re.findall("<h2>(.*?)</h2>", text)[:3] == ["Claims and verdicts", "Tables", "More tables"]
    assert '<th scope="row">CAR is first</th>' in text and f'<th scope="row" class="long">{"x" * 29}</th>' in text
