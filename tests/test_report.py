"""Laws of the page: it holds everything, escapes everything, asks the network for nothing and is always the same."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from carlib import artefacts
from carlib.report import html_page, report


@pytest.fixture
def folder(tmp_path):
    """results/<profile> with two tables and two figures."""
    for number, rows in (("2", 3), ("10", 1)):
        frame = pd.DataFrame({"set": ["Set5"] * rows, "ours": [30.5] * rows, "verdict": ["partly"] * rows})
        path = tmp_path / "tables" / f"table{number}"
        artefacts.save_table(
            frame, path, title=f"Table {number}", caption="Of <sets> & 'all'.", command="carlib study 1"
        )
    for name in ("curve", "crops"):
        figure = Figure(figsize=(2, 1))
        figure.text(0, 0, name)
        path = tmp_path / "figures" / name
        artefacts.save_figure(
            figure, path, title=name, alt=f'The "{name}"', caption="Look.", command=f"carlib study {name}"
        )
    return tmp_path


def build(folder, **kwargs):
    return report.build(folder, "demo", **{"headline": "A headline.", **kwargs}).read_text(encoding="utf-8")


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


def test_every_verdict_has_a_look_of_its_own(folder):
    """Not by its colour alone."""
    words = list(html_page.VERDICTS)
    frame = pd.DataFrame({"what": words, "verdict": words})
    artefacts.save_table(frame, folder / "tables" / "t", title="t", caption="c", command="d")
    text = build(folder)
    for word, look in html_page.VERDICTS.items():
        assert f'<span class="verdict {look}">{word}</span>' in text and f".{look} {{ color:" in text
    assert all(f".verdict.{look}::before" in text for look in set(html_page.VERDICTS.values()) - {"good"})


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
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in text


def test_cells_profile_and_headline_are_escaped(folder):
    path = folder / "tables" / "table2"
    artefacts.save_table(pd.DataFrame({"<b>": ["<i>"], "x": ["<u>"]}), path, title="t", caption="c", command="d")
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
    assert html_page._number(text)


@pytest.mark.parametrize("text", ["", "Set5", "4 images", "-", "n/a", "2x2 box"])
def test_does_not_look_like_a_number(text):
    assert not html_page._number(text)


def test_pair_makes_a_slider_with_both_pictures(folder):
    pair = {"kind": "figure", "title": "pair", "pair": {"before": "crops.png", "after": "curve.png"}}
    (folder / "figures" / "pair.json").write_text(json.dumps(pair))
    page = Page(build(folder))
    assert page.nested and len(page.all("img")) == 4
    assert [i["type"] for i in page.all("input")] == ["range"] and page.all("input")[0]["aria-label"]
    assert len(page.all("script")) == 2


def test_a_saved_pair_is_a_slider_with_its_labels(folder):
    images = {"<before>": np.zeros((4, 6, 3), np.uint8), "after": np.full((4, 6, 3), 9, np.uint8)}
    texts = {"title": "t", "alt": "a", "caption": "c", "command": "d"}
    artefacts.save_pair(images, folder / "figures" / "fig3_slider1", **texts)
    text = build(folder)
    assert '<span class="left">&lt;before&gt;</span><span class="right">after</span>' in text
    for place in ("before", "after"):
        png = (folder / "figures" / f"fig3_slider1-{place}.png").read_bytes()
        assert base64.b64encode(png).decode() in text
    assert [i["alt"] for i in Page(text).all("img")][:2] == ["a: <before>", "a: after"]
    with pytest.raises(ValueError, match="fig3 takes two pictures of one size"):
        artefacts.save_pair({"a": images["after"], "b": images["after"][1:]}, folder / "figures" / "fig3", **texts)


@pytest.mark.parametrize("name", ["../tables/table2.csv", "missing.png"])
def test_pair_stays_inside_its_folder(folder, name):
    pair = {"kind": "figure", "title": "pair", "pair": {"before": "crops.png", "after": name}}
    (folder / "figures" / "pair.json").write_text(json.dumps(pair))
    with pytest.raises(ValueError, match=re.escape(name)):
        build(folder)


def test_what_a_killed_process_left_half_written_is_not_read(folder):
    text = build(folder)
    for name in ("tables/.table2.abcd.json", "figures/.curve.abcd.json"):
        (folder / name).write_text("{")
    assert build(folder) == text


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
        report.build(tmp_path if exists else tmp_path / "none", "demo", headline="A headline.")
    assert "\n" not in str(caught.value)


def test_headline_says_what_the_profile_is_worth(folder):
    assert "Two images only." in build(folder, headline="Two images only.")


def test_a_table_on_one_page_stands_before_its_long_form_which_is_folded(folder):
    artefacts.save_table(
        pd.DataFrame({"set": ["Set5"]}), folder / "tables" / "table2_grid", title="t", caption="c", command="d"
    )
    long = pd.DataFrame({"claim": range(25)})
    for name in ("table3", "table3_claims"):
        artefacts.save_table(long, folder / "tables" / name, title=name, caption="c", command="d")
    sections = dict(re.findall('<section id="table-(\\w+)">(.*?)</section>', build(folder), re.S))
    assert list(sections) == ["table3_claims", "table2_grid", "table2", "table3", "table10"]
    folded = {name: re.findall("<summary>(.*?)</summary>", text) for name, text in sections.items()}
    assert folded.pop("table2") == ["All 3 lines"] and folded.pop("table3") == ["All 25 lines"]
    assert not any(folded.values())


@pytest.mark.parametrize("exists", [False, True])
def test_fig_7_has_its_place_behind_the_papers_other_figures(folder, exists):
    for number in ("6", "7") if exists else ("6",):
        artefacts.save_figure(
            Figure(figsize=(1, 1)), folder / "figures" / f"fig{number}", title=number, alt="a", caption="c", command="d"
        )
    text = build(folder)
    order = re.findall('<section id="figure-(\\w+)">', text)
    assert order == ["fig6", "fig7", "crops", "curve"]
    assert ("Not there yet" in text) != exists


def test_further_tables_stand_at_the_end_under_their_headings(folder):
    more = {
        "Costs & more": [{"name": "runs", "title": "Runs", "caption": "c", "command": "carlib x", "csv": "run\n<i>\n"}]
    }
    text = build(folder, more=lambda: more)
    assert '<h2 id="costs-&amp;-more">Costs &amp; more</h2>' in text and '<th scope="row">&lt;i&gt;</th>' in text
    order = [text.index(f'<section id="{name}">') for name in ("figure-curve", "table-runs", "regenerate")]
    assert order == sorted(order) and "carlib x" in text[order[2] :]


def test_claims_come_first_then_the_papers_tables(folder):
    frame = pd.DataFrame({"claim": ["CAR is first", "x" * 29], "verdict": ["partly", "not"]})
    for name in ("alpha", "alpha_claims", "fig6_claims", "table10_claims", "table2_claims", "table1_claims"):
        artefacts.save_table(frame, folder / "tables" / name, title=name, caption="c", command="d")
    text = build(folder)
    names = [f"{name}_claims" for name in ("table1", "table2", "table10", "fig6", "alpha")]
    order = [text.index(f'<section id="table-{name}">') for name in (*names, "table2", "table10", "alpha")]
    assert order == sorted(order)
    assert re.findall("<h2 id=.*?>(.*?)</h2>", text)[:3] == ["Claims and verdicts", "Tables", "More tables"]
    assert '<th scope="row">CAR is first</th>' in text and f'<th scope="row" class="long">{"x" * 29}</th>' in text
