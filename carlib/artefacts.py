"""What a notebook makes and people look at: rows, tables and figures, each with its sidecar and a record of its origin.

Such a record changes with every commit, the result itself does not. So the records are neither outputs nor dependencies
of a pipeline stage: `dvc repro` does not look at them, and tables stay byte-identical. The report counts them by
commit. Git keeps those of mini and paper; every `make repro` writes those of demo anew, and git ignores them.
"""

import json
from pathlib import Path

from carlib import data, provenance, results, runs
from carlib.formats import latex, markdown


def made_with(path, profile) -> dict:
    """All that `path` was made with, as JSON-able values; no clock and no name of a machine is in it.

    Args:
        path:    the result, already written.
        profile: of params.yaml.
    Returns:
        dict: sha256 of the file; profile; commit; parameters (the profile's section of params.yaml, the tolerance, the
        digest of the whole file); data (images and digest of every set that is present); weights (of every run that
        this process has loaded until now: digest, profile, seed, commit); versions.
    """
    params = runs.read_params()
    return {
        "sha256": provenance.sha256(path),
        "profile": profile,
        "commit": provenance.commit(),
        "parameters": {
            "profile": params["profiles"].get(profile),
            "tolerance": params.get("tolerance"),
            "params.yaml": provenance.sha256(results.root() / "params.yaml"),
        },
        "data": data.inventory(),
        "weights": provenance.loaded_weights(),
        "versions": provenance.versions(),
    }


def save_rows(rows, path, columns=results.ROW_COLUMNS) -> Path:
    """Write long-form rows (an iterable of dicts with `columns`, default those of metrics) as CSV."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=columns)
    return _traced(results.write_text(path, frame.to_csv(index=False, float_format="%.6f")))


def save_table(frame, path, *, title: str, caption: str, command: str) -> Path:
    """Write a DataFrame as <path>.csv, .md and .tex, with a sidecar <path>.json. `path` has no suffix."""
    path = Path(path)
    rounded = frame.round(4)  # 33.66 was printed so, not 33.6600
    results.write_text(path.with_suffix(".csv"), rounded.to_csv(index=False))
    text = f"**{title}**\n\n{_markdown(frame)}\n\n{caption}\n\nMade by `{command}`.\n"
    results.write_text(path.with_suffix(".md"), text)
    told = {"caption": f"{title}. {caption}", "label": path.stem, "cell": _cell}
    results.write_text(path.with_suffix(".tex"), latex.table(frame, **told))
    _sidecar(path, kind="table", title=title, caption=caption, command=command)
    return _traced(path.with_suffix(".csv"))


def save_figure(figure, path, *, title: str, alt: str, caption: str, command: str, dpi: int = 150) -> Path:
    """Write a matplotlib figure as <path>.png and .pdf, with a sidecar <path>.json. `path` has no suffix."""
    import matplotlib

    path = Path(path)
    for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None})):
        with results.atomic(path.with_suffix(f".{kind}")) as temporary, matplotlib.rc_context({"pdf.fonttype": 42}):
            figure.savefig(temporary, dpi=dpi, format=kind, metadata=metadata)  # 42: fonts that publishers accept
    _sidecar(path, kind="figure", title=title, alt=alt, caption=caption, command=command)
    # A notebook need not draw it again; matplotlib makes it stale as soon as something of it is changed.
    figure.saved_as, figure.stale = path.with_suffix(".png"), False
    return _traced(figure.saved_as)


def remove_figure(path):
    """Remove what `save_figure` wrote there, if it did: of numbers that are gone."""
    path = Path(path)
    for suffix in (".png", ".pdf", ".json"):
        path.with_suffix(suffix).unlink(missing_ok=True)
    _record_of(path.with_suffix(".png")).unlink(missing_ok=True)


def save_pair(images: dict, path, *, title: str, alt: str, caption: str, command: str) -> Path:
    """Write two pictures that the page lays over each other, with a sidecar <path>.json. `path` has no suffix.

    Args:
        images: label -> uint8 (H, W, 3), two of one size; the first lies on the left, <path>-before.png, the other is
            <path>-after.png.
    Returns:
        path of the second.
    """
    path = Path(path)
    files = [path.with_name(f"{path.name}-{place}.png") for place in ("before", "after")]
    if len({image.shape for image in images.values()}) != 1 or len(images) != 2:
        sizes = ", ".join(f"{label} {image.shape}" for label, image in images.items())
        raise ValueError(f"{path.name} takes two pictures of one size, not {sizes}")
    for file, image in zip(files, images.values(), strict=True):
        data.write_image(file, image)
    pair = {"before": files[0].name, "after": files[1].name, "labels": list(images)}
    _sidecar(path, kind="figure", title=title, alt=alt, caption=caption, command=command, pair=pair)
    return [_traced(file) for file in files][1]


def _sidecar(path: Path, **fields):
    results.write_text(path.with_suffix(".json"), json.dumps(fields, indent=1, ensure_ascii=False) + "\n")


def _traced(path: Path) -> Path:
    """`path`, once what made it is written beside it, if it lies in results/<profile>/<kind>/."""
    try:
        profile, kind, name = path.resolve().relative_to(results.root().resolve() / "results").parts
    except ValueError:  # the user's own file, or none of a profile
        return path
    record = {"file": f"{kind}/{name}", **made_with(path, profile)}
    results.write_text(_record_of(path), json.dumps(record, indent=1) + "\n")
    return path


def _record_of(path: Path) -> Path:
    """Where it is written what made a file of results/<profile>/<kind>/."""
    return path.resolve().parent.parent / "provenance" / f"{path.parent.name}-{path.name}.json"


def _markdown(frame) -> str:
    head, body = markdown.line(frame.columns), (markdown.line(map(_cell, row)) for row in frame.itertuples(index=False))
    return "\n".join([head, "|" + "---|" * len(frame.columns), *body])


def _cell(value) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.4f}".rstrip("0").rstrip(".")
    return str(value)
