"""Runs as jobs: levels, what is there is left alone, what failed is submitted again, and a submitter that dies.

tests/slurm/one_node.sh does the same with a real Slurm (test_slurm.py).
"""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import yaml

from carlib import jobs, overview, results, stopping
from carlib.dispatch import cluster, queue

TINY = {"steps": 2, "validate_every": 1, "patch": {2: 16}, "validation_crop": 32, "validation_images": 1}


@pytest.fixture
def declare(home, monkeypatch):
    """declare(name={...}, ...) makes these the only runs: bicubic-edsr-x2 in two tiny steps, with other numbers."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(overview.cells, "tables_of", lambda profile: {})

    def write(**own):
        content = yaml.safe_load((home / "params.yaml").read_text())
        content["profiles"]["smoke"]["train"] |= TINY
        base = {"downscaler": "bicubic", "upscaler": "edsr", "scale": 2}
        content["runs"] = {name.replace("_", "-"): base | {"smoke": numbers} for name, numbers in own.items()}
        (home / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    return write


def go(*names, **options):
    told = []
    options = {"executor": "local", "device": "cpu", "progress": False, "tell": told.append} | options
    return cluster.train_all(names, "smoke", **options), told


def without_ids(told):
    return [line.partition(", process")[0].partition(" s,")[0].partition(", 2 steps")[0] for line in told]


def files(name, pattern):
    return sorted(jobs.folder(name, "smoke").glob(pattern))


# ---- real jobs ----------------------------------------------------------------------------------------


def test_levels_failures_and_a_second_submission(declare, home):
    pytest.importorskip("submitit", reason="submitit comes with the extra cluster")
    declare(a={}, b={"warm_start": "a"}, c={"train_sets": ["urban100"]}, d={"warm_start": "c"})
    (home / "cluster.yaml").write_text("local:\n  parallel: 2\n")
    failed, told = go("b", "d")  # what they begin with comes by itself
    assert list(failed) == ["c", "d"] and failed["d"] == "needs c, which failed"
    assert failed["c"].startswith("image set urban100 is not here")
    told = without_ids(told)
    assert set(told[:2]) == {"[1/4] a: submitted", "[2/4] c: submitted"}  # two at once
    assert told.index("[1/4] a: trained") < told.index("[3/4] b: submitted") < told.index("[3/4] b: trained")
    assert told.index("[4/4] d: failed: needs c, which failed") and not files("d", "job.json")
    frame = overview.table("smoke").set_index("run")
    assert frame.state.to_dict() == {"a": "trained", "b": "trained", "c": "failed", "d": "missing"}
    assert frame.note["c"] == failed["c"] and frame.note["a"] == ""

    declare(a={}, b={"warm_start": "a"}, c={})
    failed, told = go("b", "c", renew=True)
    told = without_ids(told)
    assert failed == {} and told[:2] == ["[1/3] a: done before", "[3/3] b: done before"]
    assert told[2].startswith("[2/3] c: submitted again, for it had failed (image set urban100 is not here")
    assert told[3:] == ["[2/3] c: trained"]
    assert [len(files(name, "*_submitted.pkl")) for name in "abc"] == [1, 1, 2]
    assert all(queue.is_current(name, "smoke") for name in "abc")


SUBMITTER = """
import sys
from carlib.dispatch import cluster
cluster.train_all(["long"], "smoke", executor="local", device="cpu", progress=False)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of another kind")
def test_a_job_outlives_its_submitter_and_is_not_started_twice(declare, home):
    pytest.importorskip("submitit", reason="submitit comes with the extra cluster")
    declare(long={"steps": 16, "validate_every": 2})
    (home / "sub.py").write_text(SUBMITTER)
    submitter = subprocess.Popen([sys.executable, str(home / "sub.py")], stdout=subprocess.DEVNULL)
    log = results.folder("smoke", "runs", "long", "log.csv")
    deadline = time.time() + 120
    while not (log.is_file() and len(log.read_text().splitlines()) > 1) and time.time() < deadline:
        time.sleep(0.05)
    submitter.send_signal(signal.SIGKILL)
    submitter.wait()
    state, note, process = jobs.states(["long"], "smoke")["long"]
    assert (state, note.partition(" on ")[0]) == ("running", f"process {process}")
    assert overview.table("smoke").state[0].startswith("running, ")
    failed, told = go("long")
    assert failed == {} and told[0] == f"[1/1] long: running already, {note}"
    assert told[1].startswith("[1/1] long: trained, 16 steps") and len(files("long", "*_submitted.pkl")) == 1
    assert len(log.read_text().splitlines()) == 9  # no step twice


