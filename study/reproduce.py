"""reproduce.py: an experiment of the papers as one command: train what is missing, study it, print, draw.

    python -m study.reproduce --list                     what there is, and which figures of the papers it is
    python -m study.reproduce intuitor-figure-7          by the figure, or by its name, `annotators`
    python -m study.reproduce algorithms --jobs 2        two runs at a time; --seeds 1 for a first look
    python -m study.reproduce algorithms --dry-run       the commands, to be typed by hand
    python -m study.reproduce algorithms --stored        print and draw what is in results/, without training
    python -m study.reproduce --all                      the same for all, and into docs/: every picture anew

An experiment (study/experiments.py) is a list of commands, of train.py and distill.py, and a study of what they made.
Nothing else happens here. A run that is finished is not made again, and one that was begun goes on. What comes out is
in runs/EXPERIMENT; what the papers found is printed beside it. To keep a result, copy its seeds.json, curves.json or
certainty.json to results/EXPERIMENT.json.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from running import flags
from running.files import BadInput, read_log
from running.flags import flag
from running.folder import read_config
from study import certainty, compare, pictures, seeds
from study.experiments import EXPERIMENTS, NAMES

STORED, DOCS = Path("results"), Path("docs")
# What the study of each kind of experiment writes; its pictures, and their names in docs/ behind the experiment's.
WRITTEN = {
    "pass@k": ("report.json", {"passk-seeds.png": "", "gap.png": "-gap"}),
    "curves": ("curves.json", {"curves.png": ""}),
    "certainty": ("certainty.json", {"certainty.png": ""}),
}
# Pictures of whole studies in docs/: what is drawn, from which report, without which models (they would crowd it).
PICTURED = {
    "passk.png": ("passk.png", "toy-search-study-report.json", "$^"),
    "coverage.png": ("coverage.png", "toy-search-study-report.json", " at T="),
    "histogram.png": ("histogram.png", "toy-search-study-report.json", " at T="),
    "groups.png": ("groups.png", "toy-study-report.json", "$^"),
    "smollm2-passk.png": ("passk.png", "smollm2-study-report.json", "flip-40-seed1"),
}
# Pictures of training runs, and their metrics.
RUNS = {"learning.png": "toy-main-job-metrics.jsonl", "held-out.png": "search-long-seed0-metrics.jsonl"}
SICK = ("sick-hacked", "sick-collapsed", "sick-truncated", "sick-noise", "sick-alike")  # docs/what-to-expect.md
RUNS |= {f"{name}.png": f"{name}-metrics.jsonl" for name in ("healthy", *SICK)}


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
    experiment, out = EXPERIMENTS[name], f"runs/{name}"
    given = shlex.split(experiment.study)
    if experiment.kind == "curves":
        return ["-m", "study.compare", *given, "--seeds", str(number), "--out", f"{out}/curves.png"]
    folders = [f"runs/{run}-seed{seed}" for run in experiment.runs for seed in range(number)]
    folders = [f"{folder}/checkpoint-{step}" for step in experiment.checkpoints for folder in folders] + folders
    program = ["-m", "study.certainty"] if experiment.kind == "certainty" else ["eval.py"]
    return [*program, experiment.base, *folders, *given, "--out", out]


def run(command: list[str], threads: int, quiet: bool) -> None:
    """Run a command of this project. Raises BadInput where it fails, with the last line that it said."""
    print("python " + shlex.join(command), flush=True)
    pipe = subprocess.PIPE if quiet else None
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, *command], env=environment, stdout=pipe, stderr=pipe, text=True)
    if done.returncode:
        said = (done.stderr or "").strip().splitlines()[-1:] or ["see above"]
        raise BadInput(f"python {shlex.join(command)} failed: {said[0]}")


def reproduce(name: str, number: int, jobs: int) -> str:
    """All of an experiment; returns the table. Raises BadInput."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    left = commands(name, number)
    # The base model is made once, before several runs make it at the same time. (They may: the first one counts.)
    if left and jobs > 1:
        make = f"import running.models; running.models.load_model({EXPERIMENTS[name].base!r})"
        run(["-c", make], os.cpu_count() or 1, quiet=False)
    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(lambda command: run(command, threads, quiet=jobs > 1), left):
            pass
    kind, out = EXPERIMENTS[name].kind, Path(f"runs/{name}")
    # What the other programs print is the table that comes below.
    run(study_command(name, number), os.cpu_count() or 1, quiet=kind != "pass@k")
    return shown(name, out / WRITTEN[kind][0], out)


