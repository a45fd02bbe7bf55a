"""The queue: runs trained one after the other or, by `parallel`, side by side; a failed one stops no other."""

import concurrent.futures

from carlib import cells, experiments, overview, results, runs, stopping

_POLL = 0.5  # seconds between two looks whether to stop


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
    profile, options = chosen["name"], {"renew": renew, "device": device, "progress": progress}

    def begin(name):
        ended = concurrent.futures.Future()
        ended.set_result(why_failed(name, profile, options))
        return ended

    return train(*split(wanted(profile, table), profile, renew), profile, begin, tell=tell)


def split(names, profile, renew=False) -> tuple[list[str], list[str]]:
    """`order` of the runs, and those of them that are not trained by the recipe of params.yaml."""
    everything = order(names, profile)
    return everything, [name for name in everything if not is_done(name, profile, renew)]


def train(everything, left, profile, begin, *, count=1, stop=lambda: False, tell=print) -> dict[str, str]:
    """Train the runs that are left, up to `count` at a time, each once what it begins with has ended.

    Args:
        everything: all runs, starts first; those that are not `left` count as done before.
        begin:      name -> future of why its training failed, "" if it did not.
        stop:       asked now and then.
        tell:       gets one line per run.
    Returns:
        run -> why it failed.
    Raises:
        stopping.Stopped: `stop` said so.
    """
    failed, ready = {}, []

    def note(name, what):
        tell(f"[{len(ready) + len(failed)}/{len(everything)}] {name}: {what}")

    for name in everything:
        if name not in left:
            ready.append(name)
            note(name, "done before")
    for name, why in ended(left, profile, begin, count, failed):
        if stop():
            raise stopping.Stopped(f"stopped by SIGTERM, {len(ready)} of {len(everything)} runs are ready")
        if why:
            note(name, f"failed: {why}")
        elif name:
            ready.append(name)
            note(name, trained(name, profile))
    return failed


def ended(left, profile, begin, count, failed):
    """Yields (run, why it failed or "") of every run that ended, noted in `failed`, too; (None, "") when none has."""
    waiting, under_way = list(left), {}  # future -> run
    needs = {name: runs.needed(name, profile) for name in waiting}
    while waiting or under_way:
        for name in [name for name in waiting if not {*waiting, *under_way.values()}.intersection(needs[name])]:
            if lost := [other for other in needs[name] if other in failed]:
                waiting.remove(name)
                failed[name] = f"needs {lost[0]}, which failed"
                yield name, failed[name]
            elif len(under_way) < count:
                waiting.remove(name)
                under_way[begin(name)] = name
        done = concurrent.futures.wait(under_way, _POLL, concurrent.futures.FIRST_COMPLETED).done
        for future in done:
            why = future.result()
            name = under_way.pop(future)
            if why:
                failed[name] = why
            yield name, why
        if not done:
            yield None, ""


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


def why_failed(name, profile, options) -> str:
    """Make one run ready: why that failed, or ""."""
    try:
        experiments.prepare(name, profile, **options)
    except Exception as error:  # whatever it is, the next run may still be trained
        from carlib import devices

        if devices.processes() != (1, 1):
            raise  # the other processes of this run wait for this one: torchrun must end them
        return reason(error)
    return ""


def trained(name, profile) -> str:
    """What to say of a run that is ready: steps, and seconds where a log tells them."""
    found = overview.line(name, profile)
    seconds = f", {found['seconds']:.0f} s" if found["seconds"] == found["seconds"] else ""
    return f"trained, {found['steps']} steps{seconds}"


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
    from carlib.training import checkpoint

    run, folder = runs.get(name, profile), results.folder(profile, "runs", name)
    if overview.is_brought(folder):  # of which nothing else tells
        found = overview.line(name, profile)
        return found["state"] == "trained" and not found["note"]
    try:
        state = checkpoint.read(folder)
    except ValueError:  # damaged: training again will say so
        return False
    if state is None or state["step"] < run.steps:
        return False
    return not checkpoint.changes(state["recipe"], checkpoint.recipe(run))