# ---- what lies on disk --------------------------------------------------------------------------------


def test_a_process_that_was_killed_is_gone_and_one_just_started_is_queued(home, monkeypatch):
    jobs.begin("a", "smoke", "local", "token", "1")
    jobs.begin("b", "smoke", "local", "token", str(2**22 + 1))  # beyond the largest number of a process
    jobs.begin("c", "smoke", "local", "token")
    assert {name: job.state for name, job in jobs.states("abcd", "smoke").items()} == {
        "a": "queued", "b": "gone", "c": "queued",
    }  # fmt: skip
    later = time.time() + 100
    monkeypatch.setattr(time, "time", lambda: later)
    told = jobs.states("ab", "smoke")
    assert told["a"].state == "gone" and told["a"].note.endswith(" was killed")  # another process has its number
    with results.alone(jobs.lock("a", "smoke")):
        assert jobs.states("a", "smoke")["a"].state == "running"


def test_a_process_of_another_machine_is_known_by_its_lock(home, monkeypatch):
    jobs.begin("a", "smoke", "local", "token", str(2**22 + 1))
    here = jobs.socket.gethostname()
    monkeypatch.setattr(jobs.socket, "gethostname", lambda: "other")
    assert jobs.states("a", "smoke")["a"].state == "queued"  # its number says nothing here
    later = time.time() + 100
    monkeypatch.setattr(time, "time", lambda: later)
    with results.alone(jobs.lock("a", "smoke")):
        assert jobs.states("a", "smoke")["a"][:2] == ("running", f"process {2**22 + 1} on {here}")
    gone = jobs.states("a", "smoke")["a"]
    assert gone.state == "gone" and gone.note.endswith(f"on {here}, another machine, which has left no end")


def test_a_failed_job_is_forgotten_once_training_went_on_by_hand(declare):
    declare(a={})
    log = results.folder("smoke", "runs", "a", "log.csv")
    results.write_text(log, "step,psnr\n1,30\n")
    jobs.begin("a", "smoke", "local", "token", "1")
    jobs.end("a", "smoke", "token", "no image set")
    os.utime(log, ns=(1, jobs.folder("a", "smoke").joinpath("end.json").stat().st_mtime_ns - 10**9))
    (line,) = overview.table("smoke").to_dict("records")
    assert (line["state"], line["note"]) == ("failed, 1 of 2", "no image set")
    os.utime(log, ns=(1, jobs.folder("a", "smoke").joinpath("end.json").stat().st_mtime_ns + 10**9))
    (line,) = overview.table("smoke").to_dict("records")
    assert (line["state"], line["note"]) == ("training, 1 of 2", "")
    jobs.begin("a", "smoke", "local", "next", "1")  # another job, which has not ended
    assert overview.table("smoke").state[0] == "queued, 1 of 2"


def test_a_run_that_slurm_let_go_with_its_start_says_so(declare):
    declare(a={}, b={"warm_start": "a"})
    found = {"a": jobs.Job("failed", "why", "1"), "b": jobs.Job("gone", "slurm job 2 is gone", "2")}
    assert jobs.explained(found, "smoke")["b"] == jobs.Job("gone", "needs a, which failed", "2")
    found["a"] = jobs.Job("running", "", "1")
    assert jobs.explained(found, "smoke") == found


def test_a_signal_ends_training_with_a_checkpoint_and_the_job_is_queued_again(monkeypatch):
    """Outside of training there is nothing to save, and the job is queued again at once."""
    pytest.importorskip("submitit", reason="submitit comes with the extra cluster")
    requeued = []

    def requeue(number, frame):
        requeued.append(number)
        raise SystemExit

    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGUSR2, requeue)
        with pytest.raises(SystemExit), cluster._signals():
            os.kill(os.getpid(), signal.SIGUSR2)
        assert requeued == [signal.SIGUSR2]
        with cluster._signals() as again, pytest.raises(stopping.Stopped), stopping.on_sigterm() as told:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert told() and len(requeued) == 1
            raise stopping.Stopped
        with pytest.raises(SystemExit):
            again()
        assert len(requeued) == 2
        with cluster._signals() as again, pytest.raises(stopping.Stopped), stopping.on_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
            raise stopping.Stopped
        again()  # no job of Slurm: whoever sent it wants an end
        assert len(requeued) == 2 and signal.getsignal(signal.SIGUSR2) == requeue
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_an_end_counts_for_its_own_job_only(home):
    jobs.begin("a", "smoke", "local", "first", "1")
    jobs.end("a", "smoke", "first", "no image set")
    assert jobs.states("a", "smoke") == {"a": jobs.Job("failed", "no image set", "1")}
    jobs.begin("a", "smoke", "local", "second", "1")
    assert jobs.states("a", "smoke")["a"].state == "queued"
    jobs.end("a", "smoke", "second")
    assert jobs.states("a", "smoke")["a"].state == "trained"
    jobs.forget("a", "smoke")
    assert jobs.states("a", "smoke") == {}


