"""`carlib data`: list, verify and fetch the image sets. Outside carlib.data, whose import needs numpy."""

import collections
import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Image sets: list, verify, fetch.", no_args_is_help=True)


@app.command("list")
def list_sets(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write counts and digests to this file.")] = None,
):
    """Show every image set: how many images are here, how many it has, and where they lie."""
    from carlib import results
    from carlib.data import sets

    here = sets.available()
    typer.echo(f"{'set':<14} {'here':>5} {'of':>5}  folder")
    for name, image_set in sets.SETS.items():
        where = sets.folder_of(name) if name in here else f"- (carlib data fetch {name})"
        typer.echo(f"{name:<14} {here.get(name, 0):>5} {image_set.count:>5}  {where}")
    for folder in sets.named():
        if not folder.is_dir():
            typer.echo(f"carlib: CARLIB_DATA names {folder}, which is no folder", err=True)
    if json_file is not None:
        results.write_text(json_file, json.dumps(sets.inventory(), indent=1, sort_keys=True) + "\n")


@app.command()
def verify(names: Annotated[list[str] | None, typer.Argument(help="Sets; default: all that are here.")] = None):
    """Compare the pixels of every file with the manifest. Exit code 1 if a file differs or a set is incomplete."""
    from carlib.data import manifest, sets

    wrong = False
    for name in names or _whole_sets():
        checks = manifest.verify(name)
        for each in checks:
            if each.status == "differs":
                typer.echo(f"{name}: {each.file} differs: {each.detail}")
        counts = collections.Counter(each.status for each in checks)
        others = [f", {counts[status]} {status}" for status in ("differs", "missing", "unknown") if counts[status]]
        lacking = sets.SETS[sets.known(name)].count - len(checks) + counts["missing"]
        lacking = max(lacking, counts["missing"])  # a foreign file makes up for none that is named
        if lacking > counts["missing"]:  # no manifest names the files of every set
            others.append(f", {lacking} of its images are not here")
        typer.echo(f"{name}: {counts['ok']} ok{''.join(others)}")
        wrong = wrong or counts["differs"] > 0 or lacking > 0
    if wrong:
        raise typer.Exit(1)


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(help="Sets to fetch, see `carlib data list`.")],
    into: Annotated[Path | None, typer.Option(help="Folder for the sets; default: data/raw of the project.")] = None,
    from_dir: Annotated[Path | None, typer.Option(help="Take the files from this folder, not the network.")] = None,
):
    """Download image sets from pinned origins; each file is verified first. Call again to continue."""
    from carlib.data import fetch as fetch_set
    from carlib.data import sets

    for name in [sets.known(name) for name in names]:  # a misspelt name stops us before the first download
        typer.echo(str(fetch_set(name, into=into, from_dir=from_dir)))


def _whole_sets() -> list[str]:
    """The sets that are here, without those that are only a part of another one that is here."""
    from carlib.data import sets

    here = sets.available()
    parts = ("bsds500-train", "bsds500-test") if "bsds500" in here else ()
    return [name for name in here if name not in parts]
