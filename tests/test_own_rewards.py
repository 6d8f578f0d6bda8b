"""Rewards and data of one's own, as a user gives them to train.py, and the same function in TRL."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_model

import eval as evaluation
import toy
import train
from data import Problem, load_problems
from generate import Rollouts
from rewards import Graded, reward
from running import own_rewards
from running.files import BadInput
from running.train_flags import complete, idle_flags, needs_answers, reward_weights

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("no_pictures")
EXAMPLE = re.search(r"```python\n(def .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]


def graded(problems: list, texts: list[str]) -> Graded:
    """Completions of these texts: of one token each, the number of the row."""
    n = len(texts)
    zeros, mask = torch.zeros(n, 2), torch.tensor([[0, 1]] * n)
    token_ids = torch.tensor([[9, row] for row in range(n)])
    rollouts = Rollouts(token_ids, mask, torch.ones(n).long(), zeros, zeros, zeros, torch.zeros(n).bool())
    return Graded(problems, rollouts, texts, [None] * n, [None] * n)


def written(folder: Path, code: str, name: str = "f") -> str:
    """A file with this code, as --reward takes it."""
    (folder / "mine.py").write_text(code)
    return f"{folder / 'mine.py'}:{name}"


def paid(name: str, problems: list, texts: list[str], step: int = 3) -> torch.Tensor:
    """What --reward NAME pays, [B, G]."""
    inputs = {
        "own": own_rewards.load([name], problems),
        "trainer_state": SimpleNamespace(global_step=step, max_steps=9),
    }
    return reward(name, graded(problems, texts), inputs)


ROWS = [Problem("p", "1", row={"problem": "p", "answer": 1, "level": 2, "prompt": "left out"})]
ROWS += [Problem("q", None, "math", (("system", "s"), ("user", "q")), row={"answer": None, "tags": ["a"]})]


# --- what a function is given, and what it may give ------------------------------------------------------------------


def test_a_function_is_called_as_trl_calls_it_with_all_columns_of_the_data(tmp_path):
    name = written(tmp_path, "def f(**given):\n    calls.append(given)\n    return [1, 2.5, True, 4]\ncalls = []\n")
    own = own_rewards.load([name], ROWS)
    step = SimpleNamespace(global_step=3)
    assert own[name](graded(ROWS, ["a", "b", "c", "d"]), step).tolist() == [[1, 2.5], [1, 4]]
    (given,) = sys.modules["own_rewards_mine"].calls
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    assert given == {
        "prompts": ["p", "p", chat, chat],
        "completions": ["a", "b", [{"role": "assistant", "content": "c"}], [{"role": "assistant", "content": "d"}]],
        "completion_ids": [[0], [1], [2], [3]],
        "trainer_state": step,
        "problem": ["p", "p", None, None],
        "answer": [1, 1, None, None],
        "level": [2, 2, None, None],
        "tags": [None, None, ["a"], ["a"]],
    }


def test_the_problems_of_a_toy_have_their_answer_as_a_column(tmp_path):
    name = written(tmp_path, "def f(completions, answer, **_):\n    return [float(a) for a in answer]\n")
    assert paid(name, [Problem("7+8=", "15", "number")], ["a", "b"]).tolist() == [[15, 15]]


def test_none_is_neither_better_nor_worse_than_the_rest_of_its_group(tmp_path):
    name = written(
        tmp_path, "def f(completions, **_):\n    return [None if c == '-' else float(c) for c in completions]\n"
    )
    problems = [Problem("p", "1"), Problem("q", "1"), Problem("r", "1")]
    assert paid(name, problems, ["1", "-", "2", "-", "-", "-", "-", "-", "7"]).tolist() == [
        [1, 1.5, 2],
        [0, 0, 0],
        [7, 7, 7],
    ]


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path):
    code = "import numpy, torch\ndef f(completions, **_):\n    return {}\n"
    for given in (
        "numpy.arange(2.0)",
        "torch.arange(2)",
        "[numpy.float32(0), torch.tensor(1.0)]",
        "(x for x in (0, 1))",
    ):
        assert paid(written(tmp_path, code.format(given)), ROWS[:1], ["a", "b"]).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return [1.0]", "gave 1 numbers for 2 completions"),
        ("return []", "gave 0 numbers for 2"),
        ("return 1.0", "TypeError: 'float' object is not iterable"),
        ("pass", "TypeError: 'NoneType' object is not iterable"),
        ("return [1, float('nan')]", "gave nan (a float)"),
        ("return [1, float('inf')]", "gave inf (a float)"),
        ("return [1, '2']", "gave '2' (a str)"),
        ("return 'ab'", "gave 'a' (a str)"),
        ("return [1, [2]]", "gave [2] (a list)"),
        ("return [1, 10**400]", "(a int)"),
        ("return [1, 'x' * 10**6]", "gave 'xxx"),
        ("return 1 / 0", "ZeroDivisionError in line 2: division by zero"),
        ("raise SystemExit(3)", "SystemExit in line 2: 3"),
        ("raise ValueError('two\\nlines')", "ValueError in line 2: two lines"),
        ("return f(*a, **b)", "RecursionError in line 2"),
    ],
)
def test_what_a_function_may_not_give_is_said_in_a_line(tmp_path, body, said):
    name = written(tmp_path, f"def f(*a, **b):\n    {body}\n")
    with pytest.raises(BadInput) as error:
        paid(name, ROWS[:1], ["a", "b"])
    message = str(error.value)
    assert message.startswith(f"--reward {name}: ")
    assert said in message
    assert "\n" not in message and len(message) < 500


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def g(**_): pass", "no plain function of this name in the file; it has g"),
        ("f = 3", "it has none"),
        ("async def f(**_): pass", "no plain function"),
        ("def f(prompts, completions): pass", "so let it take **columns"),
        ("def f(completions, nosuch, **columns): pass", "missing a required argument: 'nosuch'"),
        ("def f(completions, log_metric, **columns): pass", "missing a required argument: 'log_metric'"),
        ("def f(:", "SyntaxError: invalid syntax (mine.py, line 1)"),
        ("import nosuch_module", "ModuleNotFoundError in line 1: No module named 'nosuch_module'"),
        ("x = 1\n1 / 0", "ZeroDivisionError in line 2"),
        ("raise SystemExit", "SystemExit in line 1"),
        ("x = '\0'", "SyntaxError: source code"),
    ],
)
def test_what_can_be_known_before_the_first_step_is_refused_before_it(tmp_path, code, said):
    name = written(tmp_path, code)
    with pytest.raises(BadInput) as error:
        own_rewards.load([name], ROWS)
    assert str(error.value).startswith(f"--reward {name}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    (tmp_path / "folder.py").mkdir()
    for name in ("nosuch.py:f", "~nobody-of-that-name/a.py:f", f"{'x' * 300}.py:f"):
        with pytest.raises(BadInput, match="no such file"):
            own_rewards.load([name], ROWS)
    with pytest.raises(BadInput, match="no regular one"):
        own_rewards.load([f"{tmp_path}/folder.py:f"], ROWS)


def test_a_run_with_a_function_goes_on_as_if_it_had_not_stopped(arguments, chains, tmp_path):
    """The function sees the same steps: what it pays depends on them here."""
    code = "def f(completions, trainer_state, **_):\n    k = trainer_state.global_step\n"
    name = written(tmp_path, code + "    return [len(c) * (-1) ** k + k for c in completions]")
    flags = [*arguments, "--data", write(tmp_path / "a.jsonl", chains), "--reward", name]
    assert train.main([*flags, "--steps", "3"]) == 0
    whole = [row["reward_mean"] for row in logged(tmp_path / "run")]
    assert train.main([*flags, "--overwrite"]) == 0
    assert train.main(["--run", str(tmp_path / "run"), "--resume", "--steps", "3", "--reward", name]) == 0
    assert [row["reward_mean"] for row in logged(tmp_path / "run")] == whole


# --- flags ----------------------------------------------------------------------------------------------------------


def test_weights_of_own_rewards_and_of_ours():
    found = reward_weights("correct a/my.py:short=0.5 my.py:long ~/x=y/z.py:other=-2")
    assert found == {"correct": 1, "a/my.py:short": 0.5, "my.py:long": 1, "~/x=y/z.py:other": -2}
    for bad, said in (
        ("my.py", "FILE.py:FUNCTION"),
        ("my.py:", "FILE.py:FUNCTION"),
        ("my.py:2f", "FILE.py:FUNCTION"),
        ("my.py:a-b", "FILE.py:FUNCTION"),
        ("my.txt:f", "FILE.py:FUNCTION"),
        ("a b.py:f", "without blanks"),
        ("my.py:f=", "NAME=WEIGHT"),
        ("my.py:f=0", "NAME=WEIGHT"),
        ("my.py:f=nan", "NAME=WEIGHT"),
        ("my.py:f other.py:f", "each reward once"),
        ("correct my.py:correct", "each reward once"),
    ):
        with pytest.raises(BadInput, match=re.escape(said)):
            reward_weights(bad)


def test_the_folder_of_a_run_is_named_by_the_function(tmp_path):
    settings, _, _ = train.parse(["--reward", "correct", f"{tmp_path}/my.py:brevity=0.5", "--seed", "3"])
    complete(settings)
    assert settings.run == "runs/toy-correct+brevity=0.5-seed3"
    settings, _, _ = train.parse(["--reward", "my.py:brevity", "--flip", "0.5"])
    assert idle_flags(settings) == ["flip"]


def test_only_what_reads_the_key_needs_answers():
    for reward_, needed in (
        ("correct", True),
        ("rpr correct=0.1", True),
        ("calibrate", True),
        ("calibrate --reward-model toy-0.75", False),  # it reads the model's scores instead
        ("correct calibrate --reward-model toy-0.75", True),
        ("self_certainty my.py:f", False),
        ("plurality", False),
    ):
        assert needs_answers(train.parse(["--reward", *reward_.split()])[0]) == needed, reward_


# --- train.py -------------------------------------------------------------------------------------------------------


@pytest.fixture
def arguments(base, tmp_path):
    """The flags of a run of two small steps, but for its data."""
    flags = f"--model {base} --run {tmp_path / 'run'} --max-new-tokens 30 --prompts-per-step 4 --rollouts-per-prompt 4"
    return shlex.split(f"{flags} --lr 1e-3 --steps 2 --eval-samples 0")


@pytest.fixture
def chains() -> list[dict]:
    """Rows of chains of one operation."""
    return [{"problem": p, "answer": a} for p, a in toy.make_problems("train", 400) if len(toy.steps(p)) == 1]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def logged(folder: Path, name: str = "metrics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_the_example_of_the_readme_trains_beside_our_own_rewards(arguments, chains, tmp_path):
    assert len(EXAMPLE.splitlines()) <= 5
    (tmp_path / "my_rewards.py").write_text(EXAMPLE)
    data = ["--data", write(tmp_path / "a.jsonl", chains), "--prompts-per-step", "3"]
    own = f"{tmp_path}/my_rewards.py:brevity=0.5"
    assert train.main([*arguments, *data, "--reward", "correct", own]) == 0
    rows = logged(tmp_path / "run")
    for row in rows:
        assert row["reward_mean"] == pytest.approx(row["reward_correct"] + 0.5 * row["reward_brevity"])
        assert 0 < row["reward_brevity"] < 1
    for sample in logged(tmp_path / "run", "samples.jsonl"):
        expected = sample["correct"] + 0.5 * max(0, 1 - len(sample["completion"]) / 100)
        assert sample["reward"] == pytest.approx(expected)


def test_a_function_that_fails_ends_the_run_in_one_line(arguments, chains, tmp_path, capsys):
    data = ["--data", write(tmp_path / "a.jsonl", chains)]
    name = written(
        tmp_path, "def f(trainer_state, completions, **_):\n    return [1 / (1 - trainer_state.global_step)]*16"
    )
    assert train.main([*arguments, *data, "--reward", name, "--save-every", "1"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"train.py: --reward {name}: the function failed (ZeroDivisionError in line 2")
    assert len(logged(tmp_path / "run")) == 1
    (tmp_path / "mine.py").write_text("def f(completions, **_):\n    return [1.0] * len(completions)")
    assert train.main([*arguments, *data, "--reward", name, "--resume"]) == 0
    resumed = [row["completion"] for row in logged(tmp_path / "run", "samples.jsonl")]
    assert train.main([*arguments, *data, "--reward", name, "--overwrite"]) == 0
    assert [row["completion"] for row in logged(tmp_path / "run", "samples.jsonl")] == resumed
    capsys.readouterr()
    (tmp_path / "mine.py").write_text("def f(**_):\n    return [1]")
    assert train.main([*arguments, *data, "--run", str(tmp_path / "new"), "--reward", name]) == 2
    assert "gave 1 numbers for 16 completions" in capsys.readouterr().err
    (tmp_path / "mine.py").write_text("def f(completions, **_):\n    return [1.0] * len(completions)")
    again = [*arguments, *data, "--run", str(tmp_path / "new"), "--reward", name]
    assert train.main(again) == 0  # in the first step nothing is lost, and the same command can be given again
    shutil.rmtree(tmp_path / "new")
    for bad in ("nosuch.py:f", name[:-1] + "g"):
        assert train.main([*arguments, *data, "--run", str(tmp_path / "new"), "--reward", bad]) == 2
        assert f"--reward {bad}" in capsys.readouterr().err
        assert not (tmp_path / "new").exists()


def test_a_run_folder_alone_runs_no_code_and_a_changed_file_is_noted(arguments, chains, tmp_path, capsys):
    mark = tmp_path / "mark"
    name = written(
        tmp_path, f"open({str(mark)!r}, 'w')\ndef f(completions, **_):\n    return [len(c) for c in completions]"
    )
    data, run = ["--data", write(tmp_path / "a.jsonl", chains)], tmp_path / "run"
    assert train.main([*arguments, *data, "--reward", name]) == 0
    mark.unlink()
    resume = ["--run", str(run), "--resume", "--steps", "3"]
    capsys.readouterr()
    assert train.main(resume) == 2
    assert f"{name} is code, which runs only if you name it: add --reward {name}" in capsys.readouterr().err
    assert (
        evaluation.main(
            [str(run), "--data", data[1], "--samples", "1", "--limit", "2", "--out", str(run), "--max-new-tokens", "9"]
        )
        == 0
    )
    assert not mark.exists()
    other = tmp_path / "other.py"
    other.write_text("def f(**_): pass")
    assert train.main([*resume, "--reward", f"{other}:f"]) == 2
    assert "keeps it" in capsys.readouterr().err
    assert train.main([*resume, "--reward", name]) == 0
    assert mark.exists()
    assert "not what it was" not in capsys.readouterr().err
    with open(tmp_path / "mine.py", "a") as file:
        file.write("# changed\n")
    assert train.main([*resume[:-1], "4", "--reward", name]) == 0
    assert f"note: --reward {name}: its file is not what it was" in capsys.readouterr().err


def test_a_column_that_changed_since_the_run_began_is_noticed(arguments, chains, tmp_path, capsys):
    rows = [{**row, "level": 1} for row in chains]
    name = written(
        tmp_path, "def f(completions, level, **_):\n    return [x * len(c) for x, c in zip(level, completions)]"
    )
    flags = [*arguments, "--data", write(tmp_path / "a.jsonl", rows), "--reward", name]
    assert train.main(flags) == 0
    write(tmp_path / "a.jsonl", [{**row, "level": 2} for row in chains])
    assert train.main([*flags, "--resume", "--steps", "3"]) == 2
    assert "what --data names has changed" in capsys.readouterr().err


def test_a_share_of_a_file_is_held_out_for_the_study_and_for_later(arguments, chains, tmp_path, capsys):
    data, run = ["--data", write(tmp_path / "a.jsonl", chains)], tmp_path / "run"
    looks = ["--eval-split", "0.25", "--eval-samples", "2", "--eval-limit", "5", "--eval-every", "1"]
    assert train.main([*arguments, *data, *looks, "--steps", "1"]) == 0
    number = len({row["problem"] for row in chains})
    held = {problem.prompt for problem in load_problems(str(run / "held-out.jsonl"))}
    assert len(held) == round(number / 4)
    assert f"{number - len(held)} problems." in capsys.readouterr().out
    assert "eval_accuracy" in logged(run)[0]
    report = json.loads((run / "report.json").read_text())
    assert (report["data"], report["problems"]) == (str(run / "held-out.jsonl"), 5)
    assert not held & {sample["prompt"] for sample in logged(run, "samples.jsonl")}
    (run / "held-out.jsonl").unlink()
    assert train.main(["--run", str(run), "--resume", "--steps", "2"]) == 0
    assert {problem.prompt for problem in load_problems(str(run / "held-out.jsonl"))} == held
    run = run.rename(tmp_path / "moved")
    assert train.main(["--run", str(run), "--resume", "--steps", "3"]) == 0
    assert json.loads((run / "report.json").read_text())["data"] == str(run / "held-out.jsonl")
    study = ["--data", str(run / "held-out.jsonl"), "--samples", "2", "--max-new-tokens", "30"]
    assert evaluation.main([arguments[1], str(run), *study, "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--eval-split 0.5 --model toy", "--eval-split 0.5: toy has a test split"),
        ("--eval-split 0.5 --data gsm8k --model x", "--eval-split 0.5: gsm8k has a test split"),
        ("--eval-split 0.5 --eval-data toy --eval-samples 2", "leave one of them out"),
        ("--eval-split 0.0001", "holds out 0 of"),
        ("--eval-split 1", "some must be left"),
        ("--eval-split -1", "--eval-split -1"),
        ("--eval-split nan", "--eval-split nan"),
        ("--data-split test", "--data-split test"),
        ("--data-split test --model toy --data toy", "--data-split test: toy has no such choice"),
        ("--data-split test --data a/b@dev", "--data-split test"),
        ("--data-split ''", "--data-split: is empty"),
        ("--eval-data ' ' --eval-samples 2", "--eval-data: is empty"),
        ("--data ''", "--data: is empty"),
    ],
)
def test_splits_that_cannot_be_had_are_refused(arguments, chains, tmp_path, capsys, flags, said):
    data = ["--data", write(tmp_path / "a.jsonl", chains)] if "--model toy" not in flags else []
    assert train.main([*arguments, *data, *shlex.split(flags)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not (tmp_path / "run").exists()


def test_prompts_that_are_chats_are_trained_on_and_compared_as_they_are(arguments, chains, base, tmp_path, capsys):
    """With a chat template that only joins the contents, a chat is the run of the same texts."""
    plain = ["--data", write(tmp_path / "a.jsonl", chains), "--reward", "correct", "length=-0.1"]
    assert train.main([*arguments, *plain]) == 0
    expected = [sample["completion"] for sample in logged(tmp_path / "run", "samples.jsonl")]
    shutil.copytree(base, tmp_path / "chatty")
    (tmp_path / "chatty" / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    rows = [{"prompt": [{"role": "user", "content": row["problem"]}], "answer": row["answer"]} for row in chains]
    chats = ["--data", write(tmp_path / "b.jsonl", rows), "--reward", "correct", "length=-0.1", "--overwrite"]
    assert train.main([*arguments, *chats]) == 2
    assert "--model has no chat template" in capsys.readouterr().err
    chatty = [*arguments, "--model", str(tmp_path / "chatty"), *chats, "--eval-data", chats[1], "--eval-limit", "4"]
    assert train.main([*chatty, "--template", "qwen-boxed", "--eval-samples", "2"]) == 2
    assert "give --template chat" in capsys.readouterr().err
    assert train.main([*chatty, "--eval-samples", "2"]) == 0
    assert [sample["completion"] for sample in logged(tmp_path / "run", "samples.jsonl")] == expected
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["template"], report["problems"]) == ("chat", 4)


# --- problems without answers ----------------------------------------------------------------------------------------


def test_a_run_without_answers_has_no_accuracy_and_no_study_and_says_so_once(arguments, chains, tmp_path, capsys, base):
    rows = [{"problem": row["problem"]} for row in chains]
    data = ["--data", write(tmp_path / "a.jsonl", rows), "--reward", "self_certainty"]
    flags = [*arguments[:-2], "--eval-samples", "2", "--eval-split", "0.2"]
    assert train.main([*flags, *data]) == 0
    said = capsys.readouterr().out
    assert said.count("have no answer. Accuracy") == 1
    assert said.count("No study of the held-out problems") == 1
    assert "Accuracy on training problems" not in said
    for row in logged(tmp_path / "run"):
        assert row["accuracy"] is row["pairwise_accuracy"] is None
        assert row["reward_std"] > 0
    for sample in logged(tmp_path / "run", "samples.jsonl"):
        assert sample["gold"] is sample["correct"] is None
    assert len(load_problems(str(tmp_path / "run" / "held-out.jsonl"), answers=False)) > 5
    assert train.main([*flags, *data, "--eval-every", "1", "--overwrite"]) == 2
    assert "no answers" in capsys.readouterr().err.strip().splitlines()[-1]
    for reward_ in ("correct", "calibrate", "rpr correct"):
        assert train.main([*arguments, *data, "--reward", *reward_.split(), "--overwrite"]) == 2
        assert "no row has an answer" in capsys.readouterr().err.strip().splitlines()[-1]


def test_bad_held_out_problems_are_blamed_on_their_own_flag(arguments, chains, tmp_path, capsys):
    data, held = ["--data", write(tmp_path / "a.jsonl", chains)], tmp_path / "b.jsonl"
    for rows, said in (
        ([{"problem": "Wörter", "answer": "1"}], "train.py: --eval-data: the tokenizer makes no token"),
        ([{"problem": "1+1=", "answer": [2]}], f"train.py: --eval-data {held}, line 1: answer is of type list"),
    ):
        study = ["--eval-data", write(held, rows), "--eval-samples", "2"]
        assert train.main([*arguments, *data, *study]) == 2
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith(said)
        assert not (tmp_path / "run").exists()


def test_held_out_problems_without_answers_are_no_study(arguments, chains, tmp_path, capsys):
    held = write(tmp_path / "b.jsonl", [{"problem": row["problem"]} for row in chains])
    data = ["--data", write(tmp_path / "a.jsonl", chains), "--eval-data", held, "--eval-samples", "2"]
    assert train.main([*arguments, *data]) == 0
    said = capsys.readouterr().out
    assert f"No study of the held-out problems. --eval-data {held}: no row has an answer" in said
    assert "Accuracy on training problems" in said
    assert not (tmp_path / "run" / "report.json").exists()


def test_in_a_mixture_accuracy_is_that_of_the_problems_with_answers(arguments, chains, tmp_path):
    rows = [row if i % 2 else {"problem": row["problem"]} for i, row in enumerate(chains)]
    data, run = ["--data", write(tmp_path / "a.jsonl", rows)], tmp_path / "run"
    wide = ["--prompts-per-step", "12", "--reward", "plurality", "--steps", "3"]
    looks = ["--eval-split", "0.5", "--eval-samples", "2", "--eval-limit", "6", "--eval-every", "3"]
    with pytest.warns(UserWarning, match="rows dropped"):  # by the study
        assert train.main([*arguments, *data, *wide, *looks]) == 0
    assert all(0 < row["accuracy"] < 1 for row in logged(run))
    assert logged(run)[0]["eval_accuracy"] * 6 * 16 == pytest.approx(round(logged(run)[0]["eval_accuracy"] * 6 * 16))
    assert logged(run)[0]["eval_pass@16"] * 6 == pytest.approx(round(logged(run)[0]["eval_pass@16"] * 6))
    known = {row["problem"] for row in rows if "answer" in row}
    for sample in logged(run, "samples.jsonl"):
        assert (sample["correct"] is not None) == (sample["prompt"] in known)
    with pytest.warns(UserWarning, match="rows dropped"):
        assert train.main([*arguments, *data, "--reward", "correct", "--overwrite"]) == 0


@pytest.mark.parametrize("name", ["rpr", "random", "format", "entropy", "likelihood", "length"])
def test_every_reward_that_reads_no_key_trains_without_answers(arguments, chains, tmp_path, name):
    data = ["--data", write(tmp_path / "a.jsonl", [{"problem": row["problem"]} for row in chains])]
    assert train.main([*arguments, *data, "--reward", name, "--steps", "1"]) == 0
    assert logged(tmp_path / "run")[0]["accuracy"] is None


# --- TRL ------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, about TRL
@pytest.mark.parametrize("chat", [False, True], ids=["texts", "chats"])
def test_the_same_function_pays_the_same_in_trl(tmp_path, chat):
    """TRL's trainer samples and calls the README's function; ours pays the same completions the same."""
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    name, example, seen = written(tmp_path, EXAMPLE, "brevity"), {}, []
    exec(EXAMPLE, example)

    def brevity(**given):
        seen.append((given, example["brevity"](**given)))
        return seen[-1][1]

    tokenizer = toy.make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    prompts = [[{"role": "user", "content": p}] if chat else p for p in ("7+8=", "9-3=")]
    rows = datasets.Dataset.from_list([{"prompt": p, "answer": a} for p, a in zip(prompts, "ab", strict=True)])
    sizes = {"num_generations": 4, "max_completion_length": 12, "per_device_train_batch_size": 8}
    config = trl.GRPOConfig(
        str(tmp_path / "trl"), max_steps=1, report_to="none", use_cpu=True, bf16=False, save_strategy="no", **sizes
    )
    model = tiny_model("qwen2")
    trainer = trl.GRPOTrainer(model, brevity, args=config, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    ((given, values),) = seen
    texts = [c[0]["content"] if chat else c for c in given["completions"]]
    assert len(set(values)) > 2
    order = given["prompts"][::4]
    problems = [
        Problem(p[0]["content"], "a", "math", (("user", p[0]["content"]),)) if chat else Problem(p, "a") for p in order
    ]
    assert paid(name, problems, texts).flatten().tolist() == pytest.approx(values)
