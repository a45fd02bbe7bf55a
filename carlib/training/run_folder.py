"""The folder that a run is trained in: who may write there, its log, and what a killed process left in it."""

import contextlib
import math
import sys

from carlib import results, stopping, weights
from carlib.training import checkpoint

LOG_COLUMNS = [
    "step", "loss", "restoration", "offset", "tv", "guidance", "distribution", "bit_cost", "patch_psnr", "psnr",
    "adaptivity", "offset_length", "lr", "seconds",
]  # fmt: skip


@contextlib.contextmanager
def alone(folder, told=lambda: False):
    """Hold the folder's lock, so that two runs with the same start train it once and neither disturbs the other.

    Args:
        told: whether the process is to end, asked while another process holds the lock.
    Raises:
        ValueError: the folder cannot be written to.
        stopping.Stopped: told.
    """
    from filelock import FileLock, Timeout

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock, waits = FileLock(folder.parent / f".{folder.name}.lock"), False
        while not lock.is_locked:
            try:
                lock.acquire(timeout=int(waits))
            except Timeout:
                if told():
                    raise stopping.Stopped(f"{folder}: stopped by SIGTERM while another process trains here") from None
                if not waits:
                    print(f"{folder}: another process trains here: waiting for it", file=sys.stderr)
                waits = True
    except OSError as error:
        raise ValueError(f"cannot write {folder}/: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


class Record:
    """What a run leaves in its folder; the first process alone writes."""

    def __init__(self, loop, folder, recipe, header, history):
        self.loop, self.folder, self.recipe, self.header, self.history = loop, folder, recipe, header, history
        self.writes = loop.fabric.is_global_zero
        self.best = max((row["psnr"] for row in loop.log), default=-math.inf)
        if self.writes:
            sweep(folder)

    def begin(self):
        """Show now whether the folder can be written to, and that a killed restart stays a restart."""
        self.keep()
        for stale in self.folder.glob("steps/*.safetensors") if self.writes else ():
            stale.unlink()

    def keep(self):
        """Log and checkpoint of this step."""
        loop = self.loop
        if self.writes:
            write_log(loop.log, self.folder)  # first: a finished run never lacks the end of its log
            block = {"sums": loop.sums, "seconds": loop.seconds}
            block |= {"average": loop.average.state_dict()} if loop.average else {}
            checkpoint.write(self.folder, self.recipe, loop.networks, loop.optimizer, loop.step, loop.log, block)

    def validated(self, row) -> float:
        """Keep what a validation calls for; the best PSNR so far.

        Where PSNR of photographs does not say which are better, the last weights are kept (`Run.keeps_last`).
        """
        step, psnr, better = row["step"], row["psnr"], row["psnr"] > self.best or self.loop.run.keeps_last
        self.best = max(self.best, psnr)
        if self.writes and better:
            weights.save(self.loop.kept, self.folder / "weights.safetensors", self.header(step, psnr))
        if self.writes and self.history:
            kept = self.folder / "steps" / f"{step:06}.safetensors"
            weights.save(self.loop.kept, kept, self.header(step, psnr))
        self.keep()
        return self.best


def finished(folder):
    """The weights of a run whose checkpoint is its last.

    Raises:
        ValueError: they are not there.
    """
    path = folder / "weights.safetensors"
    if not path.is_file():
        raise ValueError(f"{folder} holds a finished checkpoint but no weights.safetensors: train again with --restart")
    return path


def sweep(folder):
    """Remove what a killed process left half-written."""
    for hidden in (".last.*.ckpt", ".weights.*.safetensors", ".log.*.csv", ".curve.*.png", "steps/.*.safetensors"):
        for stale in folder.glob(hidden):  # see results.atomic
            stale.unlink()


def write_log(log, folder):
    """The training log (dicts with LOG_COLUMNS) as log.csv, atomically."""
    lines = [",".join(LOG_COLUMNS)]
    for row in log:  # a checkpoint from before a column was logged lacks it
        values = (f"{row.get(column, math.nan):.6g}" for column in LOG_COLUMNS[1:])
        lines.append(",".join([str(row["step"]), *values]))
    results.write_text(folder / "log.csv", "\n".join(lines) + "\n")