@pytest.fixture
def slurm(home, monkeypatch):
    """slurm(squeue="...", ...) puts programs that print this on the PATH, and none of the real Slurm."""
    folder = home / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(**programs):
        for name, printed in programs.items():
            (folder / f"{name}.txt").write_text(printed)
            (folder / name).write_text(f"#!/bin/sh\n{printed or 'exit 1'}\n")
            (folder / name).chmod(0o755)

    return install


def said(*lines):
    return "\n".join(f"echo '{line}'" for line in lines)


def test_what_slurm_says_of_a_job(slurm, home):
    """The lines are those of Slurm 22.05.8; a job is known by its name where its number was not written down."""
    name = {run: jobs.slurm_name(run, "smoke") for run in ("a", "b", "c", "d")}
    for run, number in (("a", "3"), ("b", None), ("c", "5"), ("d", "6")):
        jobs.begin(run, "smoke", "slurm", "token", number)
    slurm(
        squeue=said(
            f"{name['a']}|3|RUNNING|None",
            f"{name['b']}|4|PENDING|Dependency",
            f"{name['c']}|5|PENDING|DependencyNeverSatisfied",
        ),
        sacct="echo 'Slurm accounting storage is disabled' >&2; exit 1",
        scontrol=said("JobId=6 JobName=d JobState=TIMEOUT Reason=TimeLimit Dependency=(null)"),
    )
    assert jobs.states("abcd", "smoke") == {
        "a": jobs.Job("running", "slurm job 3", "3"),
        "b": jobs.Job("queued", "slurm job 4, Dependency", "4"),
        "c": jobs.Job("gone", "slurm job 5 ended: timeout", "5"),  # of the one line that our scontrol has
        "d": jobs.Job("gone", "slurm job 6 ended: timeout", "6"),
    }
    slurm(sacct=said("CANCELLED by 0"))
    assert jobs.states("d", "smoke")["d"].note == "slurm job 6 ended: cancelled by 0"
    slurm(sacct="", scontrol="")
    assert jobs.states("d", "smoke")["d"].note == "slurm job 6 is gone"


def test_a_slurm_that_does_not_answer_loses_no_job(slurm, declare):
    declare(a={})
    jobs.begin("a", "smoke", "slurm", "token", "3")
    slurm(squeue="echo 'squeue: error: Unable to contact\n slurm controller' >&2; exit 1")
    with pytest.raises(ValueError, match=r"^Slurm does not answer: squeue: error: Unable to contact slurm controller$"):
        jobs.states("a", "smoke")
    (line,) = overview.table("smoke").to_dict("records")
    assert line["state"] == "submitted" and line["note"].startswith("Slurm does not answer")


def test_a_slurm_that_is_silent_for_a_while_ends_no_wait(monkeypatch):
    """A busy controller leaves squeue without an answer now and then; a day's wait must outlive it."""
    answers = iter([True, jobs.NoAnswer("busy"), False])

    def look(bar):
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    fleet = SimpleNamespace(look=look, answered=None)
    assert [cluster._looked(fleet, None) for _ in range(3)] == [True, True, False]
    answers = iter([jobs.NoAnswer("busy")])
    with pytest.raises(jobs.NoAnswer):  # it never answered
        cluster._looked(SimpleNamespace(look=look, answered=None), None)
    answers = iter([jobs.NoAnswer("busy")])
    monkeypatch.setattr(cluster, "_PATIENCE", -1)
    with pytest.raises(jobs.NoAnswer):
        cluster._looked(fleet, None)


def test_another_clone_has_other_jobs(home, tmp_path, monkeypatch):
    ours = jobs.slurm_name("car-edsr-x4", "mini")
    monkeypatch.setenv("CARLIB_HOME", str(tmp_path / "other"))
    assert ours.startswith("car-edsr-x4.mini.") and jobs.slurm_name("car-edsr-x4", "mini") != ours


# ---- refusals ---------------------------------------------------------------------------------------


