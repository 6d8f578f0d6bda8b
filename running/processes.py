"""processes.py: one run in several processes, `torchrun --nproc-per-node 2 train.py ...`.

All processes do the same work on the same numbers, with two exceptions:

* Each samples its share of a step's rows (`own`), and takes its share of the micro-batches through the models
  (engine/packing.py). All get all rollouts (`everyones`), and what was computed by shares is added up (`total`,
  `added`): values, gradients, metrics.
* What changes files, runs the user's code, or need not come out alike twice, such as a grade with a time limit, is done
  by the first process alone (`once`).

So all hold the same rollouts, rewards, advantages and weights. In a single process nothing here does anything, and
torch.distributed is not touched. With `torchrun`, tensors on GPUs go through NCCL, all else through gloo.
"""

import functools
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta

import torch

PATIENCE = timedelta(days=30)  # how long one waits for another; that one has ended is noticed at once
AT_ONCE = 2**24  # numbers that are added up in one message
_here = 0, 1  # this process, and how many there are
_store, _stderr = None, None  # what torchrun keeps for all, and where this process may speak


class Ended(Exception):
    """Another process of the run has ended."""


def rank() -> int:
    """The number of this process, from 0."""
    return _here[0]


def size() -> int:
    """How many processes work together; 1 where this one works apart."""
    return _here[1]


def local_rank() -> int:
    """The number of this process among those on this machine: that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def on_this_machine() -> int:
    """How many of the processes share this machine's memory."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if size() > 1 else 1


def program() -> str:
    """What runs this program: python, or torchrun with as many processes on a machine."""
    return f"torchrun --nproc-per-node {os.environ['LOCAL_WORLD_SIZE']} --" if _store else "python"


def join() -> None:
    """Join the processes that torchrun has started, if it has. All but the first fall silent."""
    global _here, _store, _stderr
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or _store:
        return
    from torch import distributed

    _store, *here = next(distributed.rendezvous("env://"))
    distributed.init_process_group(store=_store, rank=here[0], world_size=here[1], timeout=PATIENCE)
    _here, _stderr = tuple(here), sys.stderr
    if rank() > 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        sys.excepthook = lambda *error: traceback.print_exception(*error, file=_stderr)  # a bug is never silent


def leave() -> int:
    """End the work together, and return this process's number: from here on, each is alone."""
    global _here
    number = rank()
    if size() > 1:
        _here = 0, 1
        torch.distributed.destroy_process_group()
    return number


def say(line: str) -> None:
    """Write a line about the end of the run to stderr, unless another process has written one."""
    try:
        first = _store is None or _store.add("said", 1) == 1
    except RuntimeError:  # torchrun itself is gone
        first = True
    if first:
        print(line, file=_stderr or sys.stderr)


# --- by shares ------------------------------------------------------------------------------------------------------


def own(number: int) -> range:
    """This process's part of 0 .. number - 1."""
    return range(number * rank() // size(), number * (rank() + 1) // size())


@contextmanager
def together():
    """Raise Ended where the others cannot be reached any more."""
    try:
        yield
    except RuntimeError as error:
        if not re.search("peer|pipe|remote|network|time", str(error)):  # whatever else it is, it is a bug
            raise
        raise Ended from error


def everyones(value) -> list:
    """What each process gives, in their order. It is here that they wait for each other. Tensors: on the CPU."""
    if size() == 1:
        return [value]
    found = [None] * size()
    with together():
        torch.distributed.all_gather_object(found, value)
    return found


def total(*tensors: torch.Tensor) -> None:
    """Put into each tensor the sum of those of all processes.

    Many at once: 38 gradients one by one took 7 to 32 ms on two cores, and put together 1 to 2.
    """
    if size() == 1:
        return
    left = list(tensors)
    while left:
        some = [left.pop()]
        while left and sum(tensor.numel() for tensor in some) + left[-1].numel() <= AT_ONCE:
            some.append(left.pop())
        flat = torch.cat([tensor.flatten() for tensor in some])
        with together():
            torch.distributed.all_reduce(flat)
        for tensor, part in zip(some, flat.split([tensor.numel() for tensor in some]), strict=True):
            tensor.copy_(part.view_as(tensor))


def added(values: dict[str, float | None]) -> dict[str, float | None]:
    """Numbers by name, each the sum of those of all processes. None stays None."""
    parts = everyones(values)
    return {name: None if value is None else sum(part[name] for part in parts) for name, value in values.items()}


# --- apart ---------------------------------------------------------------------------------------------------------


@contextmanager
def apart():
    """Within it this process waits for no other: size() is 1."""
    global _here
    here, _here = _here, (0, 1)
    try:
        yield
    finally:
        _here = here


def once(function: Callable) -> Callable:
    """The function, but called by the first process alone: all wait for it, and get what it returned or raised.

    What it raises is passed on if it says that something outside is wrong: ValueError (such as BadInput) and OSError.
    """

    @functools.wraps(function)
    def call(*args, **kwargs):
        if size() == 1:
            return function(*args, **kwargs)
        found = None, None
        if rank() == 0:
            try:
                with apart():
                    found = function(*args, **kwargs), None
            except (ValueError, OSError) as error:
                found = None, error
        value, error = everyones(found)[0]
        if error is not None:
            raise error
        return value

    return call
