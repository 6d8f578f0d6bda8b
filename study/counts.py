"""counts.py: pass@k from a table of counts alone: python passk.py COUNTS.csv.

A row for each problem, with the columns n (samples drawn) and c (how many of them were correct), and model where there
are several. Other columns are not read. Where n differs between problems, the curve ends at the smallest: n samples
tell nothing about more than n tries.
"""

import sys
from pathlib import Path

import numpy as np

import passk
from running.data_files import csv_rows
from running.files import BadInput

MOST = 1_000_000  # samples of a problem: a larger number is a slip, and would fill the memory


def read(path: str) -> dict[str, tuple[list[int], list[int]]]:
    """model -> (n, c) of each problem, from a .csv file; without a column model all are of one. Raises BadInput."""
    found = {}
    for place, row in csv_rows(Path(path), "COUNTS"):
        said = f"COUNTS {path}, {place}"
        if missing := {"n", "c"} - row.keys():
            raise BadInput(f"{said}: no column {min(missing)}; give a header with n and c, and model if there are many")
        n, c = (int(row[name]) if (row[name] or "").isdecimal() else -1 for name in ("n", "c"))
        if not 0 <= c <= n or not 1 <= n <= MOST:
            raise BadInput(
                f"{said}: n {row['n']}, c {row['c']}; give whole numbers, c from 0 to n, n from 1 to {MOST:,}"
            )
        for held, value in zip(found.setdefault(row.get("model") or "all", ([], [])), (n, c), strict=True):
            held.append(value)
    if not found:
        raise BadInput(f"COUNTS {path}: holds no row; give a header with n and c, and a row for each problem")
    return found


def lines(found: dict[str, tuple[list[int], list[int]]]) -> list[str]:
    """pass@k of each model with its 95 % interval over problems, where it has two or more."""
    ks = passk.powers_of_two(min(min(n) for n, _ in found.values()))
    width = max(8, *map(len, found))
    text = [" " * width + "".join(f"{f'k={k}':>9}" for k in ks)]
    for model, (n, c) in found.items():
        curves = passk.problem_curves(n, c, ks)  # [P, K]
        rows = {model: curves.mean(axis=0)}
        if len(curves) > 1:
            rows |= dict(zip(("  at least", "  at most"), passk.interval(curves, least=0), strict=True))
        text += [name.ljust(width) + "".join(f"{value:9.3f}" for value in values) for name, values in rows.items()]
        most = "" if min(n) == max(n) else f" to {max(n)}"
        problems = "1 problem" if len(n) == 1 else f"{len(n)} problems"
        text.append(f"  {problems}, {min(n)}{most} samples each, {np.count_nonzero(c)} solved at least once")
    return text


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, or 2 for bad input."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if len(argv) != 1 or argv[0].startswith("-"):
            raise BadInput("give one file, COUNTS.csv, with the columns n and c, and model if there are many")
        print("\n".join(lines(read(argv[0]))))
    except BadInput as error:
        print(f"passk.py: {error}", file=sys.stderr)
        return 2
    return 0
