"""Runs trained as jobs: handed through submitit to Slurm, or to processes of this machine; nothing is done twice.

A job trains one run. One that begins with another run's weights waits for that run: in Slurm by a dependency, so that
the submitter may die; on this machine it is started when they are there. `carlib.jobs` knows what lies on disk.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
import uuid
from pathlib import Path

from carlib import jobs, overview, results, runs
from carlib.dispatch import cluster_options, queue

POLL = {"slurm": 10.0, "local": 0.5}  # seconds between two looks
_MINUTES = 240  # of a job without `time`; at its end it is queued again and goes on
_TIMEOUTS = 100  # how often that happens before a run counts as failed
_LAST_FILES = {"slurm": 90.0, "local": 0.5}  # seconds that what a job wrote may take to reach this machine (NFS: 60)
_PATIENCE = 900  # seconds of silence of Slurm, once it has answered
_FOREVER = 60 * 24 * 365  # minutes: submitit ends a process after two by default


def train_all(
    names, profile=None, *, executor, renew=False, device="auto", wait=True, progress=True, tell=print
) -> dict[str, str]:
    """Train what is missing of some runs and of those they begin with, each as a job, and wait for all.

    Nothing is done twice: a trained run is skipped, a job that is queued or running is waited for, whoever submitted
    it; one that failed or is gone is submitted again. A submitter that is stopped disturbs no job; but
    Ctrl-C, which a terminal sends to all, ends those of local.

    Args:
        executor: "slurm" or "local"; the section of cluster.yaml with this name has its options.
        renew:    also train what is finished, where its recipe changed.
        wait:     False (Slurm only): return when all are submitted.
        tell:     gets one line per run, or two.
    Returns:
        run -> why it failed, or is not submitted yet.
    Raises:
        ValueError: a name, the executor or an option is unknown, submitit or Slurm is not here, or Slurm refuses a job.
    """
    from tqdm import tqdm

    chosen = runs.profile(profile)
    if chosen["train"] is None:
        raise ValueError(f"profile {chosen['name']} trains nothing, it takes the shipped weights: use --profile mini")
    if not wait and executor == "local":
        raise ValueError("executor local starts one job after the other: it has to wait for them")
    fleet = _Fleet(names, chosen["name"], executor, {"renew": renew, "device": device}, tell)
    bar = {"total": len(fleet.queue), "initial": len(fleet.queue) - len(fleet.left), "unit": "run"}
    with tqdm(**bar, desc=f"jobs ({fleet.profile})", disable=not (progress and wait)) as bar:
        try:
            while _looked(fleet, bar) and wait:
                time.sleep(POLL[executor])
        except KeyboardInterrupt:
            if executor == "slurm":
                tell("no longer waiting: what Slurm has goes on, and the same command waits for it again")
            else:  # of the terminal's process group: Ctrl-C came to them as well
                tell("what was training ends with a checkpoint: the same command continues")
            raise
    return fleet.failed if wait else fleet.failed | fleet.held_up()


def _looked(fleet, bar) -> bool:
    """As `_Fleet.look`. Where Slurm has answered once and is silent now, busy as it may be, it is asked again later."""
    try:
        left = fleet.look(bar)
    except jobs.NoAnswer:
        if fleet.answered is None or time.monotonic() - fleet.answered > _PATIENCE:
            raise
        return True
    fleet.answered = time.monotonic()
    return left


def check(executor: str):
    """Refuse an executor that is unknown, or cannot work here.

    Raises:
        ValueError: likewise, or cluster.yaml has an option that it does not know.
    """
    cluster_options.read(executor)
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        told = "pip install -c constraints.txt -e '.[cluster]'"
        raise ValueError(f"executor {executor} needs submitit, which is not installed: {told}") from error
    if executor == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise ValueError("there is no Slurm on this machine (sbatch is not found): log in to a cluster, or take local")


class Train:
    """What a job does: train one run to its end, and write down how that went. submitit pickles it."""

    def __init__(self, name, profile, token, options, environment):
        self.name, self.profile, self.token = name, profile, token
        self.options, self.environment = options, environment

    def __call__(self):
        os.environ.update(self.environment)
        from carlib import experiments, stopping

        with results.alone(jobs.lock(self.name, self.profile)), _signals() as again:
            try:
                experiments.prepare(self.name, self.profile, progress=False, **self.options)
            except stopping.Stopped as told:
                print(told, file=sys.stderr)
                again()
                sys.exit(128 + signal.SIGTERM)
            except Exception as error:
                jobs.end(self.name, self.profile, self.token, queue.reason(error))
                raise
            jobs.end(self.name, self.profile, self.token)

    def checkpoint(self):
        """What submitit queues again: the same. Training continues from its last checkpoint by itself."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@contextlib.contextmanager
