"""Bad values of every flag: exit code 2, one line that names the flag, and nothing written.

The values are made from the settings themselves: whatever a flag says that it may be, its neighbours are tried.
"""

import json
import math
from dataclasses import fields
from types import UnionType
from typing import get_args

import pytest

import distill
import eval as evaluation
import toy
import train
from running.flags import shown

pytestmark = pytest.mark.usefixtures("no_pictures")
NOT_THERE = {  # texts that name nothing
    "recipe": ["nosuch"],
    "model": ["nosuch/folder/x", "nosuch.gguf", "/nosuch", "a b", "toy@x"],
    "data": ["nosuch.jsonl", "nosuch"],
    "eval_data": ["nosuch.jsonl", "nosuch"],
    "template": ["nosuch"],
    "device": ["tpu", "cuda:99", "cpu:x"],
    "dtype": ["float8", "int64", "Float32"],
    "reward": [
        "nosuch",
        "correct=nan",
        "correct=inf",
        "correct=0",
        "correct=x",
        "correct=",
        "rpr correct rpr",
        "=1",
        "Correct",
    ],
    "reward_model": ["nosuch", "toy-2", "toy-0.2", "toy-x"],
    "teacher": ["nosuch.jsonl", "nosuch/folder/x"],
}
TEXTS = {"run", "out", "export"} | NOT_THERE.keys()


def kind_of(field) -> type:
    """Of `int | None`: int."""
    return get_args(field.type)[0] if isinstance(field.type, UnionType) else field.type


def bad_values(settings_class) -> list[tuple[str, str]]:
    """(flag, value) pairs that no program may take."""
    found = []
    for field in fields(settings_class):
        limits, kind, values = field.metadata, kind_of(field), [""]
        if limits.get("positional") or kind is bool or limits.get("action"):
            continue
        if kind in (int, float):
            values += ["abc", "nan", "inf", "-inf", "1e999", "0x10", "1,5", "--", "None", "1 2", "½"]
            values += ["1.5", "1e3"] if kind is int else []
            if "least" in limits:
                values += [f"-{10**30}", str(limits["least"] - 1)]
            if "above" in limits:
                values += [str(limits["above"]), str(limits["above"] - 1), "-0.0"]
            if "most" in limits:
                values += [str(math.nextafter(limits["most"], math.inf)), "1e30"]
        if "choices" in limits:
            values += ["nosuch", "None", str(next(c for c in limits["choices"] if c)).upper() + " "]
        values += NOT_THERE.get(field.name, [])
        found += [(shown(field.name), value) for value in values]
    return found


@pytest.fixture(scope="module")
def usable(base, tmp_path_factory):
    """Flags that would work, for each program."""
    file = tmp_path_factory.mktemp("data") / "problems.jsonl"
    file.write_text("".join(json.dumps({"problem": p, "answer": a}) + "\n" for p, a in toy.make_problems("train", 20)))
    return {
        train: [f"--model={base}", f"--data={file}", "--max-new-tokens=12", "--prompts-per-step=2", "--steps=1"],
        evaluation: [str(base), f"--data={file}", "--max-new-tokens=12", "--samples=2", "--limit=2"],
        distill: [f"--model={base}", f"--data={file}", "--max-new-tokens=12", "--teacher=self", "--samples=2"],
    }


def said_of(program, flags: list[str], capsys) -> str:
    """The one line with which a program refuses its flags."""
    capsys.readouterr()
    try:
        code = program.main(flags)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    assert "Traceback" not in error
    return error


CASES = [(program, *case) for program in (train, evaluation, distill) for case in bad_values(program.Settings)]


@pytest.mark.parametrize(
    ("program", "flag", "value"), CASES, ids=lambda part: getattr(part, "__name__", None) or str(part)
)
def test_a_bad_value_is_refused_by_its_flag(usable, tmp_path, capsys, program, flag, value):
    place = "--out" if program is evaluation else "--run"
    folder = [] if flag == place else [f"{place}={tmp_path / 'made'}"]
    needed = {
        "--critic-lr": "--algorithm=ppo",
        "--rpr-divisor": "--reward=rpr",
        "--reward-model": "--reward=reward_model",
    }
    more = [needed[flag]] if program is train and flag in needed else []
    error = said_of(program, [*usable[program], *folder, *more, f"{flag}={value}"], capsys)
    assert flag in error
    assert not (tmp_path / "made").exists()


def test_the_flags_were_tried(usable):
    """The values above are made by a rule: this is what the rule has to reach."""
    assert len(CASES) > 400
    for program in (train, evaluation, distill):
        tried = {flag for other, flag, _ in CASES if other is program}
        free = {
            shown(f.name)
            for f in fields(program.Settings)
            if kind_of(f) is not bool and not f.metadata.get("positional")
        }
        assert free - tried <= {"--match-entropy", "--regrade", "--overwrite", "--allow-code-execution"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--dry-run --model nosuch/folder/x --data gsm8k", "--model nosuch/folder/x"),
        ("--dry-run --model {empty} --data gsm8k", "no config.json"),
        ("--dry-run --model Qwen/Qwen2.5-0.5B --data nosuch.jsonl", "--data nosuch.jsonl"),
        ("--dry-run --model Qwen/Qwen2.5-0.5B --data gsm8k --eval-data nosuch", "--eval-data nosuch"),
        ("--eval-data toy --eval-samples 0", "--eval-data"),
        ("--run {empty} --export", "--export"),
        ("--resume --run {empty}", "--resume"),
        ("--resume --overwrite", "--resume"),
    ],
)
def test_what_cannot_work_together_is_refused(tmp_path, capsys, flags, said):
    (tmp_path / "empty").mkdir()
    assert said in said_of(train, flags.format(empty=tmp_path / "empty").split(), capsys)
    assert not list((tmp_path / "empty").iterdir())


def test_a_tilde_is_the_home_folder_also_where_no_shell_reads_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings, _, _ = train.parse(["--run=~/x", "--data=~/own.jsonl", "--reward", "correct", "~/my.py:f=0.5"])
    assert (settings.run, settings.data) == (f"{tmp_path}/x", f"{tmp_path}/own.jsonl")
    assert settings.reward == f"correct {tmp_path}/my.py:f=0.5"
