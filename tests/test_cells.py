"""The one list of what fills the tables: every cell was printed, and every run is declared."""

import pandas as pd
import pytest
import yaml

from carlib import cells, runs, tables

KEYS = ["upscaler", "downscaler", "variant", "loss", "scale"]


@pytest.mark.parametrize("table", cells.TABLES)
def test_every_cell_was_printed_and_its_run_is_declared(home, table):
    frame = pd.DataFrame(cells.of(table, "mini"))
    paper = tables.printed(table)
    if table == 4:  # EDSR on bicubic LR is printed in Table 1, IRN by its authors
        paper = pd.concat([paper, tables.printed(1), tables.later()], ignore_index=True)
    paper = paper.reindex(columns=KEYS, fill_value="").astype({"scale": int})
    printed = set(paper.itertuples(index=False, name=None))
    assert set(frame[KEYS].itertuples(index=False, name=None)) <= printed and not frame[KEYS].duplicated().any()
    for cell in cells.of(table, "mini"):
        run = runs.get(cell.run, "mini")
        assert run.scale == cell.scale and tables.COLUMN.get(run.downscaler, run.downscaler) == cell.downscaler
        if cell.upscaler:
            assert run.upscaler == {"d-dbpn": "ddbpn", "esrgan": "rrdb"}.get(cell.upscaler, cell.upscaler)


@pytest.mark.parametrize(("table", "count"), [(2, 12), (3, 8)])
def test_tables_2_and_3_are_whole(home, table, count):
    paper = tables.printed(table)[[*KEYS[:3], "scale"]].drop_duplicates()
    assert len(cells.of(table, "mini")) == len(paper) == count


def test_what_a_variant_leaves_out(home):
    made = {cell.variant: runs.get(cell.run, "mini") for cell in cells.of(3) if cell.scale == 2}
    whole = runs.as_dict(made["joint"])
    changed = {variant: {key: value for key, value in runs.as_dict(run).items() if value != whole[key]}
               for variant, run in made.items()}  # fmt: skip
    names = {"name": "car-edsr-x2-no-tv"}, {"name": "car-edsr-x2-free"}, {"name": "car-edsr-x2-no-offset"}
    assert changed["no-tv"] == names[0] | {"gamma_tv": 0.0}
    assert changed["no-offset-constraint"] == names[1] | {"lambda_offset": 0.0}
    assert changed["no-offset"] == names[2] | {"offsets": False}


def test_table_2s_three_upscalers_begin_alike_and_one_has_a_frozen_resampler(home):
    for cell in cells.of(2, "mini"):
        run = runs.get(cell.run, "mini")
        assert run.warm_start == f"bicubic-{run.upscaler}-x4-start" and run.steps == 1000
        assert run.resampler_from == ("car-edsr-x4-start" if cell.variant == "edsr-guided" else None)
        if run.resampler_from:  # what is compared with the joint run has been trained as long
            assert runs.get(run.resampler_from, "mini").steps == 1000
            assert runs.get(cell.run, "paper").resampler_from == "car-edsr-x4"


def test_a_cell_of_one_loss_is_filled_by_a_run_that_has_it(home):
    losses = {(cell.upscaler, cell.loss, cell.scale): cell.run for cell in cells.of(4, "mini")
              if cell.downscaler == "car"}  # fmt: skip
    ends = {("cnn-sr", "l2"): "", ("edsr", "l2"): "", ("tau", "l1"): "", ("edsr", "l1"): "-l1"}
    assert losses == {(name, loss, s): f"car-{name}-x{s}{end}" for (name, loss), end in ends.items() for s in (2, 4)}
    for (_, loss, _), name in losses.items():
        assert runs.get(name, "mini").loss == loss
    paper = [cell for cell in cells.of(4, "paper") if (cell.downscaler, cell.upscaler) == ("car", "edsr")]
    assert {cell.loss for cell in paper} == {"l1"}  # whose car-edsr is trained with L1 ...
    assert [cell.run for cell in paper] == ["car-edsr-x2", "car-edsr-x4"]  # ... and needs no second training


def test_a_run_of_another_recipe_is_trained_by_itself(home):
    """Another rate for the L1 run, and it is no longer the same."""
    content = yaml.safe_load((home / "params.yaml").read_text())
    content["runs"]["car-edsr-x2-l1"]["lr"] = 2.0e-4
    (home / "params.yaml").write_text(yaml.safe_dump(content))
    found = [cell.run for cell in cells.of(4, "paper") if (cell.downscaler, cell.upscaler) == ("car", "edsr")]
    assert found == ["car-edsr-x2-l1", "car-edsr-x4"]


def test_table_4_has_learned_downscalers_and_cnn_cr_at_the_scale_it_was_printed_for(home):
    names = [cell.run for cell in cells.of(4, "mini")]
    both = [f"{run}-x{scale}" for scale in (2, 4) for run in ("bicubic-edsr", "car-tau", "tad-tau", "irn-irn")]
    assert set(both) < set(names) and "cnn-cr-cnn-sr-x2" in names and "cnn-cr-cnn-sr-x4" not in names
    assert len(names) == 15 + 20  # and the networks on bicubic LR


def test_a_run_is_in_every_table_that_shows_it(home):
    shown = cells.tables_of("smoke")
    assert shown["car-edsr-x2"] == [1, 3, 4, 5] and shown["car-edsr-x4-free"] == [3]
    assert not {"bicubic-edsr-x4-start", "car-edsr-x2-l1"} & shown.keys()
    assert cells.tables_of("mini")["car-edsr-x2"] == [1, 3, 4, 5]


def test_table_3_is_asked_for_under_several_seeds(home):
    content = yaml.safe_load((home / "params.yaml").read_text())
    content["seeds"] = {"table3": {"smoke": 2}}
    (home / "params.yaml").write_text(yaml.safe_dump(content))
    names = cells.names(3, "smoke")
    assert len(names) == 16 and names[:2] == ["car-edsr-x2", "car-edsr-x2-seed1"]
    assert len(cells.names(1, "smoke")) == 14 == len(cells.of(1, "smoke"))
    for wrong in (0, "3", True, 1.5):
        content["seeds"] = {"table3": {"smoke": wrong}}
        (home / "params.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(ValueError, match=r"seeds of table3 is .* not a whole number above 0"):
            cells.names(3, "smoke")


def test_an_unknown_table_is_refused(home):
    with pytest.raises(ValueError, match="no runs are declared for table 6: there are tables 1, 2, 3, 4, 5"):
        cells.of(6)


def test_table_1_keeps_the_order_of_its_rows(home):
    frame = pd.DataFrame([(cell.scale, cell.upscaler, cell.downscaler) for cell in cells.of(1)])
    assert frame.iloc[0].tolist() == [2, "bicubic", "bicubic"] and frame.iloc[-1].tolist() == [4, "edsr", "car"]
