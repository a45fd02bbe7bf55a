"""The page in a real browser, from disk: no error, nothing wider than the window, on a phone and on a wide screen."""

import json
import re
import shutil
import subprocess
from html import unescape

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from carlib import artefacts
from carlib.report import report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
WIDTHS = (400, 1000, 1600)  # px
TEXTS = {"title": "A title of some length", "caption": "What it shows, and of what.", "command": f"carlib {'x' * 200}"}

pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium or Chrome here")

# Written into the head of a page: it tells its frame's parent what it measured of itself.
_PROBE = """<script>
const wrong = [];
const tell = what => wrong.push(String(what));
addEventListener("error", event => tell(event.message || event.target.src || "error"), true);
addEventListener("securitypolicyviolation", event => tell(`${event.violatedDirective} ${event.blockedURI}`));
addEventListener("unhandledrejection", event => tell(event.reason));
console.error = console.warn = tell;
addEventListener("load", () => setTimeout(() => {
  const page = document.documentElement, lines = document.querySelectorAll(".lines").length;
  const loaded = [...document.images].filter(image => image.naturalWidth > 0).length;
  const told = {wrong, width: page.clientWidth, over: page.scrollWidth - page.clientWidth, loaded, lines};
  parent.postMessage([window.name, told], "*");
}, 100));
</script>"""
_FRAMES = """<!DOCTYPE html><body><pre id="told"></pre><script>
const told = {};
onmessage = ({data: [name, found]}) => {
  told[name] = found;
  document.getElementById("told").textContent = JSON.stringify(told);
};
</script>%s</body>"""


def written(folder):
    """A page of tables narrow and wide, short and long, a figure and a slider; a probe in its head."""
    claim = "EDSR restores worse from L0-regularized's LR (here our reconstruction) than from bicubic's"
    claims = pd.DataFrame({"claim": [claim] * 3, "scale": ["x2"] * 3, "ours (Set5 / B100, dB)": ["+1.00 / +2.00"] * 3,
                           "verdict": ["reproduced", "more than printed", "not tested"]})  # fmt: skip
    wide = pd.DataFrame([[f"{claim} {row}", *np.arange(18) / 7] for row in range(40)])
    wide.columns = ["method", *(f"a column {number}" for number in range(18))]
    for name, frame in (("table1_claims", claims), ("table1", wide), ("table1_grid", wide[:3])):
        artefacts.save_table(frame, folder / "tables" / name, **TEXTS)
    figure = Figure(figsize=(15, 3))
    figure.text(0, 0, "drawn")
    artefacts.save_figure(figure, folder / "figures" / "fig2", alt="a", **TEXTS)
    images = {"before": np.zeros((40, 900, 3), np.uint8), "after": np.full((40, 900, 3), 255, np.uint8)}
    artefacts.save_pair(images, folder / "figures" / "slider", alt="b", **TEXTS)
    text = report.build(folder, "demo", headline="A headline.").read_text(encoding="utf-8")
    return text.replace("<head>", f"<head>{_PROBE}", 1)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Frame -> what its page told: one of each of WIDTHS, and one that must be found wrong."""
    folder = tmp_path_factory.mktemp("page")
    page = written(folder)
    (folder / "page.html").write_text(page, encoding="utf-8")
    bad = '<img src="https://example.org/a.png" alt=""><div style="width: 3000px">wide</div><script>nothing()</script>'
    (folder / "bad.html").write_text(page.replace("<main>", f"<main>{bad}", 1), encoding="utf-8")
    frames = [(str(width), "page.html", width) for width in WIDTHS] + [("bad", "bad.html", 400)]
    shown = (
        f'<iframe name="{name}" src="{file}" width="{width}" height="900" style="border: 0"></iframe>'
        for name, file, width in frames
    )
    (folder / "frames.html").write_text(_FRAMES % "".join(shown))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'user'}", "--dump-dom"]
    command = [BROWSER, *options, "--virtual-time-budget=3000", (folder / "frames.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    found = re.search(r'<pre id="told">(.+?)</pre>', done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(unescape(found[1]))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_loads_without_an_error_and_is_no_wider_than_its_window(seen, width):
    found = seen[str(width)]
    assert found["wrong"] == [] and width - 20 <= found["width"] <= width and found["over"] == 0
    assert found["loaded"] == 3  # a figure and the slider's two


def test_a_wide_table_is_told_line_by_line_where_the_window_is_narrow(seen):
    assert seen["400"]["lines"] >= 2 and seen["400"]["lines"] > seen["1600"]["lines"]


def test_the_same_measurement_finds_what_is_wrong(seen):
    found = seen["bad"]
    assert found["over"] > 2000 and found["loaded"] == 3
    assert any("example.org" in what for what in found["wrong"]) and any("nothing" in what for what in found["wrong"])
