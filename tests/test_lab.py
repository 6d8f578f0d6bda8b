"""lab.ipynb without Jupyter: it is valid, holds no outputs, and what it names in the project is there.

.ci/run executes it from top to bottom, in a fresh clone and a fresh environment.
"""

import ast
import importlib.util
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import eval as evaluation
import train
from recipes import RECIPES

ROOT = Path(__file__).parent.parent
NOTEBOOK = json.loads((ROOT / "lab.ipynb").read_text())
CELLS = {cell["id"]: cell for cell in NOTEBOOK["cells"]}
TEXT = {name: "".join(cell["source"]) for name, cell in CELLS.items() if cell["cell_type"] == "markdown"}
CODE = {  # a line such as %matplotlib inline is Jupyter's, not Python's
    name: re.sub(r"^%.*$", "", "".join(cell["source"]), flags=re.MULTILINE)
    for name, cell in CELLS.items()
    if cell["cell_type"] == "code"
}
NODES = [node for code in CODE.values() for node in ast.walk(ast.parse(code))]
IMPORTED = {}  # name in the notebook -> the project's module, or what was taken from it
for node in NODES:
    for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else []:
        module = getattr(node, "module", None) or alias.name
        if (ROOT / module.split(".")[0]).is_dir() or (ROOT / f"{module}.py").is_file():
            held = importlib.import_module(module)
            inside = isinstance(node, ast.ImportFrom) and hasattr(held, alias.name)
            held = getattr(held, alias.name) if inside else held
            if isinstance(node, ast.ImportFrom) and not inside:  # a module of a folder
                held = importlib.import_module(f"{module}.{alias.name}")
            IMPORTED[alias.asname or alias.name] = held


def of_the_project(node):
    """What `name` or `module.name` stands for, None if it is not the project's. AttributeError if it is not there."""
    if isinstance(node, ast.Name):
        return IMPORTED.get(node.id)
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and inspect.ismodule(IMPORTED.get(node.value.id))
    ):
        return getattr(IMPORTED[node.value.id], node.attr)
    return None


# --- the file -------------------------------------------------------------------------------------------------------


