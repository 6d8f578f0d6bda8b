"""distill.py as a user runs it, on a toy base model taught for a few seconds."""

import json
from random import Random

import pytest
import torch

import data
import distill
import toy
from generate import generate, stream
from running.models import end_tokens, load_model

SMALL = "--samples 4 --max-new-tokens 30 --documents-per-step 16 --lr 2e-3 --template plain"


@pytest.fixture
def problems(tmp_path):
    """A file of 24 chains of one operation, which the base model can do."""
    pairs = [(prompt, answer) for prompt, answer in toy.make_problems("train", 200) if len(toy.steps(prompt)) == 1][:24]
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps({"problem": p, "answer": a}) + "\n" for p, a in pairs))
    return file


@pytest.fixture
def run(base, tmp_path, problems):
    """Distills with these flags; returns the run folder."""

    def run(flags: str, name: str = "student"):
        folder = tmp_path / name
        where = ["--model", str(base), "--data", str(problems), "--run", str(folder)]
        assert distill.main([*where, *SMALL.split(), *flags.split()]) == 0
        return folder

    return run


def mean_logp(folder, pairs) -> float:
    """The mean log-probability, nats a token, of responses with their end token: one pair at a time."""
    policy, tokenizer = load_model(str(folder))
    total = tokens = 0
    for prompt, response in pairs:
        start = tokenizer(prompt)["input_ids"]
        ids = [*start, *tokenizer(response)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logps = policy(torch.tensor([ids])).logits[0].log_softmax(-1)
        total += sum(logps[t - 1, ids[t]].item() for t in range(len(start), len(ids)))
        tokens += len(ids) - len(start)
    return total / tokens


def test_a_student_learns_what_a_file_says(run, base, tmp_path, problems):
    given = [json.loads(line)["problem"] for line in problems.read_text().splitlines()]
    rows = [{"problem": p, "response": toy.reason(p, Random(0))} for p in given]
    rows.append({"problem": "1+1=", "response": "hmm, 1"})  # of no problem that is trained on
    teacher = tmp_path / "teacher.jsonl"
    teacher.write_text("".join(json.dumps(row) + "\n" for row in rows))
    student = run(f"--teacher {teacher} --epochs 20")
    pairs = [(p, toy.reason(p, Random(0))) for p in given]
    assert mean_logp(student, pairs) > 0.1 * mean_logp(base, pairs)  # both negative
    losses = [json.loads(line)["loss"] for line in (student / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 30 and losses[-1] < 0.1 * losses[0]  # 24 responses, 20 times, 16 a step


def learned(monkeypatch) -> list[tuple[str, str]]:
    """(prompt, response) pairs that are learned, read from their tokens."""
    found, fit, tokenizer = [], distill.fit, toy.make_tokenizer()

    def reading(student, documents, *rest, **more):
        assert all(response[-1] == tokenizer.eos_token_id for _, response in documents)
        found.extend((tokenizer.decode(prompt), tokenizer.decode(response[:-1])) for prompt, response in documents)
        return fit(student, documents, *rest, **more)

    monkeypatch.setattr(distill, "fit", reading)
    return found


def test_of_a_model_the_right_and_whole_responses_are_learned_and_all_of_those(run, base, problems, monkeypatch):
    """The same samples, drawn here and graded by the eye of a regular expression."""
    pairs = learned(monkeypatch)
    run("--teacher self --rows 32 --max-new-tokens 12")
    policy, tokenizer = load_model(str(base))
    asked, expected, cut = data.load_problems(str(problems), "train"), [], 0
    for first in range(0, 24, 8):  # 32 rows: 8 problems, 4 responses of each
        part = asked[first : first + 8]
        prompts = [data.encode_prompt(problem, tokenizer, "plain") for problem in part]
        draws = stream(0, "teacher", 0, first)
        rollouts = generate(policy, prompts, 4, 12, eos_ids=end_tokens(policy, tokenizer), generator=draws)
        for row, tokens in enumerate(rollouts.completions()):
            text = tokenizer.decode(tokens, skip_special_tokens=True)
            right = f"\\boxed{{{part[row // 4].answer}}}" in text
            cut += right and bool(rollouts.truncated[row])
            if right and not rollouts.truncated[row]:
                expected.append((part[row // 4].prompt, text))
    assert sorted(pairs) == sorted(expected) and 5 < len(pairs) < 90
    assert cut  # there was a right answer that ran on


def test_expert_iteration_samples_from_the_student_as_it_is_then(run, monkeypatch, capsys):
    pairs = learned(monkeypatch)
    run("--teacher self --rounds 2 --epochs 4")
    numbers = [int(line.split()[2]) for line in capsys.readouterr().out.splitlines() if line.startswith("Round ")]
    assert sum(numbers) == len(pairs) and numbers[1] > 1.2 * numbers[0]


def test_a_stronger_model_teaches_and_is_left_as_it_was(run, base, problems, monkeypatch):
    """A teacher that is the student gives what --teacher self gives."""
    pairs = learned(monkeypatch)
    one, other = run("--teacher self", "self"), run(f"--teacher {base}", "model")
    half = len(pairs) // 2
    assert pairs[:half] == pairs[half:]
    weights = [list(load_model(str(folder))[0].parameters()) for folder in (one, other, base)]
    assert all(map(torch.equal, weights[0], weights[1])) and not all(map(torch.equal, weights[0], weights[2]))
    pairs.clear()
    # The student of above as the teacher says what it says when it teaches itself, and the base model learns it.
    where = ["--model", str(one), "--data", str(problems), "--run", str(one.parent / "itself")]
    assert distill.main([*where, *SMALL.split(), "--teacher", "self"]) == 0
    by_itself = list(pairs)
    pairs.clear()
    run(f"--teacher {one} --rounds 2", "taught")
    assert pairs[: len(by_itself)] == by_itself != pairs[len(by_itself) :]  # other samples in the second round


def test_the_solver_of_a_world_is_a_teacher(base, tmp_path, monkeypatch, capsys):
    pairs = learned(monkeypatch)
    world = toy.WORLDS["toy"]
    monkeypatch.setitem(toy.WORLDS, "toy", world._replace(number={"train": 12, "test": 6}))
    flags = f"--model {base} --data toy --teacher solver --samples 3 --run {tmp_path / 'student'}"
    assert distill.main(flags.split()) == 0
    assert len(pairs) == 36 and all(toy.valid_chain(text, prompt) for prompt, text in pairs)
    assert "36 responses to 12 of 12 problems" in capsys.readouterr().out
    config = json.loads((tmp_path / "student" / "config.json").read_text())
    assert config["minreason"]["eval_data"] == "toy" and config["model_type"] == "qwen2"
    assert config["minreason_defaults"] == {"samples": 16}  # all other flags have their defaults


def test_defaults_depend_on_the_student(base):
    def completed(*flags):
        settings = distill.parse(list(flags))[0]
        distill.complete(settings)
        return settings

    toys, real = completed(), completed("--model", "Qwen/Qwen2.5-7B", "--data", "math", "--teacher", "a/Qwen2.5-72B.b")
    assert (toys.lr, toys.max_new_tokens, toys.run) == (3e-4, 80, "runs/toy-search-5-from-solver-seed0")
    assert (real.lr, real.max_new_tokens) == (1e-5, 512) and real.run == "runs/Qwen2.5-7B-from-Qwen2.5-72B.b-seed0"
    assert completed("--teacher", "x/r1.jsonl.gz").run == "runs/toy-search-5-from-r1-seed0"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--teacher solver", "the toys have one"),
        ("--teacher nosuch.jsonl", "nosuch.jsonl: no such file"),
        ("--teacher nosuch", "--teacher nosuch: no such folder"),
        ("--teacher solver --rounds 2", "stay the same; give --epochs"),
        ("--teacher self --max-new-tokens 1", "not one right response"),
        ("--teacher self --lr 0", "--lr 0"),
        ("--teacher self --samples 0", "--samples 0"),
        ("--teacher my-solver", "--teacher my-solver: no such folder"),
    ],
)
def test_what_cannot_work_is_said_in_one_line_and_nothing_is_written(flags, said, base, problems, tmp_path, capsys):
    where = f"--model {base} --data {problems} --template plain --max-new-tokens 30 --run {tmp_path / 'run'}"
    assert distill.main([*where.split(), *flags.split()]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in lines[-1] and sum(line.startswith("distill.py") for line in lines) == 1
    assert not (tmp_path / "run").exists()


def test_a_run_in_the_folder_is_not_overwritten_unless_asked_to(run, problems, base, capsys):
    folder = run("--teacher self")
    flags = f"--model {base} --data {problems} --teacher self --run {folder} --template plain --max-new-tokens 30"
    assert distill.main(flags.split()) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--overwrite" in said and "--resume" not in said
    assert distill.main([*flags.split(), "--overwrite"]) == 0
    assert distill.main(["--model", "toy-search-5", "--data", "toy", "--teacher", "self"]) == 2
    assert "reads problems of toy-search-5 only" in capsys.readouterr().err
    for lost in (f"--model {folder} --teacher self", f"--model {base} --teacher {folder}"):
        asked = [*lost.split(), "--data", str(problems), "--run", str(folder), "--overwrite"]
        assert distill.main(asked) == 2
        assert "would be lost" in capsys.readouterr().err and (folder / "config.json").is_file()
    assert distill.main(["--model", str(base)]) == 2
    assert "needs --data" in capsys.readouterr().err
