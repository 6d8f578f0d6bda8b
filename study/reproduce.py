"""reproduce.py: an experiment of the papers as one command: train what is missing, compare, print, draw.

    python -m study.reproduce --list                     what there is, and which paper's figure it is
    python -m study.reproduce algorithms                 all of it: hours on two cores
    python -m study.reproduce algorithms --jobs 2        two runs at a time; --seeds 1 for a first look
    python -m study.reproduce algorithms --dry-run       the commands, to be typed by hand

An experiment is a list of commands, of train.py and distill.py, and a study of what they made, by eval.py. Nothing else
happens here. A run that is finished is not made again, and one that was begun goes on. What comes out is in
runs/EXPERIMENT: the study, and what study/seeds.py makes of it.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from algorithms import ALGORITHMS
from running import flags
from running.files import BadInput
from running.flags import flag
from running.folder import read_config
from study import seeds


class Experiment(NamedTuple):
    """What is trained, and from what."""

    question: str
    base: str  # the model that all start from
    runs: dict[str, str]  # NAME -> the command that trains it, but for --seed and --run
    study: str = "--samples 256 --perplexity 0"  # flags of eval.py
    checkpoints: tuple[int, ...] = ()  # steps at which the runs' checkpoints are studied too


def of_algorithms(prefix: str, flags_of_all: str, names) -> dict[str, str]:
    """A run of each algorithm."""
    return {f"{prefix}{name}": f"train.py {flags_of_all} --algorithm {name}" for name in names}


PLAIN = "--lr 2e-4 --eval-samples 0"  # what the search worlds' runs share
SEARCH = f"--model toy-search --steps 60 {PLAIN}"
# All alike but for what a rollout is compared with, and for what dapo samples again. Here gspo is grpo.
SHARED = "--kl 0 --loss-average token --clip 0.2 --clip-high 0.2 --overlong 0"
EXPERIMENTS = {
    "algorithms": Experiment(
        "eight algorithms, each with its paper's settings, in the search world (limit of RLVR, Figure 8)",
        "toy-search",
        of_algorithms("search-", SEARCH, ALGORITHMS),
    ),
    "algorithms-shared": Experiment(
        "the same with settings shared by all: they differ in the advantages, and dapo in its sampling",
        "toy-search",
        of_algorithms("search-shared-", f"{SEARCH} {SHARED}", [name for name in ALGORITHMS if name != "gspo"]),
    ),
    "algorithms-chain": Experiment(
        "eight algorithms, each with its paper's settings, in the chain world",
        "toy",
        of_algorithms("chain-", "--model toy --eval-samples 0", ALGORITHMS),
    ),
    "distillation": Experiment(
        "reinforcement learning, a model's own right answers, and a teacher's (limit of RLVR, Figure 7)",
        "toy-search-5",
        {
            "search-5-grpo": f"train.py --model toy-search-5 --steps 60 {PLAIN} --kl 0",
            "search-5-rejection": "distill.py --teacher self --epochs 2",
            "search-5-expert": "distill.py --teacher self --epochs 2 --rounds 3",
            "search-5-taught": "distill.py --teacher toy-search-5-strong --epochs 4",
            "search-5-solver": "distill.py --teacher solver",
        },
    ),
    "distillation-4": Experiment(
        "the same with four numbers, where the base model solves everything in 256 tries",
        "toy-search",
        {
            "search-kl-0": f"train.py {SEARCH} --kl 0",
            "search-expert": "distill.py --model toy-search --teacher self --epochs 2 --rounds 3",
            "search-solver": "distill.py --model toy-search --teacher solver",
        },
    ),
    "steps": Experiment(
        "pass@1 rises and pass@256 falls as training goes on (limit of RLVR, Figure 1)",
        "toy-search",
        {"search-long": f"train.py --model toy-search --steps 200 {PLAIN} --kl 0 --eval-every 20 --keep-checkpoints"},
        checkpoints=(20, 60, 120),
    ),
    "rollouts": Experiment(
        "rollouts per prompt, with equal rollouts in all (limit of RLVR, its larger n)",
        "toy-search",
        {
            f"search-{G}-rollouts": f"train.py {SEARCH} --kl 0 --rollouts-per-prompt {G} --prompts-per-step {256 // G}"
            for G in (4, 8, 16, 32, 64)
        },
    ),
    "kl": Experiment(
        "the weight of the KL penalty (limit of RLVR, its KL of 0.001; Intuitor, Table 3)",
        "toy-search",
        {f"search-kl-{kl}": f"train.py {SEARCH} --kl {kl}" for kl in ("0", "0.005", "0.05", "0.5")},
    ),
}


def commands(name: str, number: int) -> list[list[str]]:
    """The commands of an experiment's runs that are not finished. number: of seeds."""
    missing = []
    for seed in range(number):  # all of the first seed first: a look at it does not have to wait for the others
        for run, command in EXPERIMENTS[name].runs.items():
            folder = Path(f"runs/{run}-seed{seed}")
            if "model_type" in read_config(folder):
                continue
            begun = ["--resume"] if (folder / "state.pt").is_file() else ["--overwrite"] if folder.is_dir() else []
            missing.append([*command.split(), "--seed", str(seed), "--run", str(folder), *begun])
    return missing


