"""Samples that another engine drew become a study: --samples-file of eval.py."""

import gzip
import json
import math
import random
import shlex
from pathlib import Path

import numpy as np
import pytest

import eval as evaluation
import toy

pytestmark = pytest.mark.usefixtures("no_pictures")

PROBLEMS = toy.make_problems("test", 6)  # (prompt, answer)
# Right samples of each problem, out of 4: of a base, and of what was trained from it.
RIGHT = {"acme/base": [0, 1, 2, 3, 4, 2], "acme/trained": [0, 4, 4, 4, 4, 0]}


def study(flags: str) -> int:
    return evaluation.main(shlex.split(flags))


def report(out: Path) -> dict:
    content = json.loads((out / "report.json").read_text())
    return {name: value for name, value in content.items() if name not in ("checksum", "seed")}


def written(path: Path, rows: list) -> Path:
    """The rows in a file, compressed if its name says so."""
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def drawn(model: str, j: int, i: int) -> str:
    """Sample j of problem i: a right answer, or one above it."""
    return f"so \\boxed{{{int(PROBLEMS[i][1]) + (j >= RIGHT[model][i])}}}"


def rows_of(*models: str) -> list[dict]:
    """The samples of some models: as little as is needed."""
    return [
        {"model": model, "problem": i, "sample": j, "text": drawn(model, j, i)}
        for model in models
        for i in range(6)
        for j in range(4)
    ]


