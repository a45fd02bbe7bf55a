"""Runs as jobs of a cluster: what lies on disk about each, and what has become of it.

results/<profile>/jobs/<run>/job.json      by who submits it: executor, token, host, time, and the job's id once known
results/<profile>/jobs/<run>/end.json      by the job at its end: its token, and why it failed ("" if it did not)
results/<profile>/jobs/<run>/<id>_0_log.*  what it printed; beside it what submitit wants to keep

A job that neither runs nor waits, and has left no end, is gone: it was killed or cancelled, or its machine was lost.
"""

import hashlib
import json
import os
import socket
import subprocess
import time
import typing
from pathlib import Path

from carlib import results, runs

ALIVE = ("queued", "running")
_START = 60  # seconds within which a process that was started must have taken its lock


class Job(typing.NamedTuple):
    """What the last job of a run does: state is "queued", "running", "trained", "failed" or "gone"."""

    state: str
    note: str  # of those that failed or are gone: why
    id: str | None


def folder(name: str, profile: str) -> Path:
    """Where everything about the jobs of a run lies, not created."""
    return results.folder(profile, "jobs", name)


def slurm_name(name: str, profile: str) -> str:
    """What squeue calls the job of a run; another clone's job has another name.

    A job is found by it even where its submitter died before it could write down the id.
    """
    return f"{name}.{profile}.{hashlib.sha256(str(results.root().resolve()).encode()).hexdigest()[:6]}"


def begin(name: str, profile: str, executor: str, token: str, job: str | None = None):
    """Write down that a job is submitted: once before, without its id, and once after."""
    record = {"executor": executor, "token": token, "host": socket.gethostname(), "time": time.time(), "job": job}
    results.write_text(folder(name, profile) / "job.json", json.dumps(record) + "\n")


def forget(name: str, profile: str):
    """There is no job after all: it could not be submitted."""
    (folder(name, profile) / "job.json").unlink(missing_ok=True)


def end(name: str, profile: str, token: str, reason: str = ""):
    """Write down, as the job, how it ended: why it failed, or "" where the run is trained."""
    record = {"token": token, "reason": reason}
    results.write_text(folder(name, profile) / "end.json", json.dumps(record) + "\n")


def lock(name: str, profile: str) -> Path:
    """The lock that a job holds while it runs."""
    return folder(name, profile) / ".running.lock"


def is_one(name: str, profile: str) -> bool:
    """Whether a run ever was a job."""
    return (folder(name, profile) / "job.json").is_file()


def executor(name: str, profile: str) -> str | None:
    """Whose the last job of a run is, "slurm" or "local"; None if it never was one."""
    record = _read(folder(name, profile) / "job.json")
    return record and record["executor"]


def is_outdated(name: str, profile: str) -> bool:
    """Whether the run was trained on by hand after its last job wrote down its end."""
    end, log = folder(name, profile) / "end.json", results.folder(profile, "runs", name, "log.csv")
    return end.is_file() and log.is_file() and log.stat().st_mtime_ns > end.stat().st_mtime_ns


def states(names, profile: str) -> dict[str, Job]:
    """Run -> what its last job does; a run that never was a job is left out.

    Raises:
        ValueError: Slurm does not tell.
    """
    records = {name: record for name in names if (record := _read(folder(name, profile) / "job.json"))}
    slurm = _squeue([name for name, record in records.items() if record["executor"] == "slurm"], profile)
    return {name: _state(name, profile, record, slurm.get(name)) for name, record in records.items()}


def _state(name, profile, record, listed) -> Job:
    ended = _read(folder(name, profile) / "end.json")
    if ended and ended["token"] == record["token"]:
        return Job("failed" if ended["reason"] else "trained", ended["reason"], record["job"])
    if record["executor"] == "slurm":
        return listed or Job("gone", _why_not_listed(record["job"]), record["job"])
    return Job(*_process(record, lock(name, profile)), record["job"])


