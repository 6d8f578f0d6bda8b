"""gpu.py: `python bench.py --gpu`: all that this project wants to know of a GPU, in nine minutes and one file.

First whether it computes what it should: sampled log-probabilities against the training pass and against float32,
recorded steps against plain ones, gradients, planned memory against measured. Then how fast: rollouts against
`model.generate`, decoding and training against the limits of the card, a whole step of a 1.5B. Last whether models
learn. Each is a command of its own, with a limit: one that fails or hangs leaves the others alone. The file is written
anew behind each.

Without a GPU the same commands are rehearsed with small sizes.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from running.files import read_log, replace_text

SECONDS = 540  # for all
ENDS = 5  # steps whose mean accuracy is the first, and the last


class Work(NamedTuple):
    """A command, the most seconds it may take, and the flags that make it small for a rehearsal (the last ones win)."""

    name: str
    command: str
    limit: int
    rehearsal: str


SMALL = "--prompts 2 --group 2 --prompt-tokens 8 --new-tokens 6"
SMALLER = f"{SMALL} --model qwen2.5-0.5b"  # a 1.5B with its optimiser in float32 needs 25 GB
HALF, LARGE = "bench.py --model qwen2.5-0.5b", "bench.py --model qwen2.5-1.5b"
WORKS = [
    Work("toy: agreement", "bench.py --parts agreement", 40, SMALL),
    Work("0.5B: agreement", f"{HALF} --prompts 8 --group 8 --new-tokens 256 --parts agreement", 60, SMALL),
    Work("1.5B: agreement", f"{LARGE} --prompts 4 --group 4 --new-tokens 64 --parts agreement", 60, SMALLER),
    Work(
        "0.5B: 64 rows",
        f"{HALF} --prompts 8 --group 8 --new-tokens 768 --repeats 1 --skip-static --parts rollouts limits",
        90,
        SMALL,
    ),
    Work(
        "0.5B: 256 rows",
        f"{HALF} --prompts 32 --group 8 --new-tokens 768 --repeats 1 --skip-static --parts rollouts limits",
        90,
        SMALL,
    ),
    Work("1.5B: head", f"{LARGE} --head-tokens 16384 --repeats 2 --parts head", 30, "--head-tokens 64 --repeats 1"),
    Work("1.5B: 256 rows", f"{LARGE} --prompts 32 --group 8 --new-tokens 768 --parts limits", 120, SMALLER),
    # Intuitor's batch and group; prompts and lengths as of MATH problems (its limit of 3,072 tokens is seldom reached).
    Work(
        "1.5B: a step of intuitor-1.5b",
        f"{LARGE} --prompts 128 --group 7 --new-tokens 1024 --rows 448 --parts whole",
        120,
        f"{SMALLER} --rows 3",
    ),
    Work("toy: learns", "train.py --steps 60 --eval-samples 0", 60, "--steps 2 --prompts-per-step 2"),
    Work(
        "SmolLM2: learns",
        "train.py --recipe smollm2-correct --steps 60 --eval-samples 0",
        120,
        "--steps 1 --prompts-per-step 2 --rollouts-per-prompt 2 --max-new-tokens 4",
    ),
]


def main(out: str | None, device: str) -> int:
    """Run all works and write the file; returns the exit code: 0 if each of them ended well, else 1."""
    rehearsal = not device.startswith("cuda")
    name = "rehearsal" if rehearsal else torch.cuda.get_device_name().replace(" ", "-")
    path, folder = Path(out or f"{'runs' if rehearsal else 'results'}/gpu-{name}.json"), Path("runs/gpu")
    folder.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"device": name, "torch": torch.__version__, "works": {}}
    begin = time.monotonic()
    for work in WORKS:
        left = SECONDS - (time.monotonic() - begin)
        # A rehearsal is about whether it runs: a CPU may take its time.
        result = run(work, folder, device, 3600 if rehearsal else min(work.limit, left), rehearsal)
        found["works"][work.name] = result
        replace_text(path, json.dumps(found, indent=1) + "\n")
        print(f"{work.name}: {'done' if result['rc'] == 0 else 'FAILED'} in {result['seconds']:.0f} s", flush=True)
        print(result["says"], flush=True)
    failed = [name for name, result in found["works"].items() if result["rc"] != 0]
    print(f"In {path}: all of it.{' Failed: ' + ', '.join(failed) if failed else ''}")
    return 1 if failed else 0


def run(work: Work, folder: Path, device: str, limit: float, rehearsal: bool) -> dict:
    """Run one work. Returns its command, exit code (None: over its limit), seconds, last lines, and what it found."""
    trains, into = work.command.startswith("train.py"), folder / work.name.replace(": ", "-").replace(" ", "-")
    line = [*work.command.split(), *(work.rehearsal.split() if rehearsal else []), "--device", device]
    line += ["--run", str(into), "--overwrite"] if trains else ["--out", f"{into}.json"]
    results = into / "metrics.jsonl" if trains else Path(f"{into}.json")
    results.unlink(missing_ok=True)  # of a run before: it would be taken for this one's
    begin, text = time.monotonic(), ""
    try:
        if limit <= 0:
            raise subprocess.TimeoutExpired(line, limit)
        ended = subprocess.run([sys.executable, *line], capture_output=True, text=True, timeout=limit, check=False)
        code, text = ended.returncode, ended.stdout + (ended.stderr if ended.returncode else "")
    except subprocess.TimeoutExpired:
        code = None
    found = None
    if results.exists():
        found = learned(read_log(results)) if trains else json.loads(results.read_text())["results"]
    said = "\n".join(text.strip().splitlines()[-12:])
    seconds = time.monotonic() - begin
    return {"command": " ".join(line), "rc": code, "seconds": seconds, "limit": limit, "says": said, "found": found}


def learned(rows: list[dict]) -> dict:
    """The accuracy of the first and the last steps, and the median seconds of a step's two large parts."""
    accuracy = [row["accuracy"] for row in rows]
    middle = {name: sorted(row[name] for row in rows)[len(rows) // 2] for name in ("seconds_generate", "seconds_train")}
    first, last = (sum(part) / len(part) for part in (accuracy[:ENDS], accuracy[-ENDS:]))
    return {"steps": len(rows), "accuracy_first": first, "accuracy_last": last, **middle}
