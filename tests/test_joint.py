"""Table 1 and Table 5 begin with what they need: what a profile trains is trained, anything else must be there."""

import pytest

from carlib import cells, experiments
from carlib.studies import contrasts, joint, lossless


class _Asked(Exception):
    pass


@pytest.fixture
def asked(monkeypatch):
    """Names of runs whose weights must be there; then the study ends where it would train."""
    names = []

    def stop(wanted, *rest, **options):
        raise _Asked(list(wanted))

    monkeypatch.setattr(experiments, "ready", lambda name, profile: names.append(name))
    monkeypatch.setattr(contrasts, "make_ready", stop)
    return names


@pytest.mark.parametrize(("profile", "train", "trained"), [
    ("mini", True, True), ("smoke", True, True), ("mini", False, False), ("demo", True, False),
])  # fmt: skip
def test_of_table_1_the_pair_need_not_be_there_if_it_is_trained(home, asked, profile, train, trained):
    with pytest.raises(_Asked, match="car-edsr-x4"):
        joint.study(profile, train=train, progress=False)
    own = {cell.run for cell in cells.of(1, profile)}
    assert set(asked) == (own - set(cells.PAIR) if trained else own)


def test_the_car_of_table_5_is_trained_if_it_is_missing(home, asked):
    with pytest.raises(_Asked) as wanted:
        lossless.table5("mini", progress=False)
    assert wanted.value.args == (["car-edsr-x2", "car-edsr-x4"],)
