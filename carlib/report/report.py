"""One self-contained page of everything a profile made: its tables, its figures, and the commands that make them again.

The page is a function of the files under results/<profile>/tables and figures and of the tables that the caller adds:
no clock, no network, no library.
"""

import csv
import io
import json
import re
from pathlib import Path

from carlib import results
from carlib.report import html_page

_FOLDED = 24  # lines; longer tables are folded, and those that another shows on one page
_FIG7 = {
    "anchor": "figure-fig7",
    "title": "Fig. 7: what people prefer",
    "text": "Not there yet: nobody has been asked. The page that asks is made (carlib study make, "
    "notebooks/10_user_study.ipynb); with files of answers in data/study the figure stands here.",
}


def build(folder: Path, profile: str, *, headline, more=None) -> Path:
    """Write <folder>/report/index.html from every table and figure with a sidecar (artefacts.save_table, save_figure).

    A figure whose sidecar has "pair": {"before": "a.png", "after": "b.png"} (names in figures/; their "labels" there,
    too, or the names) also gets a slider (artefacts.save_pair).

    Args:
        folder:   results/<profile>.
        profile:  its name, shown on the page.
        headline: what this profile is and what its numbers are worth.
        more:     called without arguments once there is something to report: heading -> further tables for the page's
            end, dicts name, title, caption, command and csv (text).
    Returns:
        The page's path.
    Raises:
        ValueError: nothing to report, or a sidecar whose file is missing or cannot be read.
    """
    folder = Path(folder)
    tables = [_table(path) for path in _sidecars(folder / "tables", "table")]
    figures = [_figure(path) for path in _sidecars(folder / "figures", "figure")]
    if not tables and not figures:
        raise ValueError(f"nothing to report in {folder}: no tables/*.json, no figures/*.json; run the pipeline first")
    sections = _sections(tables) | {"Figures": _with_fig7(figures)}
    for heading, some in (more() if more else {}).items():
        sections[heading] = [_parsed(table, table["csv"].encode(), table["name"]) for table in some]
    return results.write_text(folder / "report" / "index.html", html_page.page(sections, profile, headline))


def _sidecars(folder, kind):
    """Paths of the folder's sidecars of a kind: the paper's tables, its figures, then ours; table2 before table10.

    Names with a dot in front are what a killed process left (results.atomic).
    """
    paths = [path for path in folder.glob("[!.]*.json") if _read_json(path).get("kind") == kind]
    return sorted(paths, key=lambda path: _place(path.stem))


def _place(name):
    """What names are sorted by; a table on one page stands before its long form."""
    papers = [bool(re.match(rf"{kind}\d", name)) for kind in ("table", "fig")]
    base = name.removesuffix("_grid")
    parts = [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", base)]
    return not papers[0], not papers[1], parts, base == name


def _read_json(path):
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    return fields if isinstance(fields, dict) else {}


def _read_bytes(path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}, which a sidecar names: {error.strerror}") from error


def _item(path) -> dict:
    """What tables and figures share: the sidecar's fields, with their defaults, and the page's anchor."""
    fields = _read_json(path)
    texts = {name: str(fields.get(name) or "") for name in ("title", "alt", "caption", "command")}
    texts["title"] = texts["title"] or path.stem
    return {**texts, "anchor": f"{fields['kind']}-{path.stem}", "pair": fields.get("pair")}


def _table(path) -> dict:
    raw = _read_bytes(path.with_suffix(".csv"))
    return _parsed(_item(path), raw, path.stem)


def _parsed(item, raw, name) -> dict:
    """The item of a table: its texts and the rows of its CSV."""
    rows = list(csv.reader(io.StringIO(raw.decode("utf-8"), newline="")))
    if not rows:
        raise ValueError(f"{name}.csv is empty")
    told = {"anchor": f"table-{name}", "name": f"{name}.csv", "csv": raw}
    return {**item, **told, "rows": rows, "folded": len(rows) - 1 > _FOLDED}


def _figure(path) -> dict:
    item = _item(path)
    pair = item["pair"]
    if pair:
        try:
            names, labels = [pair["before"], pair["after"]], pair.get("labels")
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f'{path}: "pair" must be {{"before": name, "after": name}}') from error
        if labels is not None and not (isinstance(labels, list) and len(labels) == 2):
            raise ValueError(f'{path}: "labels" of a pair must be two texts, not {labels!r}')
        for name in names:
            if not isinstance(name, str) or Path(name).name != name:
                raise ValueError(f"{path}: {name!r} is not the name of a file beside it")
        files = [_read_bytes(path.parent / name) for name in names]
        item["pair"] = list(zip(map(str, labels or (Path(name).stem for name in names)), files, strict=True))
    png = path.with_suffix(".png")
    item["png"] = None if pair and not png.exists() else _read_bytes(png)
    return item


def _sections(tables) -> dict:
    """Heading -> its tables: what the paper claims first, then Tables 1 to 5, then what the paper lacks."""
    grids = {table["name"].removesuffix("_grid.csv") for table in tables}
    found = {"Claims and verdicts": [], "Tables": [], "More tables": []}
    for table in tables:
        name = table["name"].removesuffix(".csv")
        if name.endswith(("_claims", "_findings")):
            found["Claims and verdicts"].append({**table, "folded": False})
        else:
            table = {**table, "folded": table["folded"] or name in grids}
            found["Tables" if re.match(r"table\d", name) else "More tables"].append(table)
    if not found["Tables"]:
        found["Tables"], found["More tables"] = found["More tables"], []
    return {heading: some for heading, some in found.items() if some}


def _with_fig7(figures) -> list:
    """The figures, with the place of the paper's Fig. 7 behind those of its own that are there."""
    papers = [figure for figure in figures if re.match(r"figure-fig\d", figure["anchor"])]
    if any(figure["anchor"].startswith("figure-fig7") for figure in papers):
        return figures
    return [*papers, _FIG7, *figures[len(papers) :]]