def _signals():
    """Within it training, where it is under way, ends with a checkpoint when time is out or SIGTERM comes.

    Yields what to do after that: submitit queues the job again and ends this process, unless Slurm has done either.
    """
    import submitit

    number = getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")  # sent when time is nearly out
    answer, came = signal.getsignal(number), []

    def requeue(number, frame):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which is how Slurm takes its machine back
        return answer(number, frame)

    def told(number, frame):
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # training does not listen: nothing is lost
            return requeue(number, frame)
        came.append(number)
        return os.kill(os.getpid(), signal.SIGTERM)

    def again():
        if came or jobs.is_running_in_slurm():  # what was cancelled or preempted is no longer so called
            requeue(number, None)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # submitit's answer is to ignore it
    signal.signal(number, told)
    try:
        yield again
    finally:
        signal.signal(number, answer)
        signal.signal(signal.SIGTERM, before)


class _Fleet:
    """The runs that are still to be trained, and the jobs that do it."""

    def __init__(self, names, profile, executor, training, tell):
        self.profile, self.executor, self.training, self.tell = profile, executor, training, tell
        self.queue = queue.order(names, profile)
        check(executor)
        self.options = cluster_options.read(executor)
        self.failed = {}
        self.seen = set()  # runs whose job was submitted here, or was there before
        self.gone = {}  # run -> when its job was first not found (time.monotonic)
        self.held = {}  # run -> what it begins with, where a process trains that: no job of Slurm can wait for it
        self.processes, self.gpu_of = {}, {}
        self.shown = None
        self.answered = None  # when Slurm last answered (time.monotonic)
        done = set()
        for name in self.queue:
            if self._is_done(name, done):
                done.add(name)
                self._say(name, "done before")
        self.left = [name for name in self.queue if name not in done]

    def look(self, bar) -> bool:
        """See what has become of the jobs and submit what can be; whether there is something to wait for."""
        from tqdm import tqdm

        with results.alone(results.folder(self.profile, "jobs", ".submit.lock")):
            for process in self.processes.values():
                process.done()  # a process that ended is one until its parent asks
            found = jobs.explained(jobs.states(self.left, self.profile), self.profile)
            for name in list(self.left):
                if told := self._step(name, found):
                    with tqdm.external_write_mode():
                        self._say(name, told)
        self._show(bar, [job.state for job in found.values()])
        return bool(self.left)

    def held_up(self) -> dict[str, str]:
        """Runs that are not submitted yet, and why."""
        told = "not submitted yet: it begins with {}, which a process of executor local trains"
        return {name: told.format(other) for name, other in self.held.items() if name not in self.seen}

    def _is_done(self, name, done) -> bool:
        line = overview.line(name, self.profile)
        if line["state"] != "trained" or line["note"]:
            return False
        return not self.training["renew"] or (
            done >= set(runs.needed(name, self.profile)) and queue.is_current(name, self.profile)
        )

    def _step(self, name, found) -> str:
        """One run at one look; what is new about it, in words."""
        if lost := jobs.why_lost(name, self.profile, self.failed):
            return self._fail(name, lost)
        job = found.get(name)
        if job and job.state in jobs.ALIVE:
            new = name not in self.seen
            self.seen.add(name)
            return f"{job.state} already, {job.note}" if new else ""
        if name in self.seen:
            return self._ended(name, job or jobs.Job("gone", "its record is no longer there", None))
        if not self._has_room(name, found):
            return ""
        before = f" again, for it had failed ({job.note})" if job and job.state in ("failed", "gone") else ""
        found[name] = self._submit(name, found)
        return f"submitted{before}, {found[name].note}"

    def _ended(self, name, job) -> str:
        if job.state == "failed":
            return self._fail(name, job.note)
        if job.state == "gone" and not self._is_done(name, set(self.queue) - set(self.left)):
            since = time.monotonic() - self.gone.setdefault(name, time.monotonic())
            return self._fail(name, job.note) if since >= _LAST_FILES[self.executor] else ""
        self.left.remove(name)
        return queue.trained(name, self.profile)

    def _fail(self, name, reason) -> str:
        self.left.remove(name)
        self.failed[name] = reason
        return f"failed: {reason}"

    def _has_room(self, name, found) -> bool:
        """Whether a run can be submitted now."""
        if self.executor == "slurm":
            if first := [other for other in runs.needed(name, self.profile) if self._is_process(other, found)]:
                self.held[name] = first[0]
            return not first
        busy = sum(job.state in jobs.ALIVE for job in found.values())
        return busy < self.options.get("parallel", 1) and not set(runs.needed(name, self.profile)) & set(self.left)

    def _is_process(self, name, found) -> bool:
        """Whether a process of executor local trains a run now."""
        return name in found and found[name].state in jobs.ALIVE and jobs.executor(name, self.profile) == "local"

    def _submit(self, name, found) -> jobs.Job:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        token = uuid.uuid4().hex
        train = Train(name, self.profile, token, self.training, _environment())
        jobs.begin(name, self.profile, self.executor, token)
        before = set(jobs.folder(name, self.profile).iterdir())
        try:
            executor = self._slurm(name, found) if self.executor == "slurm" else self._local(name, found)
            with _outside_of_jobs():
                job = executor.submit(train)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            jobs.forget(name, self.profile)
            for leftover in set(jobs.folder(name, self.profile).iterdir()) - before:  # submitit's
                leftover.unlink()
            told = " ".join(str(error).replace("sbatch: error: ", "").split())
            raise ValueError(f"{self.executor} refuses the job of {name}: {told}") from error
        jobs.begin(name, self.profile, self.executor, token, job.job_id)
        self.seen.add(name)
        if self.executor == "local":
            self.processes[name] = job
        kind = "slurm job" if self.executor == "slurm" else "process"
        return jobs.Job("queued", f"{kind} {job.job_id}", job.job_id)

    def _slurm(self, name, found):
        import submitit

        options = dict(self.options)
        own = {"time": options.pop("time", _MINUTES), "setup": options.pop("setup", None)}
        if cpus := options.get("cpus_per_task"):
            own["srun_args"] = [f"--cpus-per-task={cpus}"]  # srun does not take it from sbatch (Slurm 22.05)
        needed = [found[other] for other in runs.needed(name, self.profile) if other in found and other in self.left]
        if first := [job.id for job in needed if job.state in jobs.ALIVE]:
            options |= {"dependency": "afterok:" + ":".join(first), "kill_on_invalid_dep": "yes"}
        executor = submitit.SlurmExecutor(jobs.folder(name, self.profile), max_num_timeout=_TIMEOUTS)
        executor.update_parameters(
            job_name=jobs.slurm_name(name, self.profile),
            wckey=None,  # submitit's own is refused where they are kept
            additional_parameters={"requeue": True, **options},
            **own,
        )
        return executor

    def _local(self, name, found):
        import submitit

        executor = submitit.LocalExecutor(jobs.folder(name, self.profile))
        executor.update_parameters(timeout_min=_FOREVER)
        if self.training["device"] != "cpu" and (gpus := _gpus()):  # submitit hides all that is not asked for
            taken = [self.gpu_of[other] for other in found if other in self.gpu_of and found[other].state in jobs.ALIVE]
            self.gpu_of[name] = min(gpus, key=taken.count)
            executor.update_parameters(gpus_per_node=1, visible_gpus=[self.gpu_of[name]])
        return executor

    def _show(self, bar, states):
        counts = {"queued": states.count("queued"), "running": states.count("running"), "failed": len(self.failed)}
        told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        done = len(self.queue) - len(self.left)
        if (told, done) != self.shown:  # a log file gets a line for each
            self.shown = told, done
            bar.set_postfix_str(told, refresh=False)
            bar.update(done - bar.n)
            bar.refresh()

    def _say(self, name, told):
        self.tell(f"[{self.queue.index(name) + 1}/{len(self.queue)}] {name}: {told}")


@contextlib.contextmanager
def _outside_of_jobs():
    """Without the environment of the job that this process may itself be: the next job would take it for its own."""
    from submitit.helpers import clean_env

    kept = {key: os.environ[key] for key in ("SLURM_CONF",) if key in os.environ}  # where the cluster is
    with clean_env() if "SLURM_JOB_ID" in os.environ else contextlib.nullcontext():
        os.environ.update(kept)
        yield


def _environment() -> dict:
    """What a job must know of this process, should its cluster start jobs with nothing."""
    known = {"CARLIB_HOME": str(results.root().resolve())}
    return known | {key: str(Path(value).resolve()) for key in ("CARLIB_DATA",) if (value := os.environ.get(key))}


def _gpus() -> list[int]:
    """The numbers of the GPUs that this process may use."""
    import torch

    if not torch.cuda.is_available():
        return []
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return list(range(torch.cuda.device_count()))
    try:
        return [int(number) for number in allowed.split(",")]
    except ValueError as error:
        raise ValueError(f"CUDA_VISIBLE_DEVICES={allowed!r}: executor local wants numbers, such as 0,1") from error
