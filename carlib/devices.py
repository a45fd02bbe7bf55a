"""Where a run is computed: the device, its precision, and the processes that share a batch (Lightning Fabric)."""

import contextlib
import datetime
import inspect
import os

import torch

from carlib import cores

# How long processes wait for each other: while the first of them waits for one elsewhere that trains the same run, or
# validates. One that dies is told to the others by torchrun or srun.
_PATIENCE = datetime.timedelta(days=1)
runs_at_a_time = 1  # on this machine: carlib.dispatch.parallel tells its processes, which share the cores


def processes() -> tuple[int, int]:
    """Processes on this node, and nodes: those of torchrun or of `srun`; (1, 1) where neither started this process.

    Raises:
        ValueError: srun's tasks are not as many on each node.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        here, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        return here, world // here
    if "SLURM_STEP_ID" in os.environ and "SLURM_PROCID" in os.environ:  # a batch script alone is no step of several
        world, nodes = int(os.environ.get("SLURM_NTASKS", 1)), int(os.environ.get("SLURM_NNODES", 1))
        if world % nodes:
            raise ValueError(f"{world} tasks of srun are not as many on each of {nodes} nodes: use --ntasks-per-node")
        return world // nodes, nodes
    return 1, 1


def is_first() -> bool:
    """Whether this process is the one of `processes` that writes and speaks for all."""
    if processes() == (1, 1):
        return True
    return int(os.environ["RANK" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_PROCID"]) == 0


def usable(device: str) -> str:
    """What networks are moved to: `device` itself; of "auto" a CUDA GPU where there is one, else "cpu".

    Apple's GPUs are not taken by themselves: they have no float64, which guided weights need.

    Raises:
        ValueError: it cannot be used.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if name == "meta":
        raise ValueError("device 'meta' holds no numbers: use auto, cpu or cuda")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, TypeError) as error:
        why = str(error).splitlines()[0].split(". ")[0]  # PyTorch goes on with all it has
        why = "there is no such kind, use auto, cpu or cuda" if why.startswith("Expected one of") else why
        why = "this PyTorch has none, use auto, cpu or cuda" if why.startswith("Could not run") else why
        raise ValueError(f"device {name!r} cannot be used: {why}") from error
    return name


def is_cpu(device: str) -> bool:
    """Whether training on `device` ("auto", "cpu", "cuda", ...) computes on the processor."""
    return device == "cpu" or (device == "auto" and usable(device) == "cpu")


def fabric(run, device: str):
    """A launched `lightning_fabric.Fabric` for a `runs.Run`: with several processes they exchange gradients (DDP).

    Raises:
        ValueError: there is no such device, or the batch cannot be shared out evenly.
    """
    # Seconds of CPU, nearly all for torch._dynamo, which torch.optim.Adam imports all the same: no way is quicker.
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment
    from lightning_fabric.strategies import DDPStrategy

    here, nodes = processes()
    check_shares(run, here * nodes)
    if here * nodes > 1:
        layout = {"devices": here, "num_nodes": nodes, "strategy": DDPStrategy(timeout=_PATIENCE, **_own_buffers())}
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            layout["plugins"] = [_tasks_of_srun(here)]
    else:  # told what it is, Fabric does not take a batch script's allocation for its own processes
        layout = {"devices": 1, "plugins": [LightningEnvironment()]}
    try:
        made = Fabric(
            accelerator=usable(device) if device == "auto" else device, precision=precision(run, device), **layout
        )
    except Exception as error:
        raise ValueError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
    made.launch()
    return made


def _tasks_of_srun(here):
    """Told that it runs under srun, Fabric does so in an interactive allocation (salloc), too, not only in a batch job.

    It wants srun's tasks counted by node, which the option --ntasks alone does not tell.
    """
    from lightning_fabric.plugins.environments import SLURMEnvironment

    os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(here))
    return SLURMEnvironment()


def _own_buffers() -> dict:
    """What tells DDP, of this version of PyTorch, to send no buffers around at each step.

    They are constants, or means that the first process keeps; IRN's only one at x2 it cannot send (memory overlaps).
    """
    known = inspect.signature(torch.nn.parallel.DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}


def check_shares(run, count: int):
    """Refuse a batch that `count` processes, or the parts that `accumulate` asks for, cannot share out evenly.

    Raises:
        ValueError: it is so.
    """
    if run.batch % (count * run.accumulate):
        raise ValueError(
            f"batch={run.batch} cannot be shared out evenly among {count} processes in accumulate={run.accumulate} "
            "parts: choose a multiple of their product"
        )


def precision(run, device: str) -> str:
    """Fabric's name of the precision that a run computes in on a device."""
    return auto_precision(device) if run.precision == "auto" else run.precision


def auto_precision(device="cpu") -> str:
    """What precision "auto" means: bfloat16 where the machine computes in it, else float32 (emulated, it is slow)."""
    if device != "cpu" and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Where PyTorch was built without it (Apple's processors), there is no such operator.
        native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16-mixed" if native else "32-true"


def name(device: torch.device) -> str:
    """What a device is called, such as "NVIDIA H200"; "cpu" of any processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextlib.contextmanager
def determinism(wanted: bool):
    """Within it PyTorch refuses what does not give the same bits each time (on a CPU training uses nothing of it)."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first call
    cudnn, filled = torch.backends.cudnn, torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    others = cudnn.benchmark, filled.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    cudnn.benchmark = False
    filled.fill_uninitialized_memory = False  # the operator writes every number of its results
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warned)
        cudnn.benchmark, filled.fill_uninitialized_memory = others


def workers(fabric) -> int:
    """Processes that cut patches for this one: none on a CPU, which has other work; on a GPU what its cores allow."""
    if fabric.device.type == "cpu":
        return 0
    return min(8, max(1, cores.count() // (processes()[0] * runs_at_a_time) - 1))
