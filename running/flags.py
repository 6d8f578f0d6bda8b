"""flags.py: a dataclass becomes a command line.

Each field of a settings class is a flag of the same name. `flag` declares its default, its help and what it may be;
`parse` reads a command line, and `check` refuses what is out of range. All programs use these three.
"""

import argparse
import math
import os
from collections.abc import Callable
from dataclasses import asdict, field, fields
from types import UnionType
from typing import Any, get_args, get_origin

from running.files import BadInput


def flag(default, text: str, **limits: Any):
    """A field of a settings class.

    limits: `least` (smallest value), `above` (larger than), `choices` (allowed values; None is always allowed), and
    what argparse takes: `type`, `nargs`, `const`, `action`, `metavar`; `positional`: an argument without a name.
    """
    return field(default=default, metadata={"help": text, **limits})


def shown(name: str) -> str:
    """The flag of a setting."""
    return f"--{name.replace('_', '-')}"


def pick(settings, names: str) -> dict:
    """The settings of these names, divided by spaces, as keywords for a function."""
    return {name: getattr(settings, name) for name in names.split()}


class OneLine(argparse.ArgumentParser):
    """argparse, but what it refuses is said in one line."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message.removeprefix('argument ')}; see {self.prog} --help\n")


def at_home(value):
    """A text in which a `~` at the start is the home folder, as in the shell; anything else as it is."""
    if isinstance(value, list):
        return [at_home(part) for part in value]
    return os.path.expanduser(value) if isinstance(value, str) else value


def parse(
    settings_class, argv, program: str, description: str, recipes=None, switches=None, groups=None
) -> tuple[Any, set, set]:
    """Read a command line: (settings, names given on it, switches that are on).

    recipes: name -> values, for a field `recipe`: a named set of flags; flags given beside it override it.
    switches: name -> help, for flags that say what to do now and define nothing, such as --overwrite.
    groups: name -> heading in --help of this flag and those behind it. Flags before the first one, and the switches,
    are what a beginner needs.

    Raises BadInput for an unknown recipe; what argparse refuses ends the program with exit code 2.
    """
    recipes, switches, groups = recipes or {}, switches or {}, groups or {}
    # argparse's own usage would name all flags, in twenty lines.
    named = [program, *(f.name for f in fields(settings_class) if f.metadata.get("positional")), "[flags]"]
    parser = group = OneLine(prog=program, usage=" ".join(named), description=description)
    for f in fields(settings_class):
        if f.name in groups:
            group = parser.add_argument_group(groups[f.name])
        text = f.metadata["help"]
        if "choices" in f.metadata:
            text += f": {', '.join(f.metadata['choices'])}"
        if isinstance(f.default, str | int | float) and f.default is not False:
            text += f"; default {f.default}"
        text = text.replace("%", "%%")
        kind = get_args(f.type)[0] if isinstance(f.type, UnionType) else f.type  # of `int | None`: int
        if get_origin(kind) is list:  # of list[str]: str
            kind = get_args(kind)[0]
        value = {"type": kind, "metavar": kind.__name__.upper()}
        if kind is bool:
            value = {"action": argparse.BooleanOptionalAction}
        value |= {
            name: f.metadata[name] for name in ("type", "nargs", "const", "action", "metavar") if name in f.metadata
        }
        # SUPPRESS leaves a flag that was not given out of the result: so a given one can be told from its default.
        if f.metadata.get("positional"):
            group.add_argument(f.name, help=text, **value)
        else:
            group.add_argument(shown(f.name), default=argparse.SUPPRESS, help=text, **value)
    for name, text in switches.items():
        parser.add_argument(shown(name), action="store_true", help=text)
    given = {name: at_home(value) for name, value in vars(parser.parse_args(argv)).items()}
    for name, value in given.items():
        if value == []:  # what argparse makes of `--steps=--`
            parser.error(f"{shown(name)}: expected one argument")
    on = {name for name in switches if given.pop(name)}
    recipe = given.get("recipe")
    if recipe is not None and recipe not in recipes:
        raise BadInput(f"--recipe {recipe}: unknown; choose from {', '.join(recipes)}")
    return settings_class(**{**recipes.get(recipe, {}), **given}), set(given), on


def described(settings, complete: Callable) -> dict:
    """What config.json says of a run: its settings, and the defaults of those that have another value.

    complete: fills in what was left open, as it did for these settings: many a default depends on the model. The
    defaults are kept because a later version may have others.
    """
    plain = type(settings)(**pick(settings, "model data run"))  # these name the run and have no defaults to speak of
    complete(plain)
    found, defaults = asdict(settings), asdict(plain)
    differing = [name for name in found if found[name] != defaults[name]]
    if defaults["template"] is None:  # the tokenizer decides it later
        differing = [name for name in differing if name != "template"]
    return {"minreason": found, "minreason_defaults": {name: defaults[name] for name in differing}}


def check(settings) -> None:
    """Raise BadInput for a value that `flag` does not allow, and for a number that is none (nan, inf)."""
    for f in fields(settings):
        value, limits = getattr(settings, f.name), f.metadata
        if value is None:
            continue
        if value == "":
            raise BadInput(f"{shown(f.name)}: is empty; give a value, or leave it out")
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInput(f"{shown(f.name)} {value}: must be a number")
        if "choices" in limits and value not in limits["choices"]:
            known = ", ".join(str(choice) for choice in limits["choices"] if choice)
            raise BadInput(f"{shown(f.name)} {value}: unknown; choose from {known}")
        if {"least", "most"} <= limits.keys() and not limits["least"] <= value <= limits["most"]:
            raise BadInput(f"{shown(f.name)} {value}: must be between {limits['least']} and {limits['most']}")
        if "most" in limits and not value <= limits["most"]:
            raise BadInput(f"{shown(f.name)} {value}: must be at most {limits['most']}")
        if "least" in limits and not value >= limits["least"]:
            raise BadInput(f"{shown(f.name)} {value}: must be at least {limits['least']}")
        if "above" in limits and not value > limits["above"]:
            raise BadInput(f"{shown(f.name)} {value}: must be above {limits['above']}")
