"""The command `carlib`. Bad input ends in one line on stderr and exit code 2; heavy imports happen inside commands."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from carlib import stopping
from carlib.commands import data, images, measure, study, training
from carlib.commands.training import Profile

_MISUSE = typer.BadParameter.__base__  # Click's UsageError: some versions of Typer bring a Click of theirs

app = typer.Typer(
    name="carlib",
    help="Learned image downscaling with a content adaptive resampler (CAR), and the replication of its paper.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(training.app)
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")


def _say_version(wanted: bool):
    if wanted:
        import carlib

        typer.echo(f"carlib {carlib.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
):
    """What stands before a command."""


for command in (images.downscale, images.upscale, measure.measure):
    app.command()(command)


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="A run of params.yaml; bicubic-bicubic-x2 needs no weights.")],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Image set, or a folder such as ./photos; repeat. Default: the profile's."),
    ] = None,
    profile: Profile = None,
    protocol: measure.Protocols = None,
    weights: Annotated[
        Path | None, typer.Option(help="A weights file; default: the run's own, else the shipped.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="CSV; default: in results/<profile>/metrics, with --weights by their digest.")
    ] = None,
):
    """Measure PSNR and SSIM of a run.

    The CSV has a row per image, protocol and metric.
    """
    from carlib import artefacts, data, experiments, provenance, results

    if out is not None:
        results.check_table(out, results.ROW_COLUMNS)
    protocols = list(dict.fromkeys(protocol or ["standard"]))
    sets = list(dict.fromkeys(sets or []))
    chosen = {"protocols": protocols, "weights": weights, "any_recipe": True, "device": device}
    rows = experiments.measure(run, profile, sets or None, **chosen)
    if out is None:  # other weights than the run's own leave its rows alone
        digest = [] if weights is None else [provenance.sha256(weights)[:8]]
        stem = "-".join([run, *digest, *map(data.label, map(data.canonical, sets))])
        out = results.folder(rows[0]["profile"], "metrics", f"{stem}.csv")
    typer.echo(experiments.summary(rows).to_string(index=False, float_format=lambda v: f"{v:.4f}"))
    typer.echo(artefacts.save_rows(rows, out))


@app.command()
def check(device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto"):
    """See whether this installation computes what it should.

    Compares the shipped weights with their digests, each implementation of the operator with the formula, the codecs
    with the pixels they were given, and PSNR with that of the machine that shipped them. Exit code 1 where one differs.
    """
    from carlib import check as checks

    failed = 0
    for line in checks.lines(device):
        failed += line.passed is False
        told = {True: "ok", False: "WRONG", None: "-"}[line.passed]
        typer.echo(f"{told:6}{line.what:20} {line.told}")
    if failed:
        typer.echo(f"carlib: {failed} of these {'is' if failed == 1 else 'are'} wrong", err=True)
        raise typer.Exit(1)


@app.command()
def bench(
    case: Annotated[
        str,
        typer.Argument(
            help="operator: the resampling; convolution: those of the networks; train: a step; kill: resuming; "
            "downscale and upscale: methods; start: of the commands; or all.",
        ),
    ] = "all",
    out: Annotated[
        Path | None, typer.Option(help="CSV, of which one case renews its own rows; a picture appears beside it.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Timed rounds; their median counts, of downscale the fastest.")] = 7,
    profile: Annotated[str | None, typer.Option(help="Of train: whose runs; default: mini.")] = None,
    device: Annotated[str | None, typer.Option(help="Of train and kill: auto, cpu, cuda; of operator: cuda.")] = None,
    param: Annotated[
        list[str] | None, typer.Option("-p", "--param", metavar="NAME=VALUE", help="Of train: override a run's number.")
    ] = None,
    kills: Annotated[
        int | None, typer.Option(help="Of kill: how often a training is killed and begun again; default: 20.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of kill: what the moments are drawn from; default: 0.")] = None,
):
    """Time carlib against rivals.

    Each time stands beside what others do the same with, in the same run. kill: sees that a killed training ends with
    the same bits.
    """
    from carlib.bench import suite as benchmarks

    options = {"profile": profile, "device": device, "params": param, "kills": kills, "seed": seed}
    table = benchmarks.run(case, repeats=repeats, out=out, **options)
    typer.echo(table.to_string(index=False))


@app.command()
def models(
    sizes: Annotated[list[str] | None, typer.Option("--size", help="mini, base, paper; repeat. Default: all.")] = None,
    scales: Annotated[list[int] | None, typer.Option("--scale", help="Factor; repeat. Default: 2 and 4.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Also run each: seconds and gigabytes per HR megapixel on this machine.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="With --measure: CSV whose rows of them it renews, results/networks.csv, say.")
    ] = None,
):
    """List the networks and their cost.

    Parameters, and billions of multiply-adds per HR megapixel.
    """
    from carlib import models as networks
    from carlib import network_costs

    before = network_costs.earlier(out, measure)

    table = networks.summary(sizes or ("mini", "base", "paper"), scales or (2, 4))
    if measure:
        written = (lambda measured: None) if out is None else partial(network_costs.save, out=out, before=before)
        table = network_costs.measure(table, each=written)
    shown = table.drop(columns="machine", errors="ignore").assign(parameters=table["parameters"].map("{:,}".format))
    typer.echo(shown.to_string(index=False, float_format=lambda v: f"{v:.4g}"))
    if out is not None:
        typer.echo(out)


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="Of a file in notebooks/, such as 06_kernels_offsets.")],
    param: Annotated[
        list[str] | None, typer.Option("-p", "--param", metavar="NAME=VALUE", help="Set a parameter of the notebook.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Executed copy; default: results/<profile>/notebooks/.")] = None,
):
    """Run a notebook with parameters.

    As papermill does it, but a wrong parameter is one line, not a traceback.
    """
    from carlib import experiments

    typer.echo(experiments.run_notebook(name, param or [], out=out))


@app.command()
def report(
    profile: Profile = None,
    readme: Annotated[
        bool,
        typer.Option(
            "--readme", help="Also renew the tables of README.md, REPLICATION.md and docs/ (from profile mini)."
        ),
    ] = False,
):
    """Make the page of a profile's results."""
    from carlib import experiments

    typer.echo(experiments.build_report(profile))
    if readme:
        from carlib.readme import pages

        for path in pages.update():
            typer.echo(path)


def main():
    """Entry point: run a command; a refusal is one line on stderr and exit code 2."""
    # OpenMP's threads spin while they wait. A short spin costs a step nothing alone, and keeps a second program on the
    # same cores from slowing both by far more than half (measured on two: 10 times without).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except (ValueError, OSError) as error:
        typer.echo(f"carlib: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
    except stopping.Stopped as told:
        typer.echo(f"carlib: {told}: the same command continues", err=True)
        sys.exit(128 + told.number)
    except MemoryError as error:  # NumPy says how much it wanted, Python nothing
        told = " ".join(str(error).split())
        advice = "use a smaller image, or with a network a smaller --tile"
        typer.echo(f"carlib: not enough memory{f' ({told})' if told else ''}: {advice}", err=True)
        sys.exit(2)
    except _MISUSE as error:
        _tell_misuse(error)
        sys.exit(error.exit_code)


def _tell_misuse(error):
    """In one line, unless it is the help of a command that was called with nothing."""
    told = error.format_message()
    if "\n" in told or error.ctx is None:
        error.show()
    else:
        typer.echo(f"carlib: {told.rstrip('.')}: see {error.ctx.command_path} --help", err=True)
