"""The queue: every run that is missing, trained one after the other; a failed one does not stop the others."""

from carlib import cells, experiments, overview, results, runs


def train_all(profile=None, table=None, *, renew=False, device="auto", progress=True, tell=print) -> dict[str, str]:
    """Train what is missing, in an order in which every run finds what it begins with. What was begun is continued.

    Args:
        table: only the runs that this table (1 to 5) shows, and what they begin with.
        renew: as `experiments.prepare`: also what is finished, where its recipe changed.
        tell:  gets one line per run.
    Returns:
        run -> why it failed.
    Raises:
        ValueError: a name is unknown, the profile trains nothing, or runs need each other in a circle.
    """
    chosen = runs.profile(profile)
    if chosen["train"] is None:
        raise ValueError(f"profile {chosen['name']} trains nothing, it takes the shipped weights: use --profile mini")
    profile, failed = chosen["name"], {}
    queue = order(wanted(profile, table), profile)
    options = {"renew": renew, "device": device, "progress": progress}
    for number, name in enumerate(queue, start=1):
        told = _train(name, profile, failed, options)
        tell(f"[{number}/{len(queue)}] {name}: {told}")
    return failed


def wanted(profile=None, table=None) -> list[str]:
    """The runs of a table, or all that are declared."""
    return overview.declared(profile) if table is None else cells.names(table, profile)


def order(names, profile) -> list[str]:
    """The runs and all that they need, starts first."""
    needs = {}
    for name in names:
        for one in (*runs.needed(name, profile), name):
            needs[one] = runs.needed(one, profile)
    # Who needs a run needs also all that the run needs, and so more runs than it.
    return [name for name in sorted(needs, key=lambda name: len(needs[name])) if runs.get(name, profile).trains]


def _train(name, profile, failed, options) -> str:
    """Make one run ready; what became of it, in words. A failure is added to `failed`."""
    if is_done(name, profile, options["renew"]):
        return "done before"
    if lost := [other for other in runs.needed(name, profile) if other in failed]:
        failed[name] = f"needs {lost[0]}, which failed"
        return f"failed: {failed[name]}"
    try:
        experiments.prepare(name, profile, **options)
    except Exception as error:  # whatever it is, the next run may still be trained
        from carlib import devices

        if devices.processes() != (1, 1):
            raise  # the other processes of this run wait for this one: torchrun must end them
        failed[name] = reason(error)
        return f"failed: {failed[name]}"
    after = overview.line(name, profile)
    return f"trained, {after['steps']} steps, {after['seconds']:.0f} s"


def is_done(name, profile, renew=False) -> bool:
    """Whether a run is trained by the recipe of params.yaml; under `renew` training looks for itself."""
    found = overview.line(name, profile)
    return found["state"] == "trained" and not found["note"] and not renew


def reason(error: Exception) -> str:
    """Why a run failed, in one line."""
    return " ".join(f"{'' if isinstance(error, ValueError) else type(error).__name__} {error}".split())


def is_current(name, profile) -> bool:
    """Whether a run is finished, and its parameters, code, images and start are those it was trained with.

    All that it begins with has to be there.
    """
    from carlib import checkpoint

    run = runs.get(name, profile)
    try:
        state = checkpoint.read(results.folder(profile, "runs", name))
    except ValueError:  # damaged: training again will say so
        return False
    if state is None or state["step"] < run.steps:
        return False
    return not checkpoint.changes(state["recipe"], checkpoint.recipe(run))
