"""The page's HTML: tables, figures with sliders, commands, in one file that asks the network for nothing.

Items are dicts as `carlib.report.report` collects them. A long table is folded. One that is wider than the page is set
narrower (a script measures) and else scrolls sideways beside its first column; on a telephone it is set line by line
with its columns' names.
"""

import base64
import re
from html import escape

VERDICTS = {
    "reproduced": "good", "more than printed": "more", "partly": "fair", "not": "poor", "not reproduced": "poor",
    "not tested": "none",
}  # fmt: skip

_LONG = 28  # characters


def page(sections, profile, headline) -> str:
    """The whole page.

    Args:
        sections: heading -> its items: tables ("rows"), figures ("pair", "png") and places of what is not there yet
            ("text").
        profile:  name, shown beside the headline.
    """
    title = f"CAR replication, profile {profile}"
    items = [item for some in sections.values() for item in some]
    body = []
    for heading, some in sections.items():
        body += [f'<h2 id="{_anchor(heading)}">{escape(heading)}</h2>', *map(_item_html, some)]
    body.append(_commands_html(items))
    # The policy makes the promise checkable: the browser itself refuses to load anything that is not in this file.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>",
            "<header><h1>Learned image downscaling for upscaling: replication report</h1>",
            f'<p class="banner"><b>profile {escape(profile)}</b> {escape(headline)}</p></header>',
            f'<nav aria-label="Contents"><b>Contents</b>{_contents(sections)}</nav>',
            "<main>",
            *body,
            "</main>",
            f"<script>{_FIT_JS}</script>" if any("rows" in item for item in items) else "",
            f"<script>{_SLIDER_JS}</script>" if any(item.get("pair") for item in items) else "",
            "</body>\n</html>\n",
        ]
    )


def _contents(sections) -> str:
    lines = []
    for heading, some in sections.items():
        links = "".join(f"<li>{_link(item)}</li>" for item in some)
        lines.append(f'<li><a class="heading" href="#{_anchor(heading)}">{escape(heading)}</a><ul>{links}</ul></li>')
    lines.append('<li><a class="heading" href="#regenerate">How to regenerate</a></li>')
    return f"<ul>{''.join(lines)}</ul>"


def _anchor(heading) -> str:
    return escape(heading.lower().replace(" ", "-"))


def _item_html(item) -> str:
    return _table_html(item) if "rows" in item else _place_html(item) if "text" in item else _figure_html(item)


def _place_html(item) -> str:
    title, text = escape(item["title"]), escape(item["text"])
    return f'<section id="{escape(item["anchor"])}"><h3>{title}</h3>\n<p class="place">{text}</p></section>'


def _table_html(table) -> str:
    header, *rows = table["rows"]
    numeric = [_is_numeric([row[i] for row in rows if i < len(row)]) for i in range(len(header))]
    head = "".join(f'<th scope="col"{_right(n)}>{escape(name)}</th>' for name, n in zip(header, numeric, strict=True))
    lines = []
    for row in rows:
        places = range(min(len(row), len(header)))
        cells = [_cell(row[i], i == 0 and not numeric[0], numeric[i]) for i in places]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    data = base64.b64encode(table["csv"]).decode()
    title = escape(table["title"])
    shown = (
        f'<div class="scroll table" tabindex="0" role="region" aria-label="{title}">\n'
        f"<table><thead><tr>{head}</tr></thead>\n"
        f"<tbody>{chr(10).join(lines)}</tbody></table></div>"
    )
    if table["folded"]:
        shown = f"<details><summary>All {len(rows)} lines</summary>\n{shown}</details>"
    return (
        f'<section id="{escape(table["anchor"])}"><h3>{title}</h3>\n{shown}\n'
        f'<p class="caption">{escape(table["caption"])} '
        f'<a download="{escape(table["name"])}" href="data:text/csv;base64,{data}">CSV</a></p></section>'
    )


def _cell(text, is_head, numeric) -> str:
    if is_head:
        return f'<th scope="row"{_long(text)}>{escape(text)}</th>'
    if text in ("", "nan"):
        return f'<td class="{"n " * numeric}gap">–</td>'
    verdict = VERDICTS.get(text.lower())
    shown = f'<span class="verdict {verdict}">{escape(text)}</span>' if verdict else escape(text)
    return f"<td{_right(numeric or _number(text)) or _long(text)}>{shown}</td>"


def _long(text) -> str:
    """Texts that are wrapped; shorter ones stay on one line."""
    return ' class="long"' if len(text) > _LONG else ""


def _right(numeric) -> str:
    return ' class="n"' if numeric else ""


def _is_numeric(texts) -> bool:
    """Whether a column holds numbers (or gaps) only, and at least one number."""
    filled = [text for text in texts if text not in ("", "nan", "-", "–", "- / -")]
    return bool(filled) and all(map(_number, filled))


def _number(text) -> bool:
    """A number as people write it in tables: sign, unit-less, perhaps "33.53 / 0.9012", "±0.1", "[1, 2]" or "12 %"."""
    return bool(re.fullmatch(r"[\[(]?[-+±−]?\d[\d.,eE+/±×% \])(−-]*", text.strip()))


