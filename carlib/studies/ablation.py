"""The ablation (Table 3): CAR without its TV loss, without its offset loss, without offsets; each against the whole."""

from carlib import artefacts, cells, experiments, intervals, results, runs, tables
from carlib.studies import contrasts

WHOLE = "joint"  # the variant of data/paper/table3.csv that the others are compared with
LABELS = {
    "joint": "CAR",
    "no-tv": "CAR, no TV loss",
    "no-offset-constraint": "CAR, no offset loss",
    "no-offset": "CAR, no offsets",
}
# What the paper says of its Table 3 (4.2.2): variant, what it is compared with, and in words.
CLAIMS = (
    ("no-tv", "joint", "Without the TV loss SR is better"),
    ("no-offset-constraint", "joint", "Without the offset loss SR is worse"),
    ("no-offset", "no-offset-constraint", "Without offsets SR is worse still"),
)


def study(profile, scale=None, seeds=None, *, train=True, executor="", device="auto", progress=True):
    """Train what is missing of Table 3, measure it on the profile's sets, and write what `write` says.

    Args:
        scale: 2 or 4; None: both.
        seeds: how many of each run; None: as params.yaml wants.
        train, executor: see `contrasts.make_ready`.
    Returns:
        the table and the claims, see `table` and `claims`.
    Raises:
        ValueError: a parameter does not fit, a run cannot be trained, or nothing can be measured.
    """
    check(scale, seeds, train, executor)
    count = cells.seeds(3, profile) if seeds is None else seeds
    chosen = [cell.run for cell in cells.of(3, profile) if scale in (None, cell.scale)]
    names = runs.seeded(chosen, count)
    options = {"train": train, "executor": executor, "device": device, "progress": progress}
    rows, absent = contrasts.trained_and_measured(names, profile, **options)
    if rows.empty:
        raise ValueError(f"no run of Table 3 can be measured under profile {profile}: {next(iter(absent.values()))}")
    return write(rows, absent, profile, scale, seeds, train=train)


def check(scale, seeds, train=True, executor=""):
    """Refuse parameters that the study cannot have.

    Raises:
        ParameterError (a ValueError): scale is none of the paper's, seeds no count, or see `contrasts.check_training`.
    """
    from carlib.notebook import ParameterError

    scales = sorted({cell.scale for cell in cells.of(3)})
    if scale is not None and scale not in scales:
        known = " or ".join(map(str, scales))
        raise ParameterError(f"scale={scale!r} is not in Table 3: use {known}, or None for both")
    if seeds is not None and seeds < 1:
        raise ParameterError(f"seeds={seeds!r} must be above 0, or None for what params.yaml wants")
    contrasts.check_training(train, executor)


def table(rows, absent, profile, scale=None):
    """Table 3 in long form: a line per scale, set, variant and metric.

    Args:
        rows:   DataFrame of results.ROW_COLUMNS: runs of Table 3, under any seeds.
        absent: run -> why it has no rows.
    Returns:
        DataFrame: scale, set, variant, metric, ours (mean over images and seeds), seeds (how many), seed_interval (half
        of the 95 % interval of the mean over seeds), difference (to CAR, over the seeds that both have), low and high
        (its 95 % interval over images), difference_seed_interval (half of that over seeds), printed,
        printed_difference, verdict (of the difference), n (images), run, profile, note (why there is nothing).
    """
    values, paper = _compared(rows)
    run_of = {(cell.variant, cell.scale): cell.run for cell in cells.of(3, profile) if scale in (None, cell.scale)}
    frame = contrasts.table(values, paper, dict.fromkeys(LABELS, WHOLE)).assign(profile=profile)
    frame["run"] = [run_of[key] for key in zip(frame.label, frame.scale, strict=True)]
    frame["note"] = frame.run.map(lambda name: absent.get(name, ""))
    frame["variant"] = frame.label.map(LABELS)
    return frame[["scale", "set", "variant", "metric", *contrasts.COLUMNS, "run", "profile", "note"]]


def _compared(rows):
    """What was measured (see contrasts.by_label) and printed (contrasts.printed), by variant."""
    paper = tables.printed(3)
    paper = paper[paper.flag == ""].astype({"scale": int, "value": float})
    paper = paper.rename(columns={"value": "printed", "variant": "label"})
    values = contrasts.by_label(rows, {cell.run: cell.variant for cell in cells.of(3)})
    return values, contrasts.printed(paper, rows, LABELS)


def claims(rows, scale=None):
    """What the paper says of the order of its Table 3, what was measured, and a verdict: see `contrasts.claims`.

    Args:
        rows: as `table`.
    """
    return contrasts.claims(*_compared(rows), CLAIMS, sorted(set(rows.scale)) if scale is None else [scale])


def write(rows, absent, profile, scale=None, seeds=None, *, train=True):
    """Write metrics/table3, tables/table3 and tables/table3_claims; of one scale alone as table3_x<scale>.

    Args:
        train: False if nothing was trained for it, which the command that makes it again then says.
    Returns:
        the table and the claims.
    """
    name = "table3" if scale is None else f"table3_x{scale}"
    given = {"scale": scale, "seeds": seeds, "train": train}
    command = experiments.papermill_command("03_ablation", profile, **given)
    artefacts.save_rows(rows.to_dict("records"), results.folder(profile, "metrics", f"{name}.csv"))
    made, told = table(rows, absent, profile, scale), claims(rows, scale)
    artefacts.save_table(
        made,
        results.folder(profile, "tables", name),
        title=f"Table 3: CAR without a part of it, profile {profile}",
        caption="ours: mean over the n images of the set and over the seeds, standard protocol (PSNR in dB, Y); "
        "seed_interval: half of the 95 % interval of the mean over seeds. difference: "
        f"to CAR, image by image; low, high: its 95 % interval over images ({intervals.HOW}). printed: the "
        "paper's value, made with its full-size networks; left out where a set is not whole or its images are "
        "cropped. "
        f"{contrasts.VERDICT}. "
        "A run without weights of this recipe has no numbers, and its note says so.",
        command=command,
    )
    artefacts.save_table(
        told,
        results.folder(profile, "tables", f"{name}_claims"),
        title=f"Table 3: the paper's order, profile {profile}",
        caption="Mean differences of PSNR, over all the sets that are printed or, without one, over those measured; "
        "the verdict is that of every whole set's PSNR and SSIM if they agree, more than printed where most are that "
        "and the others reproduced, else partly.",
        command=command,
    )
    return made, told
