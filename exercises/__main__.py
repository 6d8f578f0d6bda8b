"""__main__.py: which exercises are done?

    python -m exercises            all of them: a table, and what is wrong with the first that is not right
    python -m exercises 3          exercise 3 alone
    python -m exercises --core     the two-hour core (*)

The result is also in exercises/progress.json: number, title and state of each, for a teacher to collect.
"""

import argparse
import importlib
import json
import re
from pathlib import Path
from types import ModuleType

from exercises.checking import Wrong

FOLDER = Path(__file__).parent
STATES = {"done": "done", "open": "open", "wrong": "not right yet"}


def numbered() -> dict[int, Path]:
    """The files of the exercises by number."""
    return {int(path.name[1:3]): path for path in sorted(FOLDER.glob("e[0-9][0-9]_*.py")) if "_check" not in path.name}


def title_of(path: Path) -> tuple[str, bool, int]:
    """(title, whether it belongs to the core, minutes), from the first line of its docstring."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    title, star, minutes = re.match(r'"""\d+\. (.*?)( \*)? \((\d+) minutes', first).groups()
    return title, bool(star), int(minutes)


def judge(exercise: ModuleType, number: int) -> tuple[str, str]:
    """(state, what to say) of an exercise."""
    check = importlib.import_module(f"exercises.e{number:02d}_check").check
    try:
        return "done", check(exercise) or ""
    except NotImplementedError:
        return "open", ""
    except Wrong as error:
        return "open" if str(error).startswith("write down") else "wrong", str(error)
    except Exception as error:  # the student's own code failed: its error is what they need to see
        return "wrong", f"{type(error).__name__}: {error}"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns 0 if all that was asked for is done, else 1."""
    parser = argparse.ArgumentParser(prog="python -m exercises", description="Which exercises are done?")
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="exercises; default all")
    parser.add_argument("--core", action="store_true", help="the two-hour core, marked by *")
    asked = parser.parse_args(argv)
    files = numbered()
    if unknown := set(asked.numbers) - set(files):
        parser.error(f"there is no exercise {min(unknown)}; there are 1 to {max(files)}")
    rows, said, following = [], "", None
    for number, path in files.items():
        title, core, minutes = title_of(path)
        if (asked.numbers and number not in asked.numbers) or (asked.core and not core):
            continue
        state, words = judge(importlib.import_module(f"exercises.{path.stem}"), number)
        rows.append({"number": number, "title": title, "core": core, "minutes": minutes, "state": state})
        star = "*" if core else " "
        print(f"{number:>3} {star} {title:<72} {minutes:>3} min  {STATES[state]}")
        if state == "done" and words:
            said += f"\nExperiment {number}:\n{words}\n"
        if state != "done" and following is None:
            following = path, words
    print(said + f"\n{sum(row['state'] == 'done' for row in rows)} of {len(rows)} done.")
    if following:
        path, words = following
        print(f"Next: {path.relative_to(FOLDER.parent)}")
        print(f"  {words}" if words else "  (its function is not written yet)")
    if len(rows) == len(files):
        (FOLDER / "progress.json").write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if following else 0


if __name__ == "__main__":
    raise SystemExit(main())