def _figure_html(figure) -> str:
    parts = [f'<section id="{escape(figure["anchor"])}"><h3>{escape(figure["title"])}</h3>\n<figure>']
    alt = escape(figure["alt"] or figure["title"])
    if figure["pair"]:
        (before_name, before), (after_name, after) = figure["pair"]
        parts.append(
            f'<div class="pair"><img src="{_png(before)}" alt="{alt}: {escape(before_name)}">'
            f'<img class="after" src="{_png(after)}" alt="{alt}: {escape(after_name)}">'
            f'<span class="left">{escape(before_name)}</span><span class="right">{escape(after_name)}</span>'
            f'<input type="range" min="0" max="100" value="50" aria-label="Divide between {escape(before_name)}'
            f' (left) and {escape(after_name)} (right)"></div>'
        )
    if figure["png"] is not None:
        parts.append(
            f'<div class="scroll picture" tabindex="0" role="region" aria-label="{escape(figure["title"])}">'
            f'<img src="{_png(figure["png"])}" {_size(figure["png"])}alt="{alt}"></div>'
        )
    parts.append(f"<figcaption>{escape(figure['caption'])}</figcaption></figure></section>")
    return "\n".join(parts)


def _size(png) -> str:
    """The width and height to show a picture at, 110 screen pixels an inch, from the file's own pixels and density."""
    found = re.search(rb"pHYs(.{4})(.{4})\x01", png[:400], re.DOTALL)  # pixels per metre; before the image's data
    if not found or not int.from_bytes(found[1]) or not png.startswith(b"\x89PNG"):
        return ""
    scale = 110 / (int.from_bytes(found[1]) * 0.0254)
    width, height = (round(int.from_bytes(png[start : start + 4]) * scale) for start in (16, 20))
    return f'width="{width}" height="{height}" '


def _png(data) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _link(item) -> str:
    return f'<a href="#{escape(item["anchor"])}">{escape(item["title"])}</a>'


def _commands_html(items) -> str:
    """Each command once, with what it makes."""
    made = {}
    for item in items:
        if item.get("command"):
            made.setdefault(item["command"], []).append(_link(item))
    lines = [f"<dt><code>{escape(command)}</code></dt><dd>{'; '.join(links)}</dd>" for command, links in made.items()]
    return f'<section id="regenerate"><h2>How to regenerate</h2>\n<dl>{chr(10).join(lines)}</dl></section>'


# A table first as it is, then dense, then on a narrow screen each line by itself: the first that is not wider than its
# place. Only what is shown is measured: that takes the browser tens of milliseconds a table.
_FIT_JS = """
const tables = [...document.querySelectorAll(".table")];
for (const box of tables) {
  const names = [...box.querySelectorAll("thead th")].map(head => head.textContent);
  for (const row of box.querySelectorAll("tbody tr"))
    [...row.cells].forEach((cell, i) => { cell.dataset.name = names[i]; });
}
const narrow = matchMedia("(max-width: 44rem)");
const fit = box => {
  if (!box.clientWidth) return;  // in a fold that is closed
  box.classList.remove("dense", "lines");
  for (const step of narrow.matches ? ["dense", "lines"] : ["dense"])
    if (box.scrollWidth > box.clientWidth) box.classList.add(step);
};
let waiting;
addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(() => tables.forEach(fit), 150); });
for (const fold of document.querySelectorAll("details"))
  fold.addEventListener("toggle", () => fold.querySelectorAll(".table").forEach(fit));
tables.forEach(fit);
"""

_SLIDER_JS = """
for (const pair of document.querySelectorAll(".pair")) {
  const input = pair.querySelector("input");
  const move = () => pair.style.setProperty("--split", input.value + "%");
  input.addEventListener("input", move);
  move();  // the browser may have restored another value than 50
}
"""

_CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1f23; --soft: #59616b; --line: #d5dae0; --tint: #f3f5f8;
  --link: #0b57a8; --note: #fff4d6; --note-line: #d9a400; --good: #1a7f37; --fair: #9a6700; --poor: #c1271b; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e4e7eb; --soft: #a2abb6; --line: #363d46;
  --tint: #1e2329; --link: #7db8ff; --note: #33290d; --note-line: #d9a400; --good: #4ac26b; --fair: #d9a83a;
  --poor: #ff8178; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0 auto; padding: 1.25rem 1rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; overflow-wrap: break-word; }
