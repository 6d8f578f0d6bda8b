"""own_rewards.py: rewards of your own: --reward FILE.py:FUNCTION.

The function is called as GRPOTrainer of TRL 1.16 calls one, so that the same one serves in both:

    function(prompts=, completions=, completion_ids=, trainer_state=, **columns) -> N numbers

prompts          the texts of the problems, without a template; for prompts that are chats, their lists of messages
completions      the texts; for chats [{"role": "assistant", "content": text}] each
completion_ids   their tokens, end token included
trainer_state    global_step, counted from 0, and max_steps
columns          every other column of the data, N values each, None where a row has none; a toy has answer

None in place of a number: this reward does not apply to that completion. It then counts as the mean of those of its
group that have a number, or as 0 if none has, so that it is made neither likelier nor less likely. (TRL leaves it
out of the sum; with one reward that is the same but for the group's deviation.)

It is code, and runs as you. So it runs only if the command line names it, also where a run goes on; that a run folder
names it is not enough. Not here: async functions, log_extra and log_metric.
"""

import hashlib
import inspect
import math
import re
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import torch

from running.data_files import kind_of_path
from running.files import BadInput, in_a_line
from running.processes import once

FORM = re.compile(r"(.+\.py):([^\W\d]\w*)")  # FILE.py:FUNCTION
OURS = ("prompts", "completions", "completion_ids", "trainer_state")  # the arguments that are no columns
NO_COLUMNS = ("prompt", "completion", "completion_ids")  # columns that TRL does not pass on


def called(name: str) -> str:
    """A reward's name without its file: brevity of my_rewards.py:brevity."""
    return name.rpartition(":")[2]


def described(names, before: dict | None) -> dict:
    """For config.json: {"minreason_code": a hash of each file}, by the rewards' names; {} without rewards of one's own.

    before: config.json of the run that goes on. Where a file has changed since, it says so; None: nothing to compare.
    """
    files = {name: Path(FORM.fullmatch(name)[1]).expanduser() for name in names}
    hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for name, file in files.items()}
    for name, found in hashes.items():
        if before is not None and before.get("minreason_code", {}).get(name) != found:
            print(f"note: --reward {name}: its file is not what it was when the run began", file=sys.stderr)
    return {"minreason_code": hashes} if hashes else {}


def load(names, problems: list) -> dict[str, Callable]:
    """FILE.py:FUNCTION -> function of (graded, trainer_state), which gives [B, G]; names of other forms are left out.

    Runs the files. Raises BadInput for what cannot be imported or called with these problems' columns.
    """
    columns = sorted(set().union(*(columns_of(problem) for problem in problems)) - set(NO_COLUMNS))
    return {name: partial(graded_by, name, loaded(name, columns), columns) for name in names if FORM.fullmatch(name)}


def columns_of(problem) -> dict:
    """The columns of a problem's row; those of an embedded world have the answer alone."""
    return {"answer": problem.answer} if problem.row is None else problem.row


def loaded(name: str, columns: list[str]) -> Callable:
    """The function of FILE.py:FUNCTION. Raises BadInput if it is not there or cannot be called as it will be."""
    file, function_name = FORM.fullmatch(name).groups()
    said = f"--reward {name if len(name) <= 200 else f'{name[:200]} ...'}"
    if (kind := kind_of_path(file)) != "file":
        raise BadInput(f"{said}: {'the file is no regular one' if kind else 'no such file'}; check the path")
    path = Path(file).expanduser()
    module = ModuleType(f"own_rewards_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickles look for their module there
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        raise BadInput(f"{said}: the file cannot be run ({trouble(error, path)}); mend it") from None
    function = getattr(module, function_name, None)
    if not callable(function) or inspect.iscoroutinefunction(function):
        found = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise BadInput(f"{said}: no plain function of this name in the file; it has {', '.join(found) or 'none'}")
    try:
        inspect.signature(function).bind(**dict.fromkeys([*columns, *OURS]))
    except (TypeError, ValueError) as error:
        given = ", ".join([*OURS, *columns])
        raise BadInput(f"{said}: {error}; it is called with {given}, so let it take **columns") from None
    return function


def trouble(error: BaseException, path: Path) -> str:
    """An exception in the user's file, in one line, with the last line of the file that it came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f" in line {lines[-1]}" if lines else ""
    return f"{type(error).__name__}{where}: {in_a_line(error)}"


@once
def graded_by(name: str, function: Callable, columns: list[str], graded, trainer_state) -> torch.Tensor:
    """What the function pays, [B, G] float32. Raises BadInput where it fails or gives anything but N numbers."""
    of_row = [p for p in graded.problems for _ in range(len(graded.texts) // len(graded.problems))]  # N
    rows, said = [columns_of(problem) for problem in of_row], f"--reward {name}"
    asked = {column: [row.get(column) for row in rows] for column in columns}
    asked["prompts"] = [problem.given for problem in of_row]
    asked["completions"] = [
        [{"role": "assistant", "content": text}] if p.chat else text
        for p, text in zip(of_row, graded.texts, strict=True)
    ]
    asked |= {"completion_ids": graded.rollouts.completions(), "trainer_state": trainer_state}
    try:
        values = list(function(**asked))
    except (Exception, SystemExit) as error:
        path = Path(FORM.fullmatch(name)[1]).expanduser()
        raise BadInput(f"{said}: the function failed ({trouble(error, path)}); mend it") from None
    if len(values) != len(rows):
        raise BadInput(f"{said}: gave {len(values)} numbers for {len(rows)} completions; give one for each")
    paid = graded.groups([None if value is None else number(value, said) for value in values])
    means = paid.nanmean(dim=1, keepdim=True).nan_to_num(0.0)
    return torch.where(paid.isnan(), means, paid)


def number(value, said: str) -> float:
    """A value of the user's function as a float. Raises BadInput for a text, NaN, or anything else."""
    try:
        found = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        shown = in_a_line(ValueError(repr(value)))
        raise BadInput(
            f"{said}: gave {shown} (a {type(value).__name__}) for a completion; give a finite number or None"
        )
    return found