def study_command(name: str, number: int) -> list[str]:
    """The command of an experiment's study."""
    experiment = EXPERIMENTS[name]
    folders = [f"runs/{run}-seed{seed}" for run in experiment.runs for seed in range(number)]
    folders = [f"{folder}/checkpoint-{step}" for step in experiment.checkpoints for folder in folders] + folders
    return ["eval.py", experiment.base, *folders, *experiment.study.split(), "--out", f"runs/{name}"]


def run(command: list[str], threads: int, quiet: bool) -> None:
    """Run a command of this project. Raises BadInput where it fails, with the last line that it said."""
    print("python " + " ".join(command), flush=True)
    pipe = subprocess.PIPE if quiet else None
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, *command], env=environment, stdout=pipe, stderr=pipe, text=True)
    if done.returncode:
        said = (done.stderr or "").strip().splitlines()[-1:] or ["see above"]
        raise BadInput(f"python {' '.join(command)} failed: {said[0]}")


@dataclass
class Settings:
    """The flags."""

    experiment: str | None = flag(None, "its name", positional=True, metavar="EXPERIMENT", nargs="?")
    seeds: int = flag(3, "of each run", least=1)
    jobs: int = flag(1, "runs at a time", least=1)


SWITCHES = {"list": "print what there is, and stop", "dry_run": "print the commands that are left to run, and stop"}


def reproduce(name: str, number: int, jobs: int) -> str:
    """All of an experiment; returns the table. Raises BadInput."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    left = commands(name, number)
    # The base model is made once, before several runs ask for it at the same time.
    if left and jobs > 1:
        make = f"import running.models; running.models.load_model({EXPERIMENTS[name].base!r})"
        run(["-c", make], os.cpu_count() or 1, quiet=False)
    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(lambda command: run(command, threads, quiet=jobs > 1), left):
            pass
    run(study_command(name, number), os.cpu_count() or 1, quiet=False)
    return seeds.write(Path(f"runs/{name}/report.json"), Path(f"runs/{name}"))


def parse(argv: list[str] | None) -> tuple[Settings, set[str], set[str]]:
    """The flags, the names of those given, and the switches that are on."""
    return flags.parse(Settings, argv, "study.reproduce", "An experiment, whole.", None, SWITCHES)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    try:
        chosen, _, on = parse(argv)
        flags.check(chosen)
        name = chosen.experiment
        if "list" in on:
            print("\n".join(f"{key:<18} {experiment.question}" for key, experiment in EXPERIMENTS.items()))
            return 0
        if name not in EXPERIMENTS:
            raise BadInput(f"EXPERIMENT {name}: unknown; choose from {', '.join(EXPERIMENTS)}")
        if "dry_run" in on:
            left = [*commands(name, chosen.seeds), study_command(name, chosen.seeds)]
            print("\n".join("python " + " ".join(command) for command in left))
            return 0
        print(reproduce(name, chosen.seeds, chosen.jobs))
    except BadInput as error:
        print(f"study.reproduce: {error}", file=sys.stderr)
        return 2
    print(f"In runs/{name}: report.html, report.json, seeds.json, passk-seeds.png, gap.png.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
