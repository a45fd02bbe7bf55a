"""Table 1: does CAR, trained jointly with the upscaler, make LR images that are restored better?"""

from carlib import artefacts, cells, experiments, intervals, results, tables
from carlib.studies import contrasts, seeds

NOTEBOOK = "01_downscaling_for_sr"


def study(profile, *, train=True, executor="", progress=True):
    """Measure every run of Table 1, write the rows, the table, the same on one page, and its claims.

    Args:
        train, executor: what becomes of the pair's seeds (cells.PAIR) that are missing, see `contrasts.make_ready`.
    Returns:
        the table (see tables.table1).
    Raises:
        ValueError: a run that is not trained here has no weights, one of the pair's seeds cannot be trained, or as
            `contrasts.check_training`.
    """
    contrasts.check_training(train, executor)
    own, training = [cell.run for cell in cells.of(1, profile)], {"train": train, "executor": executor}
    for name in own:
        if name not in cells.PAIR or not contrasts.trains(profile, train):
            experiments.ready(name, profile)  # what is missing is told at once
    made = contrasts.seeds_ready(seeds.names(profile), own, profile, **training, progress=progress)
    names = [name for name in cells.names(1, profile) if name in made]
    rows = [row for name in names for row in experiments.measure(name, profile, progress=progress)]
    artefacts.save_rows(rows, results.folder(profile, "metrics", "table1.csv"))
    table = tables.table1(rows)
    artefacts.save_table(
        table,
        results.folder(profile, "tables", "table1"),
        title=f"Table 1: PSNR (dB) and SSIM of down- and upscaling, profile {profile}",
        caption="ours: mean over the n images of the set and over the seeds, Y channel, a border of scale pixels left "
        "out, LR and SR rounded to 8 bits; seed_interval: half of the 95 % interval of the mean over seeds. printed: "
        "the paper's value, made with its full-size networks; left out where a set is not whole or its images are "
        "cropped. difference: ours less printed, where nothing was learned or the networks are of the paper's size. "
        "gain: ours over bicubic downscaling with the same upscaler, of this profile's own networks, image by image "
        f"and over the seeds that both have; low, high: its 95 % interval over images ({intervals.HOW}); "
        "gain_seed_interval: half of that of its mean over seeds. verdict: of the gain, reproduced where it has the "
        "printed sign and both its intervals leave 0 out, partly where one holds 0 or it is a small share of the "
        "printed gain, more than printed where it is many times that one; of bicubic's value by its difference "
        "(params.yaml, tolerance). The printed Perceptually and DPID columns are set beside what made "
        "them (the public script with its defects, lambda 0.5), L0-regularized beside our reconstruction.",
        command=experiments.papermill_command(NOTEBOOK, profile, train=train),
    )
    write_summaries(table, profile, train=train)
    return table


def write_summaries(table, profile, *, train=True):
    """Write tables/table1_grid and tables/table1_claims, what `table` (a tables.table1) says in short."""
    import pandas as pd

    command = experiments.papermill_command(NOTEBOOK, profile, train=train)
    artefacts.save_table(
        tables.grid(table, ["upscaler", "downscaler"]),
        results.folder(profile, "tables", "table1_grid"),
        title=f"Table 1 on one page: PSNR (dB), ours (printed), profile {profile}",
        caption="Means over each set, Y, standard protocol. Each EDSR was trained on the LR images of its downscaler.",
        command=command,
    )
    artefacts.save_table(
        pd.DataFrame(tables.claims(table)),
        results.folder(profile, "tables", "table1_claims"),
        title=f"Table 1: what the paper claims of CAR and of the downscalers before it, profile {profile}",
        caption="Mean PSNR of bicubic down and up; of all others the gain over bicubic downscaling with the same "
        "upscaler, of this profile's own networks. verdict: that of the PSNR and SSIM of every set that is printed, if "
        "they agree, more than printed where most are that and the others reproduced, else partly (params.yaml, "
        "tolerance).",
        command=command,
    )


def gains(table):
    """CAR's PSNR gain over bicubic LR in dB, its interval, and the paper's: a line per upscaler, scale and set."""
    keys = ["upscaler", "scale", "set"]
    found = table[(table.metric == "psnr") & (table.downscaler == "car")]
    found = found.rename(columns={"printed_gain": "paper"}).sort_values(keys)
    return found[[*keys, "gain", "low", "high", "paper"]].reset_index(drop=True)
