"""One command, several processes: started here, or by torchrun or SLURM."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch._C._distributed_c10d import TCPStore

from experiments.config import ConfigError, chosen_device
from experiments.threads import torch_threads
from lightning_trackers.evaluation.distribution import PATIENCE, PeerError

log = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")


def on_ranks(
    work: Callable[..., Outcome], arguments: Sequence[object], *, devices: int = 1
) -> Outcome:
    """Call ``work(*arguments, local_rank=...)`` in every process; return what this one's returns.

    The processes form the default group of ``torch.distributed``, over gloo: tracking exchanges
    results, not tensors. Those that torchrun or SLURM started are taken as they are; otherwise
    ``devices - 1`` are started beside this one, which is the first. If one of these dies the
    others finish what they can before this one raises.

    Args:
        work: A function of a module, as the other processes import it.
        arguments: Its arguments, picklable.
        devices: How many processes to run on this machine.

    Raises:
        ConfigError: If ``devices`` is not positive, or given where torchrun or SLURM decides.
        PeerError: If another process failed or died.
        ChildProcessError: If another process did not start.
    """
    if devices < 1:
        raise ConfigError(f"devices={devices}: expected at least 1")
    environment = _started_by()
    if environment is None:
        return work(*arguments, local_rank=0) if devices == 1 else _start(work, arguments, devices)
    rank, size = environment.global_rank(), environment.world_size()
    if devices != 1:
        raise ConfigError(
            f"devices={devices}: this is one of {size} processes that torchrun or SLURM started; "
            "choose their number there and leave devices out"
        )
    if rank:
        logging.getLogger().setLevel(logging.WARNING)  # the first process speaks for all
    # The properties also set the variables that env:// reads.
    log.debug("rendezvous at %s:%d", environment.main_address, environment.main_port)
    options = {"rank": rank, "world_size": size, "init_method": "env://"}
    return _in_group(options, work, arguments, environment.local_rank())


def rank_device(name: str, local_rank: int) -> torch.device:
    """Return the device of a process: the GPUs in turn, unless one is named.

    Args:
        name: The ``device`` key.
        local_rank: Number of the process on this machine.

    Raises:
        ValueError: If it is a GPU and this torch sees none.
    """
    device = chosen_device(name)
    if device == torch.device("cuda"):  # of no number
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return device


def _started_by() -> ClusterEnvironment | None:
    """Return who started several processes; None if nobody did."""
    environment: ClusterEnvironment
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
    elif SLURMEnvironment.detect():
        environment = SLURMEnvironment()
    else:
        return None
    return environment if environment.world_size() > 1 else None


def _start(work: Callable[..., Outcome], arguments: Sequence[object], size: int) -> Outcome:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    children = [
        context.Process(
            target=_child, args=(work, arguments, rank, size, store.port), name=f"rank {rank}"
        )
        for rank in range(1, size)
    ]
    with torch_threads(torch.get_num_threads() // size), _ended_on_error(children):
        for child in children:
            child.start()
        _wait_for(children, store)
        options = {"rank": 0, "world_size": size, "store": store}
        outcome = _in_group(options, work, arguments, 0)
    _join(children)
    return outcome


def _child(
    work: Callable[..., Any], arguments: Sequence[object], rank: int, size: int, port: int
) -> None:
    """Be one of the processes that :func:`_start` started."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends us
    store = TCPStore("127.0.0.1", port, is_master=False)
    store.add("present", 1)
    options = {"rank": rank, "world_size": size, "store": store}
    with torch_threads(torch.get_num_threads() // size):
        try:
            _in_group(options, work, arguments, rank)
        except PeerError:  # who failed has said why
            os._exit(1)  # a group whose members have died cannot be taken down


def _end_with_parent() -> None:
    """End this process at once when the first one is gone, however it went.

    Otherwise it might write results into a folder where the next evaluation is at work.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _wait_for(children: Sequence[BaseProcess], store: TCPStore) -> None:
    """Wait until all processes are there, and no longer if one fails to start."""
    while store.add("present", 0) < len(children):
        for child in children:
            if child.exitcode is not None:
                raise ChildProcessError(
                    f"{child.name} ended with exit code {child.exitcode} as it started"
                )
        time.sleep(0.05)


@contextmanager
def _ended_on_error(children: Sequence[BaseProcess]) -> Iterator[None]:
    """End the other processes if this one fails; if one of them did, let the rest finish."""
    try:
        yield
    except PeerError:
        _join(children)
        raise
    except BaseException:
        for child in children:
            if child.pid is not None:
                child.terminate()
        _join(children)
        raise


def _join(children: Sequence[BaseProcess]) -> None:
    for child in children:
        if child.pid is not None:  # it was started
            child.join()


def _in_group(
    options: dict[str, Any],
    work: Callable[..., Outcome],
    arguments: Sequence[object],
    local_rank: int,
) -> Outcome:
    dist.init_process_group("gloo", timeout=PATIENCE, **options)
    outcome = work(*arguments, local_rank=local_rank)
    dist.destroy_process_group()  # not after an error: it would wait for those who have died
    return outcome
