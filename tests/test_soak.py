"""A long run grows nowhere: memory, open files, threads and processes stay level, and so does the time of a step.

With more steps, and the numbers shown:

    SOAK_STEPS=2000 python -m pytest -s -m slow tests/test_soak.py
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

ROOT, PROC = Path(__file__).parent.parent, Path("/proc")


def look(process: int) -> dict[str, float]:
    """What a process holds now: resident memory in MB, open files, threads, children, and the seconds it has used."""
    folder = PROC / str(process)
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    used = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
    children = [(task / "children").read_text().split() for task in (folder / "task").iterdir()]
    return {
        "memory": int(status["VmRSS"].split()[0]) / 1000,
        "files": len(list((folder / "fd").iterdir())),
        "threads": int(status["Threads"]),
        "children": sum(map(len, children)),
        "seconds": sum(map(int, used)) / os.sysconf("SC_CLK_TCK"),
    }


@pytest.mark.slow
@pytest.mark.skipif(not (PROC / "self/task").exists(), reason="reads /proc, which this system has not")
def test_memory_files_threads_and_processes_stay_level(base, tmp_path):
    """lr 1e-9: a model that learns writes longer and shorter texts, and what one reads is the text and no leak."""
    steps, metrics = int(os.environ.get("SOAK_STEPS", 300)), tmp_path / "run" / "metrics.jsonl"
    flags = f"--model {base} --data toy --run {tmp_path / 'run'} --steps {steps} --eval-samples 0"
    more = "--prompts-per-step 4 --rollouts-per-prompt 4 --max-new-tokens 40 --lr 1e-9"
    command = [sys.executable, "train.py", *flags.split(), *more.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(tmp_path / "said", "wb") as said:
        running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
        looks, taken = [], 0
        while running.poll() is None:
            time.sleep(0.02)
            lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
            if taken <= lines < steps:  # a look every ten steps, and none while the run ends
                looks.append({"step": lines, **look(running.pid)})
                taken += 10
    assert running.returncode == 0, (tmp_path / "said").read_text()[-2000:]
    thirds = [looks[len(looks) * i // 4 : len(looks) * (i + 1) // 4] for i in (1, 2, 3)]  # behind the first quarter
    for third in thirds:
        shown = {name: median(one[name] for one in third) for name in ("memory", "files", "threads", "children")}
        passed = [third[-1][name] - third[0][name] for name in ("seconds", "step")]
        print(f"steps {third[0]['step']} to {third[-1]['step']}: {shown}, {1000 * passed[0] / passed[1]:.1f} ms a step")
    first, last = ([one["memory"] for one in third] for third in (thirds[0], thirds[-1]))
    assert median(last) < 1.02 * median(first)
    assert {(one["threads"], one["children"]) for third in thirds for one in third} == {(looks[-1]["threads"], 0)}
    assert max(one["files"] for one in thirds[-1]) <= max(one["files"] for one in thirds[0]) + 1  # one is being written