def _process(record, lock):
    """State and note of a job of executor local."""
    told, here = f"process {record['job']} on {record['host']}", record["host"] == socket.gethostname()
    if _is_locked(lock):  # which is seen on every machine that shares the disk
        return "running", told
    if time.time() - record["time"] < _START and (not here or _is_there(record["job"])):
        return "queued", told
    return "gone", f"{told} was killed" if here else f"{told}, another machine, which has left no end"


def _why_not_listed(job) -> str:
    if job is None:  # its submitter died before it came to sbatch
        return "it was never submitted"
    state = _last_state(job)
    return f"slurm job {job} ended: {state}" if state else f"slurm job {job} is gone"


def _squeue(names, profile) -> dict:
    """Run -> its job, for those that Slurm knows as queued or running."""
    if not names:
        return {}
    run_of = {slurm_name(name, profile): name for name in names}
    command = ["squeue", "--noheader", "--format=%j|%i|%T|%r", f"--name={','.join(run_of)}"]
    found = {}
    for line in _asked(command).splitlines():
        called, job, state, reason = line.split("|", 3)
        if called not in run_of or "DependencyNeverSatisfied" in reason:  # Slurm is about to cancel it
            continue
        told = "" if reason in ("None", "") else f", {reason}"
        now = "queued" if state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT") else "running"
        if run_of[called] not in found or now == "running":
            found[run_of[called]] = Job(now, f"slurm job {job}{told}", job)
    return found


class NoAnswer(ValueError):
    """Slurm does not answer, which is no reason to take its jobs for lost."""


def _asked(command) -> str:
    """What a command of Slurm answers.

    Raises:
        NoAnswer: there is none.  ValueError: the command is not here.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError as error:
        raise ValueError(f"there is no Slurm on this machine ({command[0]} is not found)") from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"Slurm does not answer ({command[0]} took more than two minutes)") from error
    if done.returncode:
        raise NoAnswer(f"Slurm does not answer: {' '.join(done.stderr.split())}")
    return done.stdout


def _last_state(job) -> str:
    """What Slurm still knows of a job that is over, such as "timeout"; "" if nothing (scontrol forgets in minutes)."""
    for command in (["sacct", "-nXPo", "State", "-j", job], ["scontrol", "show", "job", "--oneliner", job]):
        try:
            answer = _asked(command)
        except ValueError:  # no accounting, or forgotten
            continue
        words = dict(word.partition("=")[::2] for word in answer.split())
        if state := words.get("JobState") or ("" if "=" in answer else answer.strip().partition("\n")[0]):
            return state.lower()
    return ""


def _is_locked(path) -> bool:
    from filelock import FileLock, Timeout

    if not path.is_file():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _is_there(process) -> bool:
    """Whether a process lives; the one without a number may."""
    if process is None:
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(path) -> dict | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def is_running_in_slurm() -> bool:
    """Whether this process is a job that Slurm neither has cancelled nor takes its machine from."""
    if "SLURM_JOB_ID" not in os.environ:
        return False
    return _asked(["squeue", "--noheader", "--format=%T", f"--jobs={os.environ['SLURM_JOB_ID']}"]).strip() == "RUNNING"


def explained(found: dict[str, Job], profile: str) -> dict[str, Job]:
    """`states`, with a reason for jobs that Slurm cancelled because a run which theirs begins with failed."""
    failed = [name for name, job in found.items() if job.state in ("failed", "gone")]
    lost = {name: why_lost(name, profile, failed) for name, job in found.items() if job.state == "gone"}
    return found | {name: found[name]._replace(note=reason) for name, reason in lost.items() if reason}


def why_lost(name: str, profile: str, failed) -> str:
    """ "needs X, which failed" if a run that this one begins with is in `failed`, else ""."""
    lost = [other for other in runs.needed(name, profile) if other in failed]
    return f"needs {lost[0]}, which failed" if lost else ""