def test_what_cannot_work_is_refused_before_anything_is_written(slurm, declare, home, monkeypatch):
    declare(a={})
    for options, told in (
        ({"executor": "slrum"}, "executor 'slrum' is unknown: use slurm or local"),
        ({"executor": "local", "wait": False}, "executor local starts one job after the other: it has to wait"),
    ):
        with pytest.raises(ValueError, match=told):
            go("a", **options)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        ValueError, match=r"executor local needs submitit, which is not installed: pip install .*cluster"
    ):
        go("a")
    monkeypatch.undo()
    assert not (home / "results").exists()


def test_a_machine_without_slurm_says_so(slurm, declare, home):
    pytest.importorskip("submitit", reason="submitit comes with the extra cluster")
    declare(a={})
    with pytest.raises(ValueError, match=r"no Slurm on this machine \(sbatch is not found\)"):
        go("a", executor="slurm")
    assert not (home / "results").exists()


def test_a_job_that_slurm_refuses_leaves_nothing(slurm, declare, home):
    pytest.importorskip("submitit", reason="submitit comes with the extra cluster")
    declare(a={})
    slurm(srun="", squeue="exit 0", sbatch="echo 'sbatch: error: invalid partition specified: gpuu' >&2; exit 1")
    with pytest.raises(ValueError, match="slurm refuses the job of a: invalid partition specified: gpuu") as refusal:
        go("a", executor="slurm")
    assert "\n" not in str(refusal.value) and jobs.states("a", "smoke") == {}
    assert list(jobs.folder("a", "smoke").iterdir()) == []


def test_what_sbatch_is_asked_for(slurm, declare, home):
    """Options as in cluster.yaml, runs that others begin with first, and a job that is queued again when preempted."""
    pytest.importorskip("submitit", reason="submitit comes with the extra cluster")
    declare(a={}, b={"warm_start": "a"})
    (home / "cluster.yaml").write_text("slurm:\n  partition: gpu\n  time: 2:00:00\n  cpus_per_task: 8\n  gres: gpu:1\n")
    count = home / "count"
    count.write_text("")
    slurm(
        srun="",
        squeue="exit 0",
        sbatch=f'echo >> {count}; read -r lines <&- ; echo "Submitted batch job $(/usr/bin/wc -l < {count})"',
    )
    failed, told = go("b", executor="slurm", wait=False)
    assert failed == {} and told == ["[1/2] a: submitted, slurm job 1", "[2/2] b: submitted, slurm job 2"]
    first, second = (files(name, "*_submission.sh")[0].read_text().splitlines() for name in "ab")
    wanted = {"partition=gpu", "time=120", "cpus-per-task=8", "gres=gpu:1", "requeue", "signal=USR2@90",
              f"job-name={jobs.slurm_name('a', 'smoke')}"}  # fmt: skip
    assert {f"#SBATCH --{option}" for option in wanted} <= set(first) and not any("wckey" in line for line in first)
    assert any(line.startswith("srun ") and "--cpus-per-task=8" in line for line in first)
    assert {"#SBATCH --dependency=afterok:1", "#SBATCH --kill-on-invalid-dep=yes"} <= set(second)
    assert json.loads(files("a", "job.json")[0].read_text())["job"] == "1"


def test_no_job_of_slurm_waits_for_a_process(slurm, declare, home):
    """What the executor local trains has a number that is none of Slurm's."""
    pytest.importorskip("submitit", reason="submitit comes with the extra cluster")
    declare(a={}, b={"warm_start": "a"}, c={"warm_start": "b"}, d={})
    slurm(srun="", squeue="exit 0", sbatch='echo "Submitted batch job 7"')
    jobs.begin("a", "smoke", "local", "token", "1")
    with results.alone(jobs.lock("a", "smoke")):
        failed, told = go("c", "d", executor="slurm", wait=False)
    later = "not submitted yet: it begins with a, which a process of executor local trains"
    assert failed == {"b": later, "c": later} and not files("b", "job.json")
    assert [line.partition(",")[0] for line in told] == ["[1/4] a: running already", "[2/4] d: submitted"]


def test_a_job_whose_record_vanishes_is_gone_and_no_crash(home, monkeypatch):
    monkeypatch.setattr(cluster, "check", lambda executor: None)
    fleet = cluster._Fleet(["bicubic-edsr-x2"], "smoke", "local", {"renew": False}, print)
    fleet.seen.add("bicubic-edsr-x2")
    assert fleet._step("bicubic-edsr-x2", {}) == ""  # its files may be late
    fleet.gone["bicubic-edsr-x2"] -= 1e6
    assert fleet._step("bicubic-edsr-x2", {}) == "failed: its record is no longer there"
