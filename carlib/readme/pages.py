"""The numbers of README.md, REPLICATION.md and docs/, rendered from the committed results between markers.

Nothing there is typed: `carlib report --readme` writes them, and a test compares the pages with the files.
"""

from carlib import results
from carlib.formats import markdown
from carlib.readme import findings, speed, trainings

PROFILE = "mini"  # whose numbers the pages show; it measured every set that is present
PAGES = {
    "README.md": ("results", "unseen", "downscalers", "speed"),
    "REPLICATION.md": (
        *("table1_claims", "table2_claims", "table3_claims", "table4_claims", "table5_findings", "fig6_claims"),
        *("rate_distortion_claims", "trials", "costs"),
    ),
    "docs/findings.md": (
        *("seeds", "scales", "attribution", "colour", "content"),
        *("lossless_gain", "jpeg", "jpeg_chroma", "jpeg_worth", "jpeg_rates", "jpeg_rates_sets"),
    ),
    "docs/speed.md": ("bench",),
}


def update() -> list:
    """Renew every generated block of the pages; the paths written.

    Raises:
        ValueError: a table or a marker is missing.
    """
    written = []
    for name, blocks in PAGES.items():
        path = results.root() / name
        text = path.read_text(encoding="utf-8")
        for block in blocks:
            text = insert(text, block, render(block))
        written.append(results.write_text(path, text))
    return written


def insert(page: str, block: str, content: str) -> str:
    """`page` with `content` between `<!-- block -->` and `<!-- /block -->`.

    Raises:
        ValueError: the page has not exactly one such pair.
    """
    begin, end = f"<!-- {block} -->\n", f"<!-- /{block} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed or begin in rest:
        raise ValueError(f"the page has no single pair of lines <!-- {block} --> and <!-- /{block} -->")
    return f"{before}{begin}{content}{end}{after}"


def render(block: str) -> str:
    """The Markdown of one block of PAGES."""
    import pandas as pd

    if block == "trials":
        return trainings.trials(pd.read_csv(_there(results.root() / "data" / "trials.csv"), keep_default_na=False))
    if block.endswith(("_claims", "_findings")):
        path = _there(results.folder(PROFILE, "tables", f"{block}.csv"))
        claims = pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns="profile", errors="ignore")
        return markdown.table(claims[claims.verdict != "not tested"].to_dict("records"))
    if block == "costs":
        return trainings.costs(PROFILE)
    if block in ("speed", "bench"):
        bench = pd.read_csv(_there(results.root() / "results" / "bench.csv"), keep_default_na=False)
        return speed.tables(bench[bench.case.str.contains(speed.SHORT)] if block == "speed" else bench)
    table, shown = findings.TABLES[block]
    path = _there(results.folder(PROFILE, "tables", f"{table}.csv"))
    try:
        return shown(pd.read_csv(path))
    except markdown.NoLineError as error:
        raise ValueError(f"{path}: {error} that the pages show: measure it on Set5, Set14 or B100") from error


def _there(path):
    if not path.is_file():
        raise ValueError(f"{path} is not there: run the pipeline, or `carlib bench --out results/bench.csv`, first")
    return path
