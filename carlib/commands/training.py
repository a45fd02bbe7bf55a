"""The commands that train: train, trial, and experiments, which lists what there is to train."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--param",
        metavar="NAME=VALUE",
        help="Override a setting of a run: those of params.yaml's defaults, such as steps=500, weighting=clamp, "
        "lr=1.0e-4, 'train_sets=[./photos]'; repeat.",
    ),
]
Profile = Annotated[str | None, typer.Option(help="smoke, demo, mini or paper; default: the one in params.yaml.")]


@app.command()
def train(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Runs of params.yaml, such as car-edsr-x4; car-edsr-x4-seed1: seed 1."),
    ] = None,
    profile: Profile = None,
    param: Parameters = None,
    all_: Annotated[bool, typer.Option("--all", help="Every run that is missing.")] = False,
    only: Annotated[str | None, typer.Option(help="With --all: the runs of one table, such as table3.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; default: results/<profile>/runs/<run>, with -p one of its own.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard the checkpoint in the folder, and begin anew.")
    ] = False,
    renew: Annotated[
        bool, typer.Option("--renew", help="Begin anew only if parameters, code or images changed.")
    ] = False,
    history: Annotated[bool, typer.Option("--history", help="Keep every validation's weights in steps/.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Profile demo: a run without shipped weights is no error.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    executor: Annotated[
        str, typer.Option(help="slurm or local: each run is a job, with the options of cluster.yaml. Default: here.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="With --executor slurm: wait for the jobs.")] = True,
    parallel: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="N runs at a time on this machine, each in a process. Default: the profile's, or 1."
        ),
    ] = None,
):
    """Train runs.

    What was stopped is continued. Profile demo takes the shipped weights instead.

    With --all, train every run that is missing, starts first; a run that fails is reported at the end (exit code 1).
    With --executor, train what is missing of the named runs, or of all, as jobs; what is queued or runs is left alone.
    """
    from carlib import experiments
    from carlib.dispatch.parallel import at_a_time

    if all_ and (names or param or out or restart or allow_missing or history):
        raise ValueError(
            "--all takes --profile, --only, --renew, --device, --executor and --parallel; name no RUN, no other option"
        )
    if not all_ and (not names or only):
        raise ValueError("name a RUN, or give --all (and with it perhaps --only table3)")
    several = {"renew": renew, "device": device}
    if parallel is not None and (param or out or restart or history or executor):
        raise ValueError("--parallel takes RUN or --all, --only, --profile, --renew and --device")
    if executor:
        if param or out or restart or allow_missing or history:
            raise ValueError("--executor takes RUN or --all, --only, --profile, --renew, --device and --no-wait")
        raise typer.Exit(_train_jobs(names, profile, only, wait, executor=executor, **several))
    if not wait:
        raise ValueError("--no-wait is for jobs: give --executor slurm")
    at_once = {"several": names is None or len(names) > 1, "device": device}
    if not (param or out or restart or history) and (count := at_a_time(parallel, profile, **at_once)) > 1:
        raise typer.Exit(_train_parallel(names, profile, only, count=count, **several))
    if all_:
        raise typer.Exit(_train_all(profile, only, **several))
    if out is not None and len(names) > 1:
        raise ValueError(f"--out {out} is the folder of one run, here are {len(names)}")
    options = {"restart": restart, "history": history, **several}
    for name in names:
        _tell(experiments.prepare(name, profile, param or [], folder=out, allow_missing=allow_missing, **options))


def _tell(line):
    """Print a line; of the processes that share a run the first does."""
    from carlib import devices

    if devices.is_first():
        typer.echo(line)


def _train_parallel(names, profile, only, **options) -> int:
    """Exit code: 1 if a run failed."""
    from carlib.dispatch import parallel, queue

    done_before = names is None
    names = names or queue.wanted(profile, _table_number(only))
    return _told(parallel.train(names, profile, done_before=done_before, tell=_tell, **options))


def _train_all(profile, only, **options) -> int:
    """Exit code: 1 if a run failed."""
    from carlib.dispatch import queue

    return _told(queue.train_all(profile, _table_number(only), tell=_tell, **options))


def _train_jobs(names, profile, only, wait, **options) -> int:
    """Exit code: 1 if a run failed."""
    from carlib.dispatch import cluster, queue

    names = names or queue.wanted(profile, _table_number(only))
    return _told(cluster.train_all(names, profile, wait=wait, tell=typer.echo, **options))


def _told(failed) -> int:
    for name, reason in failed.items():
        typer.echo(f"carlib: {name}: {reason}", err=True)
    return 1 if failed else 0


def _table_number(text):
    """ "table3" -> 3."""
    if text is None:
        return None
    number = text.removeprefix("table")
    if not number.isdecimal() or number == text:
        raise ValueError(f"--only {text!r} is not the name of a table, such as table3")
    return int(number)


@app.command("experiments")
def list_experiments(
    profile: Profile = None,
    out: Annotated[Path | None, typer.Option(help="Also as CSV.")] = None,
    at: Annotated[
        float | None, typer.Option(help="Also what training takes on a device that sustains so many TFLOP/s.")
    ] = None,
):
    """List runs and their state.

    The tables that show them, state, steps, seconds of training, size, and what is to know.
    """
    from carlib import overview, results

    if out is not None:
        results.check_table(out, overview.COLUMNS)
    table = overview.table(profile)
    if at is not None:
        from carlib.training import step_cost

        table = step_cost.projected(table, profile, at)
    typer.echo(overview.as_text(table))
    if out is not None:
        typer.echo(results.write_text(out, table.to_csv(index=False)))


@app.command()
def trial(
    run: Annotated[str, typer.Argument(help="A run of params.yaml.")],
    profile: Profile = None,
    param: Parameters = None,
    note: Annotated[str, typer.Option(help="Why it is tried.")] = "",
    sets: Annotated[list[str] | None, typer.Option("--set", help="Image set; repeat. Default: set5, bsd100.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV; default: data/trials.csv.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
):
    """Try a run with other settings.

    Trains it (-p steps=500 -p weighting=signed), measures it, and logs that in data/trials.csv.
    """
    from carlib.studies import trials

    for line in trials.trial(run, profile, param or [], sets=sets, note=note, out=out, device=device):
        told = f"{line['psnr']:.3f} dB, validation {line['validation']:.3f} dB" if line["psnr"] != "" else line["note"]
        typer.echo(f"{line['set']}: {told}")
