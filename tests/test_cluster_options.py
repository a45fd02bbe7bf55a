"""cluster.yaml: what a job asks for, in sbatch's words."""

import pytest

from carlib.dispatch import cluster_options


def test_options_are_those_of_the_executor_and_text_stays_text(home):
    assert cluster_options.read("slurm") == {}
    text = "slurm:\n  partition: gpu\n  time: 4:00:00\n  cpus-per-task: 8\n  setup:\n  - module load cuda\n"
    (home / "cluster.yaml").write_text(f"{text}local:\n  parallel: 2\n")
    expected = {"partition": "gpu", "time": 240, "cpus_per_task": "8", "setup": ["module load cuda"]}
    assert cluster_options.read("slurm") == expected and cluster_options.read("local") == {"parallel": 2}


@pytest.mark.parametrize(("text", "wanted"), [
    ("90", 90), ("90:30", 91), ("1:30:00", 90), ("1-12", 2160), ("1-12:30", 2190), ("1-12:30:01", 2191),
])  # fmt: skip
def test_a_time_limit_is_read_as_sbatch_does(text, wanted):
    assert cluster_options.minutes(text) == wanted


@pytest.mark.parametrize(("text", "told"), [
    ("slurm:\n  partiton: gpu", "cluster.yaml: slurm: option 'partiton' is unknown: did you mean 'partition'"),
    ("slrum:\n  partition: gpu", "cluster.yaml: section 'slrum' is unknown: did you mean 'slurm'"),
    ("slurm:\n  partition:\n  - a", r"partition is \['a'\], not one value"),
    ("slurm:\n  partition:", "partition is '', not one value"),
    ("slurm: gpu", "slurm is 'gpu', not name: value lines"),
    ("gpu", "has no sections"),
    ("slurm: {a", "cluster.yaml is not valid YAML"),
    ("slurm:\n  time: soon", "time 'soon' is no time limit"),
    ("slurm:\n  time: 0", "time '0' is no time at all"),
    ("slurm:\n  setup:\n    a: b", "not a list of lines"),
])  # fmt: skip
def test_a_wrong_option_is_one_line(home, text, told):
    (home / "cluster.yaml").write_text(text)
    with pytest.raises(ValueError, match=told) as refusal:
        cluster_options.read("slurm")
    assert "\n" not in str(refusal.value)


def test_parallel_is_a_number(home):
    (home / "cluster.yaml").write_text("local:\n  parallel: 0\n")
    with pytest.raises(ValueError, match="parallel is '0', not a whole number above 0"):
        cluster_options.read("local")