def shown(name: str, source: Path, out: Path) -> str:
    """Draw an experiment's pictures into a folder; returns its table. source: what a study of its kind has written."""
    if not source.is_file():
        raise BadInput(f"{source}: not there; {name} has not been run, or its result was not kept")
    kind = EXPERIMENTS[name].kind
    if kind == "pass@k":
        return seeds.write(source, out)
    if kind == "certainty":
        return certainty.write(source, out)
    given = [*shlex.split(EXPERIMENTS[name].study), "--source", str(source), "--out", str(out / "curves.png")]
    return compare.compare(**vars(compare.parse(given)))


def beside_the_paper(name: str, table: str) -> str:
    """A table, under what was asked, and above what the paper found."""
    experiment = EXPERIMENTS[name]
    answers = f" ({', '.join(experiment.answers_to)})" if experiment.answers_to else ""
    return f"{name}{answers}: {experiment.question}\n\n{table}\n\nThe paper: {experiment.paper}"


def redraw(name: str) -> str:
    """Draw an experiment's pictures again from results/, those that docs/ has; returns its table."""
    with tempfile.TemporaryDirectory() as folder:
        table = shown(name, STORED / f"{name}.json", Path(folder))
        for picture, end in WRITTEN[EXPERIMENTS[name].kind][1].items():
            if (target := DOCS / f"{name}{end}.png").is_file():
                shutil.copyfile(Path(folder) / picture, target)
    return table


def redraw_all() -> None:
    """Every picture of docs/ from results/."""
    for name in EXPERIMENTS:
        if (STORED / f"{name}.json").is_file():
            print(beside_the_paper(name, redraw(name)), end="\n\n\n")
    for picture, (drawn, report, without) in PICTURED.items():
        content = json.loads((STORED / report).read_text())
        for part in ("models", "compared"):
            held = content.get(part, {}).items()
            content[part] = {label: one for label, one in held if not re.search(without, label)}
        pictures.PICTURES[drawn](content, DOCS / picture)
    for picture, metrics in RUNS.items():
        pictures.learning(read_log(STORED / metrics), DOCS / picture)


@dataclass
class Settings:
    """The flags."""

    experiment: str | None = flag(None, "its name", positional=True, metavar="EXPERIMENT", nargs="?")
    seeds: int | None = flag(None, "of each run; default 3, of some experiments fewer", least=1)
    jobs: int = flag(1, "runs at a time", least=1)


SWITCHES = {
    "list": "print what there is, and stop",
    "dry_run": "print the commands that are left to run, and stop",
    "stored": "train nothing: print and draw what is in results/",
    "all": "the same for all, and every picture of docs/ anew",
}


def listed() -> str:
    """A line or two for each experiment."""
    lines = []
    for name, experiment in EXPERIMENTS.items():
        lines.append(f"{name:<18} {experiment.question}")
        if experiment.answers_to:
            lines.append(f"{'':<18} {', '.join(experiment.answers_to)}")
    return "\n".join(lines)


def parse(argv: list[str] | None) -> tuple[Settings, set[str], set[str]]:
    """The flags, the names of those given, and the switches that are on."""
    return flags.parse(Settings, argv, "study.reproduce", "An experiment, whole.", None, SWITCHES)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    try:
        chosen, _, on = parse(argv)
        flags.check(chosen)
        if "list" in on:
            print(listed())
            return 0
        if "all" in on:
            if "dry_run" in on:
                raise BadInput("--dry-run: --all runs nothing, it draws what is in results/; leave one of them out")
            redraw_all()
            return 0
        if chosen.experiment not in NAMES:
            raise BadInput(f"EXPERIMENT {chosen.experiment}: unknown; choose from {', '.join(EXPERIMENTS)}")
        name = NAMES[chosen.experiment]
        number = chosen.seeds or EXPERIMENTS[name].seeds
        if "dry_run" in on:
            left = [*commands(name, number), study_command(name, number)]
            print("\n".join("python " + shlex.join(command) for command in left))
            return 0
        out = Path(f"runs/{name}")
        out.mkdir(parents=True, exist_ok=True)
        stored = "stored" in on
        table = shown(name, STORED / f"{name}.json", out) if stored else reproduce(name, number, chosen.jobs)
        print(beside_the_paper(name, table))
    except BadInput as error:
        print(f"study.reproduce: {error}", file=sys.stderr)
        return 2
    print(f"In {out}: {', '.join(sorted(path.name for path in out.glob('*.*') if path.suffix in ('.png', '.json')))}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
