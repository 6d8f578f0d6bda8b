"""watching.py: the rows of metrics.jsonl, as they come, in TensorBoard, Weights & Biases or Trackio.

--resume goes on in the same place. Steps that come again after a kill replace those that TensorBoard has; the other two
keep what they have. (Offline, wandb makes a part of its own for each --resume, with the same id.) TensorBoard's files
are in the run folder, wandb's and Trackio's where they always are.
"""

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from running import processes
from running.files import BadInput, replace_text

TOOLS = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "trackio": "trackio"}
PROJECT = "minreason"  # the name of the page on which the last two show the runs


def tool(name: str):
    """The package of a tool. Raises BadInput if it is not installed."""
    try:
        return importlib.import_module(TOOLS[name])
    except ImportError:
        raise BadInput(f"--report-to {name}: needs the package {name}: pip install {name}") from None


def start(name: str, run: Path, first: int, kept: dict) -> tuple[Callable[[dict], None], Callable[[], None]]:
    """(what tells the tool a row of metrics.jsonl, what ends that). first: the first step; kept: the run's settings.

    name: one of TOOLS, or none. The numbers have the names that they have there; a null is left out. Raises BadInput
    where the tool does not start.
    """
    if name == "none" or processes.rank() > 0:
        return lambda row: None, lambda: None
    package = tool(name)
    try:
        if name == "tensorboard":
            writer = package.SummaryWriter(str(run), purge_step=first)
            tell, finish = to_tensorboard(writer), writer.close
        else:
            tell, finish = to_a_page(package, run, kept)
    except Exception as error:  # nobody is logged in, no network, a version that does not know these arguments
        why = str(error).partition("\n")[0]
        raise BadInput(f"--report-to {name}: it does not start ({why}); mend that, or give --report-to none") from None

    trouble = []

    def report(row: dict) -> None:
        try:
            if not trouble:
                tell({key: value for key, value in row.items() if key != "step" and value is not None}, row["step"])
        except Exception as error:  # a page that cannot be reached does not end a run of days
            trouble.append(error)
            tqdm.write(f"WARNING, step {row['step']}: {name} fails and is told no more ({error})", file=sys.stderr)

    return report, finish


def to_tensorboard(writer) -> Callable[[dict, int], None]:
    """What writes the numbers of a step into the folder of a SummaryWriter."""

    def tell(numbers: dict, step: int) -> None:
        for key, value in numbers.items():
            writer.add_scalar(key, value, step)
        writer.flush()  # a step can take minutes, and a kill comes when it comes

    return tell


def to_a_page(package, run: Path, kept: dict) -> tuple[Callable[[dict, int], None], Callable[[], None]]:
    """The same for wandb and trackio, which have one interface: a run on the page PROJECT, and its end."""
    noted = run / "watched.txt"  # the run's name there: that of its folder, and when it began
    if not noted.exists():
        replace_text(noted, run.resolve().name + time.strftime("-%Y%m%d-%H%M%S"))
    name = noted.read_text(encoding="utf-8")
    options = {"id": name} if package.__name__ == "wandb" else {}
    page = package.init(project=PROJECT, name=name, config=kept, resume="allow", **options)
    # wandb tells which step comes next; trackio knows, but its name for that is private.
    known = getattr(page, "step", getattr(page, "_next_step", 0))

    def tell(numbers: dict, step: int) -> None:
        if step >= known:
            package.log(numbers, step=step)

    return tell, package.finish
