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
import traceback
from pathlib import Path
from types import ModuleType

from exercises.checking import Missing, Wrong

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
    except Wrong as error:
        return "open" if isinstance(error, Missing) else "wrong", str(error)
    except Exception as error:  # the student's own code failed: its error is what they need to see
        if isinstance(error, NotImplementedError) and not error.args:  # the stub's; torch's own hold a message
            return "open", ""
        return "wrong", located(error)


def judge_file(path: Path) -> tuple[str, str]:
    """What `judge` says of an exercise's file. One that Python cannot read is wrong, and does not hide the others."""
    try:
        exercise = importlib.import_module(f"exercises.{path.stem}")
    except Exception as error:
        return "wrong", located(error)
    return judge(exercise, int(path.name[1:3]))


def located(error: Exception) -> str:
    """An error in words, with the line of the student's file that it came from."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if re.match(r"e\d\d_(?!check)", Path(frame.filename).name)
    ]
    line = f"line {lines[-1]}: " if lines else ""  # a SyntaxError names its line itself
    return f"{line}{type(error).__name__}: {error}"


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
        state, words = judge_file(path)
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