main, header { min-width: 0; }
h1 { font-size: clamp(1.35rem, 1rem + 1.6vw, 2rem); line-height: 1.2; margin: 0 0 1rem; text-wrap: balance; }
h2 { font-size: 1.35rem; margin: 2.6rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
section { scroll-margin-top: 1rem; }
a { color: var(--link); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.banner { background: var(--note); border-left: 4px solid var(--note-line); padding: .7rem 1rem; margin: 0;
  border-radius: 0 6px 6px 0; }
.banner b { margin-right: .5em; font-size: .8rem; letter-spacing: .06em; text-transform: uppercase; }
nav { font-size: .9rem; }
nav ul { margin: .3rem 0 0; padding: 0; list-style: none; }
nav li { margin: .28rem 0; line-height: 1.35; }
nav li ul { padding-left: .8rem; }
nav .heading { font-weight: 600; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
.scroll { overflow: auto; }
.table { max-width: 100%; width: fit-content; max-height: 85vh; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: separate; border-spacing: 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .75rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { position: sticky; top: 0; z-index: 2; background: var(--tint); vertical-align: bottom;
  white-space: normal; }
table:has(tbody th) thead th:first-child { left: 0; z-index: 3; }
tbody th { position: sticky; left: 0; z-index: 1; background: var(--paper); font-weight: 600; }
.long { white-space: normal; min-width: min(20rem, 45vw); }
tbody th.long { max-width: min(28rem, 45vw); }
tbody tr:hover > * { background: var(--tint); }
.n { text-align: right; }
.dense table { font-size: .8rem; }
.dense th, .dense td { padding: .3rem .45rem; }
.dense :is(th, td):not(.n), .dense thead th { white-space: normal; }
.dense .long { min-width: 7rem; }
.lines { max-height: none; width: auto; }
details .lines { max-height: 85vh; }
.lines :is(table, tbody) { display: block; }
.lines thead { display: none; }
.lines tbody tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .1rem .8rem;
  padding: .5rem .75rem; border-bottom: 1px solid var(--line); }
.lines tbody tr:last-child { border-bottom: 0; }
.lines tbody :is(th, td) { border: 0; padding: 0; position: static; text-align: left; white-space: normal;
  min-width: 0; max-width: none; overflow-wrap: anywhere; }
.lines tbody .long, .lines tbody th { grid-column: 1 / -1; }
.lines tbody :is(th, td)::before { content: attr(data-name); display: block; color: var(--soft); font-size: .75rem;
  font-weight: 400; }
.lines .gap { display: none; }
details { margin: .3rem 0; }
summary { cursor: pointer; color: var(--link); padding: .2rem 0; }
.place { border: 1px dashed var(--line); border-radius: 6px; padding: .7rem 1rem; margin: .5rem 0; color: var(--soft);
  max-width: 68ch; }
.verdict { font-weight: 600; white-space: nowrap; }
.verdict::before { content: ""; display: inline-block; width: .6em; height: .6em; margin-right: .45em;
  border-radius: 50%; background: currentColor; }
.good { color: var(--good); } .more { color: var(--link); } .fair { color: var(--fair); }
.poor { color: var(--poor); } .none { color: var(--soft); }
.verdict.more::before { border-radius: 0; clip-path: polygon(50% 0, 100% 100%, 0 100%); }
.verdict.fair::before { border-radius: 0; } .verdict.poor::before { border-radius: 0; transform: rotate(45deg); }
.verdict.none::before { background: none; border: 1.5px solid currentColor; }
.caption, figcaption { color: var(--soft); font-size: .9rem; margin: .5rem 0 0; max-width: 68ch; }
figure { margin: 0; }
.picture { background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .5rem; max-width: 100%;
  width: fit-content; }
.picture img { display: block; height: auto; max-width: 100%; }
.picture:focus img { max-width: max(100%, 50rem); }  /* touched on a narrow screen: large enough to read, scrolls */
.pair { position: relative; width: fit-content; max-width: 100%; margin-bottom: .8rem; --split: 50%; }
.pair img { display: block; max-width: 100%; height: auto; border-radius: 6px; }
.pair .after { position: absolute; inset: 0; width: 100%; height: 100%; clip-path: inset(0 0 0 var(--split)); }
.pair::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--split); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 0 1px #000; pointer-events: none; }
.pair span { position: absolute; top: .5rem; padding: .1rem .5rem; border-radius: 4px; background: #000b; color: #fff;
  font-size: .8rem; pointer-events: none; }
.pair .left { left: .5rem; } .pair .right { right: .5rem; }
.pair input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize;
  touch-action: pan-y; }
.pair:focus-within { outline: 2px solid var(--link); outline-offset: 2px; border-radius: 6px; }
dl { margin: 0; } dd { margin: .3rem 0 1.1rem; color: var(--soft); font-size: .9rem; }
dt { background: var(--tint); border: 1px solid var(--line); border-radius: 6px; padding: .45rem .7rem; }
code { font: .875rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre-wrap; }
@media (min-width: 80rem) {
  body { max-width: 96rem; display: grid; gap: 0 3rem;
    grid-template: "nav header" auto "nav main" 1fr / 15rem minmax(0, 1fr); padding: 1.5rem 2rem 4rem; }
  header { grid-area: header; }
  main { grid-area: main; }
  nav { grid-area: nav; position: sticky; top: 1.5rem; align-self: start; max-height: calc(100vh - 3rem);
    overflow: auto; }
}
@media (max-width: 79.99rem) {
  nav { border: 1px solid var(--line); border-radius: 6px; padding: .7rem 1rem; margin-top: 1.2rem; }
  nav > ul { columns: 20rem 3; }
  nav li { break-inside: avoid; margin: 0 0 .3rem; }
}
@media print { nav { display: none; } .table { max-height: none; } .scroll { overflow: visible; } }
"""