def test_it_is_a_valid_notebook_written_as_jupyter_writes_it():
    assert NOTEBOOK["nbformat"] == 4
    assert NOTEBOOK["nbformat_minor"] >= 5  # cells have ids
    assert len(CELLS) == len(NOTEBOOK["cells"])
    assert set(NOTEBOOK) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    for name, cell in CELLS.items():
        own = {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | own
        assert re.fullmatch(r"[\w-]{1,64}", name)
        assert all(isinstance(line, str) for line in cell["source"])
    as_saved = json.dumps(NOTEBOOK, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert (ROOT / "lab.ipynb").read_text() == as_saved  # otherwise the first save would change every line


def test_it_holds_no_outputs():
    for name in CODE:
        assert (CELLS[name]["outputs"], CELLS[name]["execution_count"]) == ([], None), name
    assert (ROOT / "lab.ipynb").stat().st_size < 60_000


def test_every_code_cell_compiles():
    for name, code in CODE.items():
        compile(code, name, "exec")


def test_each_question_asks_before_the_code_that_answers_it_and_leaves_room_to_explain():
    order = list(CELLS)
    for i in (1, 2, 3):
        question, prediction, explanation = (
            order.index(f"{kind}-{i}") for kind in ("question", "prediction", "explanation")
        )
        assert question + 1 == prediction < explanation
        assert any(name in CODE for name in order[prediction:explanation])
        assert TEXT[f"prediction-{i}"] == "*My prediction:*"  # nobody's own


# --- what it takes from the project ---------------------------------------------------------------------------------


def test_nothing_is_needed_beyond_the_requirements_and_jupyter():
    required = re.findall(r"^[\w-]+", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    allowed = {*sys.stdlib_module_names, *required, "IPython"}
    for node in NODES:
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else []:
            name = (getattr(node, "module", None) or alias.name).split(".")[0]
            assert name in allowed or (alias.asname or alias.name) in IMPORTED, name


def test_every_name_from_the_project_exists_and_takes_the_arguments_that_it_is_given():
    called = 0
    for node in NODES:
        function = of_the_project(node.func if isinstance(node, ast.Call) else node)
        if not isinstance(node, ast.Call) or not callable(function):
            continue
        stars = any(isinstance(value, ast.Starred) for value in node.args)
        keywords = {keyword.arg: None for keyword in node.keywords}
        signature = inspect.signature(function)
        (signature.bind_partial if stars or None in keywords else signature.bind)(
            *(None for value in node.args if not isinstance(value, ast.Starred)),
            **{name: None for name in keywords if name},
        )
        called += 1
    assert called > 20


def test_every_file_experiment_and_heading_that_it_names_exists():
    files = set()
    for text in (*TEXT.values(), *CODE.values()):
        files |= set(re.findall(r"[\w./-]+\.(?:py|md|txt|jsonl|json|png|html)\b", text))
    files = {name.removeprefix("minreason/") for name in files if not name.startswith("runs/")}  # made by the notebook
    assert {"train.py", "grpo.py", "rewards.py", "passk.py"} <= files
    for name in files - {"metrics.jsonl"}:  # which every run has
        assert (ROOT / name).is_file(), name
    everything = "\n".join(TEXT.values())
    for number in re.findall(r"[Ee]xperiment (\d+)", everything):
        assert list((ROOT / "exercises").glob(f"e{number}_*.py")), number
    headings = re.findall(r"^#+ (.+)$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    quoted = re.findall(r'`README\.md`, "([^"]+)"', everything)
    assert quoted
    assert {heading.replace("\n", " ") for heading in quoted} <= set(headings)


def test_every_command_works_and_every_recipe_exists():
    commands = re.findall(r"python ((?:\w+\.py|-m \w+)[^`\n]*)", "\n".join(TEXT.values()))  # in the text
    for node in NODES:  # and in the code
        if isinstance(node, ast.Call) and of_the_project(node.func) is train.parse:
            commands.append(f"train.py {' '.join(ast.literal_eval(node.args[0]))}")
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "run":
            commands.append(f"{node.args[0].id}.py {node.args[1].value}")
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "flags":
            commands.append(f"eval.py {node.value.value}")
    assert len(commands) >= 8
    for command in commands:
        program, *flags = shlex.split(command)
        if program == "-m":
            assert importlib.util.find_spec(f"{flags[0]}.__main__"), command
        elif program == "eval.py":
            evaluation.check(evaluation.fill_in(evaluation.parse(flags)))
        else:
            assert program == "train.py", command
            settings, *_ = train.parse(flags)
            train.complete(settings)
            assert settings.recipe is None or settings.recipe in RECIPES


# --- the first cell -------------------------------------------------------------------------------------------------


def git(*arguments, folder):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=folder, check=True)


def test_where_the_project_is_not_the_first_cell_clones_it_and_installs_what_it_needs(tmp_path, monkeypatch):
    origin, here = tmp_path / "origin", tmp_path / "here"
    origin.mkdir()
    here.mkdir()
    for name in ("train.py", "requirements.txt"):
        (origin / name).write_text("")
    git("init", "--quiet", folder=origin)
    git("add", ".", folder=origin)
    git("commit", "--quiet", "-m", "all", folder=origin)
    commands, real = [], subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda command, **how: commands.append(command) or "pip" in command or real(command, **how)
    )
    first = CODE["setup"].replace('REPOSITORY = ""', f"REPOSITORY = {str(origin)!r}")
    for _ in range(2):  # the second time after a restart of the kernel
        monkeypatch.chdir(here)
        exec(first, {})
        assert Path.cwd() == here / "minreason"
        assert Path("train.py").is_file()
    assert [command[:2] == ["git", "clone"] for command in commands] == [True, False, False]
    assert commands[1][-2:] == commands[2][-2:] == ["-r", "requirements.txt"]


def test_without_an_address_the_first_cell_says_what_to_do_and_beside_train_py_it_does_nothing(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(subprocess, "run", lambda command, **how: commands.append(command))
    monkeypatch.chdir(ROOT)
    exec(CODE["setup"], {})
    assert Path.cwd() == ROOT
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="set REPOSITORY above"):
        exec(CODE["setup"], {})
    assert commands == []