def test_a_study_made_of_a_studys_samples_has_the_same_numbers(base, tmp_path, capsys):
    flags = f"{base} --data toy --limit 8 --perplexity 3 --max-new-tokens 24"
    assert study(f"{flags} --samples 6 --out {tmp_path}/drawn") == 0
    # In any order, and with samples of others among them.
    with gzip.open(tmp_path / "drawn" / "samples.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    random.Random(0).shuffle(rows)
    others = [{**row, "model": "another"} for row in rows[:5]] + [{**row, "problem": 9} for row in rows[:5]]
    file = written(tmp_path / "samples.jsonl.gz", rows + others)
    assert study(f"{flags} --samples-file {file} --out {tmp_path}/made") == 0
    assert report(tmp_path / "made") == report(tmp_path / "drawn")
    assert report(tmp_path / "made")["perplexity"]
    before = (tmp_path / "made" / "samples.jsonl.gz").stat().st_mtime_ns
    assert study(f"{flags} --samples-file {file} --out {tmp_path}/made") == 0  # there already
    assert (tmp_path / "made" / "samples.jsonl.gz").stat().st_mtime_ns == before
    capsys.readouterr()
    rows[0]["text"] += "0"
    written(file, rows)
    assert study(f"{flags} --samples-file {file} --out {tmp_path}/made") == 2
    assert "as it was before" in capsys.readouterr().err
    assert study(f"{flags} --samples 6 --out {tmp_path}/made") == 2  # nor is anything drawn beside them
    assert "another study" in capsys.readouterr().err


def test_models_that_are_mere_names_are_compared_by_their_texts(tmp_path, capsys):
    rows = rows_of("acme/base", "acme/trained")
    for row in rows[::2]:
        row["problem"] = f" {PROBLEMS[row['problem']][0]}\n"  # a problem may be named by its text
    file = written(tmp_path / "samples.jsonl", rows)
    flags = f"acme/base acme/trained --data toy --limit 6 --samples-file {file} --template plain --temperature 0.6"
    assert study(f"{flags} --out {tmp_path}/out") == 0
    said, content = capsys.readouterr(), report(tmp_path / "out")
    for model, counts in RIGHT.items():
        found = content["models"][model]
        assert found["counts_correct"] == counts
        assert found["pass_at_k_correct"][0] == pytest.approx(sum(counts) / 24, abs=1e-6)
        assert found["pass_at_k_correct"][2] == pytest.approx(np.mean(np.array(counts) > 0), abs=1e-6)
        assert [found[name] for name in ("entropy", "entropy_ratio", "truncated", "completion_tokens")] == [None] * 4
        assert "counts_truncated" not in found
        assert f"note: {model}: no such model here" in said.err
    assert content["compared"]["acme/trained"]["coverage_correct"]["base_only"] == [5]
    assert (content["k"], content["temperature"], content["perplexity"]) == ([1, 2, 4], 0.6, [])
    [row] = [line for line in said.out.splitlines() if line.split()[:2] == ["trained", "0.600"]]
    assert row.split()[2:] == ["-", "-", "-", "1.000", "-"]


def test_what_some_samples_do_not_say_is_left_out_and_the_rest_is_kept(base, tmp_path, capsys):
    """Of a model that is here, with tokens in all samples but one."""
    rows = [{**row, "model": str(base), "truncated": row["sample"] == 0} for row in rows_of("acme/base")]
    for row in rows[1:]:
        row["tokens"] = [5, 1]
    file = written(tmp_path / "samples.jsonl", rows)
    assert study(f"{base} --data toy --limit 6 --samples-file {file} --perplexity 4 --out {tmp_path}/out") == 0
    found = report(tmp_path / "out")["models"][str(base)]
    assert (found["truncated"], found["counts_truncated"]) == (0.25, [1] * 6)
    assert (found["completion_tokens"], found["entropy"]) == (None, None)
    assert "not all of its samples have tokens" in capsys.readouterr().err


def test_log_probabilities_give_the_perplexity_of_a_model_that_is_not_here(tmp_path):
    rows = rows_of("acme/base")
    for row in rows:
        row["logprobs"] = [-0.5, -0.1 * row["sample"]]
    file = written(tmp_path / "samples.jsonl", rows)
    flags = f"acme/base --data toy --limit 6 --samples-file {file}"
    assert study(f"{flags} --perplexity 3 --out {tmp_path}/out") == 0
    [row] = report(tmp_path / "out")["perplexity"]
    assert row["writer"] == row["reader"] == "acme/base"
    assert set(row["problems"].values()) == {round(math.exp(0.3), 6)}  # of samples 0, 1, 2: the median is that of 1
    # Of problem 3 the samples 0, 1, 2 are right; of problem 0 none.
    assert row["right_logps"]["3"] == pytest.approx(-0.6) and "0" not in row["right_logps"]
    assert study(f"{flags} --perplexity 0 --out {tmp_path}/none") == 0
    assert report(tmp_path / "none")["perplexity"] == []


def test_the_logs_of_a_harness_are_known_by_the_texts_of_their_documents(tmp_path):
    """Two filters of one task log each document twice; documents come in an order of their own, one file a model."""
    files = []
    for model in RIGHT:
        rows = []
        for key in ("strict", "flexible"):
            for place, i in enumerate((3, 0, 5, 1, 4, 2)):
                row = {"doc_id": place, "doc": {"question": PROBLEMS[i][0], "answer": PROBLEMS[i][1]}, "filter": key}
                row |= {"resps": [[drawn(model, j, i) for j in range(4)]], "filtered_resps": ["7"], "target": "7"}
                rows.append(row)
        files.append(written(tmp_path / f"{model[5:]}.jsonl", rows))
    flags = f"{' '.join(RIGHT)} --data toy --limit 6 --samples-file {files[0]} {files[1]} --out {tmp_path}/out"
    assert study(flags) == 0
    found = report(tmp_path / "out")["models"]
    assert {model: found[model]["counts_correct"] for model in found} == RIGHT


NONE = "leave out the whole line"
DAMAGE = {
    "no JSON": ("{", "line 3", "one JSON object a line"),
    "no object": ("[]", "line 3", "one JSON object a line"),
    "no model": ({"model": None}, "line 3", "model"),
    "no text": ({"text": None}, "line 3", "text"),
    "half a character": ({"text": "\ud800"}, "line 3", "text"),
    "no problem": ({"problem": None}, "line 3", "problem"),
    "problem true": ({"problem": True}, "line 3", "problem"),
    "sample -1": ({"sample": -1}, "line 3", "sample"),
    "twice": ({"sample": 1}, "line 3", "a second time"),
    "one is missing": (NONE, "problem 0", "has 3 samples of acme/base, others 4"),
    "tokens of texts": ({"tokens": ["a"]}, "line 3", "tokens"),
    "too many tokens": ({"tokens": [1] * 81}, "line 3", "--max-new-tokens"),
    "truncated 1": ({"truncated": 1}, "line 3", "truncated"),
    "entropy nan": ({"entropy": math.nan}, "line 3", "entropy"),
    "logprobs above 0": ({"logprobs": [0.5]}, "line 3", "logprobs"),
    "logprobs -inf": ({"logprobs": [-math.inf]}, "line 3", "logprobs"),
    "logprobs huge": ({"logprobs": [-(10**400)]}, "line 3", "logprobs"),
    "fewer logprobs than tokens": ({"logprobs": [-1.0], "tokens": [1, 2]}, "line 3", "logprobs"),
    "multiple choice": ({"doc_id": 0, "doc": {}, "resps": [["-1.5", "False"], ["-2", "False"]]}, "line 3", "resps"),
    "likelihoods": ({"doc_id": 0, "doc": {}, "resps": [[["-1.5", "False"]]]}, "line 3", "resps"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_file_that_cannot_be_used_is_refused_in_one_line_and_nothing_is_written(tmp_path, capsys, name):
    change, where, what = DAMAGE[name]
    rows = rows_of("acme/base")
    if change is NONE:
        del rows[2]
    else:
        rows[2] = change if isinstance(change, str) else {**rows[2], **change}
    file = written(tmp_path / "samples.jsonl", rows)
    # Two models and one file: it is not known whose a row without a model would be.
    models = "acme/base acme/trained" if name == "no model" else "acme/base"
    assert study(f"{models} --data toy --limit 6 --samples-file {file} --out {tmp_path}/out") == 2
    [said] = capsys.readouterr().err.splitlines()
    assert "--samples-file" in said and "samples.jsonl" in said and where in said and what in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flags, said",
    [
        ("acme/other", "no sample of MODEL acme/other; it has acme/base"),
        ("acme/base --limit 7", "has 0 samples of acme/base, others 4; draw the same number of each"),
        ("acme/base --limit 6 --samples 8", "--samples 8: "),
        ("acme/base --limit 6 --seed 1", "--seed: not with --samples-file"),
        ("acme/base --limit 6 --regrade", "--regrade: not with --samples-file"),
        ("acme/base x --match-entropy", "--match-entropy: not with --samples-file"),
        ("acme/base --shard 1/2", "--shard: not with --samples-file"),
        ("acme/base --limit 6 --teacher {teacher}", "--teacher: its responses are read by the base"),
    ],
)
def test_flags_that_do_not_go_with_a_file_are_refused(tmp_path, capsys, flags, said):
    file = written(tmp_path / "samples.jsonl", rows_of("acme/base"))
    teacher = written(tmp_path / "teacher.jsonl", [{"problem": PROBLEMS[0][0], "response": "7"}])
    assert study(f"{flags.format(teacher=teacher)} --data toy --samples-file {file} --out {tmp_path}/out") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_all_problems_are_studied_unless_told_otherwise():
    def limit(**more):
        return evaluation.fill_in(evaluation.Settings(models=["acme/base"], **more)).limit

    assert limit(data="gsm8k", samples_file=["a.jsonl"]) is None
    assert limit(data="gsm8k", samples_file=["a.jsonl"], limit=5) == 5
    assert limit(data="toy", samples_file=["a.jsonl"]) == limit(data="gsm8k") == 180


def test_tokens_that_the_model_does_not_have_are_refused_before_anything_is_written(base, tmp_path, capsys):
    rows = [{**row, "model": str(base), "tokens": [10**6]} for row in rows_of("acme/base")]
    file = written(tmp_path / "samples.jsonl", rows)
    assert study(f"{base} --data toy --limit 6 --samples-file {file} --out {tmp_path}/out") == 2
    assert "has no token 1000000 of problem 0, sample 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
