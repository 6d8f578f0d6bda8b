"""eval.py and samples.py: a study as a user runs it, killed, shared among machines, and added to."""

import gzip
import json
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import sys
import time

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import eval as evaluation
import toy
from study import perplexity, samples

pytestmark = pytest.mark.usefixtures("no_pictures")


def study(flags: str) -> int:
    return evaluation.main(shlex.split(flags))


def read(out) -> list[dict]:
    with gzip.open(out / "samples.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def report(out) -> dict:
    return json.loads((out / "report.json").read_text())


@pytest.fixture(scope="session")
def sharper(base, tmp_path_factory):
    """The base model with all logits doubled: at temperature 2 it is the base at temperature 1."""
    folder = tmp_path_factory.mktemp("models") / "sharper"
    shutil.copytree(base, folder)
    policy = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        policy.model.norm.weight.mul_(2)
    policy.save_pretrained(folder)
    return folder


# --- what it counts -------------------------------------------------------------------------------------------------


def test_a_study_counts_what_it_wrote(base, sharper, tmp_path):
    out = tmp_path / "out"
    assert study(f"{base} {sharper} --data toy --samples 6 --limit 12 --rows 4 --out {out} --device cpu") == 0
    records = read(out)
    assert [(r["model"], r["problem"], r["sample"]) for r in records] == [
        (str(model), i, j) for model in (base, sharper) for i in range(12) for j in range(6)
    ]
    content, tokenizer = report(out), AutoTokenizer.from_pretrained(base)
    for model in (str(base), str(sharper)):
        result = content["models"][model]
        for i, (prompt, answer) in enumerate(toy.make_problems("test", 12)):
            mine = [r for r in records if r["problem"] == i and r["model"] == model]
            assert result["counts_correct"][i] == sum(r["correct"] for r in mine)
            assert result["counts_valid"][i] == sum(r["valid"] for r in mine)
            assert all(r["correct"] == (r["answer"] == answer) for r in mine)
            assert all(r["valid"] == (r["correct"] and toy.valid_chain(r["text"], prompt)) for r in mine)
            assert all(r["text"] == tokenizer.decode(r["tokens"], skip_special_tokens=True) for r in mine)
            assert len({r["text"] for r in mine}) > 1  # not the same sample again and again
        mine = [r for r in records if r["model"] == model]
        assert result["pass_at_k_correct"][0] == pytest.approx(sum(r["correct"] for r in mine) / 72, abs=1e-6)
        assert result["pass_at_k_correct"][-1] == pytest.approx(
            sum(c > 0 for c in result["counts_correct"]) / 12, abs=1e-6
        )
        tokens = sum(len(r["tokens"]) for r in mine)
        assert result["completion_tokens"] == pytest.approx(tokens / 72, abs=1e-6)
        assert result["entropy"] == pytest.approx(sum(r["entropy"] * len(r["tokens"]) for r in mine) / tokens, 1e-5)
        assert result["answered"] == pytest.approx(sum(r["answer"] is not None for r in mine) / 72, abs=1e-6)
    assert content["k"] == [1, 2, 4, 6]
    a, b = (np.array(content["models"][str(m)]["counts_correct"]) for m in (base, sharper))
    pair = content["compared"][str(sharper)]
    assert pair["coverage_correct"]["base_only"] == np.flatnonzero((a > 0) & (b == 0)).tolist()
    assert pair["difference_correct"][0] == pytest.approx((b.mean() - a.mean()) / 6, abs=1e-6)
    assert json.loads((out / "passk.json").read_text())["models"][str(base)]["counts_correct"] == a.tolist()
    names = ["coverage.png", "histogram.png", "passk.json", "passk.png", "perplexity.png", "report.html"]
    assert sorted(path.name for path in out.iterdir()) == [*names, "report.json", "samples.jsonl.gz", "study.json"]


def test_temperature_top_p_and_seed_are_those_given(base, tmp_path):
    def texts(flags):
        assert study(f"{base} --samples 4 --limit 6 --perplexity 0 --out {tmp_path / 'out'} --overwrite {flags}") == 0
        return [{row["text"] for row in read(tmp_path / "out") if row["problem"] == i} for i in range(6)]

    usual = texts("")
    assert texts("") == usual
    assert texts("--rows 5") == usual  # random numbers belong to samples, not to the rows that they are sampled in
    assert texts("--seed 1") != usual
    assert max(map(len, usual)) > 1
    assert [len(different) for different in texts("--top-p 1e-6")] == [1] * 6  # only the most likely token is left
    assert [len(different) for different in texts("--temperature 1e-5")] == [1] * 6


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of eight completions, so that a small study has many."""
    monkeypatch.setattr(samples, "PART", 8)


def test_every_sample_has_random_numbers_of_its_own_which_its_seed_gives_again(
    base, sharper, tmp_path, monkeypatch, small_parts
):
    drawn, choose = [], samples.generate_rows

    def spy(*arguments, **named):
        uniform = arguments[-1]
        drawn.append(uniform(list(range(8)), 5))
        return choose(*arguments, **named)

    monkeypatch.setattr(samples, "generate_rows", spy)
    assert (
        study(f"{base} {sharper} --samples 4 --limit 6 --rows 2 --perplexity 0 --seed 3 --out {tmp_path / 'out'}") == 0
    )
    records = read(tmp_path / "out")
    assert [r["seed"] for r in records] == 2 * [[3, i, j] for i in range(6) for j in range(4)]
    assert len(drawn) == 6  # two models, three parts of two problems each
    first = torch.cat(drawn[:3])  # [24, 5], by problem and sample
    assert len(first.unique(dim=0)) == 24
    for row, record in zip(first, records, strict=False):
        assert row.tolist() == np.random.default_rng(record["seed"]).random(5, dtype=np.float32).tolist()
    assert torch.equal(first, torch.cat(drawn[3:]))  # both models are given the same


# --- killed, shared, added to ---------------------------------------------------------------------------------------


def study_in_child(flags: str) -> None:
    torch.set_num_threads(1)
    samples.PART = 8
    sys.exit(study(flags))


def test_a_study_killed_again_and_again_is_the_study_never_killed(base, tmp_path, small_parts):
    flags = f"{base} --samples 4 --limit 40 --perplexity 0"  # 20 parts
    assert study(f"{flags} --out {tmp_path / 'calm'}") == 0
    # Children of a process without threads, which has imported everything: they start at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["eval"])
    rng, out, seen = random.Random(0), tmp_path / "out", []
    for _ in range(5):
        child = context.Process(target=study_in_child, args=(f"{flags} --out {out}",))
        child.start()
        # At a random moment after it has begun to sample, and before it can have ended.
        while child.is_alive() and (not (out / "parts").is_dir() or len(list((out / "parts").iterdir())) <= len(seen)):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        seen.append(len(list((out / "parts").glob("*.gz"))))
        assert not (out / "report.json").exists()
    assert len(set(seen)) > 2  # it got on between the kills
    assert study(f"{flags} --out {out}") == 0
    assert (out / "samples.jsonl.gz").read_bytes() == (tmp_path / "calm" / "samples.jsonl.gz").read_bytes()
    assert report(out) == report(tmp_path / "calm")
    assert not (out / "parts").exists()


def test_a_kill_while_the_parts_become_one_file_loses_and_doubles_nothing(base, sharper, tmp_path, monkeypatch):
    flags = f"--samples 4 --limit 6 --rows 4 --perplexity 0 --out {tmp_path / 'out'}"
    assert study(f"{base} {flags}") == 0
    for module, name, place in (
        (os, "replace", "samples.jsonl.gz"),
        (samples.Path, "unlink", "parts"),
    ):  # before, after
        real = getattr(module, name)

        def killed(*arguments, real=real, place=place, **named):
            if place in str(arguments[-1]):
                raise KeyboardInterrupt
            return real(*arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, killed)
            with pytest.raises(KeyboardInterrupt):
                study(f"{base} {sharper} {flags}")
        assert list((tmp_path / "out" / "parts").iterdir())
    assert study(f"{base} {sharper} {flags}") == 0
    assert [(r["model"], r["problem"], r["sample"]) for r in read(tmp_path / "out")] == [
        (str(model), i, j) for model in (base, sharper) for i in range(6) for j in range(4)
    ]


def test_shards_put_together_are_the_whole(base, sharper, tmp_path, capsys, small_parts):
    flags = f"{base} {sharper} --samples 4 --limit 10 --rows 4 --perplexity 0"
    assert study(f"{flags} --out {tmp_path / 'whole'}") == 0
    for i in (1, 2, 3):
        assert study(f"{flags} --shard {i}/3 --out {tmp_path / f'shard{i}'}") == 0
        assert "without --shard" in capsys.readouterr().out
        assert sorted(path.name for path in (tmp_path / f"shard{i}").iterdir()) == ["parts", "study.json"]
        shutil.copytree(tmp_path / f"shard{i}", tmp_path / "merged", dirs_exist_ok=True)
    sampled = samples.sample
    try:
        samples.sample = None  # nothing is left to be sampled
        assert study(f"{flags} --out {tmp_path / 'merged'}") == 0
    finally:
        samples.sample = sampled
    assert (tmp_path / "merged/samples.jsonl.gz").read_bytes() == (tmp_path / "whole/samples.jsonl.gz").read_bytes()


def test_parts_that_are_broken_or_of_another_study_are_not_taken(base, tmp_path, capsys, small_parts):
    flags, out = f"{base} --samples 4 --limit 8 --perplexity 0", tmp_path / "out"
    assert study(f"{flags} --out {tmp_path / 'whole'}") == 0
    assert study(f"{flags} --shard 1/2 --out {out}") == 0
    first, second = sorted((out / "parts").iterdir())
    whole = first.read_bytes()
    for broken in (whole[:200], b"", second.read_bytes()):
        first.write_bytes(broken)
        capsys.readouterr()
        assert study(f"{flags} --out {out}") == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert first.name in error
        assert "delete it" in error
        assert second.exists()
        assert not (out / "samples.jsonl.gz").exists()
    first.write_bytes(whole)
    # A part of the same model and problems, drawn with another setting, has another name.
    assert study(f"{flags} --seed 1 --shard 2/2 --out {tmp_path / 'foreign'}") == 0
    for path in (tmp_path / "foreign" / "parts").iterdir():
        shutil.copy(path, out / "parts")
    assert study(f"{flags} --out {out}") == 0
    assert (out / "samples.jsonl.gz").read_bytes() == (tmp_path / "whole" / "samples.jsonl.gz").read_bytes()


def test_a_command_without_a_model_keeps_what_was_sampled_of_it(base, sharper, tmp_path, small_parts):
    flags = f"--samples 4 --limit 8 --perplexity 0 --out {tmp_path / 'out'}"
    assert study(f"{base} {flags}") == 0
    assert study(f"{base} {sharper} {flags} --shard 1/2") == 0
    parts = {path.name: path.read_bytes() for path in (tmp_path / "out" / "parts").iterdir()}
    assert len(parts) == 2
    assert study(f"{base} {flags}") == 0
    assert study(f"{base} {flags} --regrade") == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "parts").iterdir()} == parts


def test_a_model_can_be_added_but_not_exchanged(base, sharper, tmp_path, capsys):
    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(base, model)
    flags = f"--samples 4 --limit 6 --perplexity 0 --out {out}"
    assert study(f"{base} {flags}") == 0
    before = (out / "samples.jsonl.gz").read_bytes()
    assert study(f"{base} {model} {flags}") == 0
    assert (out / "samples.jsonl.gz").read_bytes().startswith(before)
    assert list(report(out)["models"]) == [str(base), str(model)]
    assert study(f"{base} {flags}") == 0  # and left out again, without being forgotten
    assert list(report(out)["models"]) == [str(base)]

    shutil.rmtree(model)
    shutil.copytree(sharper, model)  # as if it had been trained again
    before = (out / "samples.jsonl.gz").read_bytes()
    capsys.readouterr()
    assert study(f"{base} {model} {flags}") == 2
    assert "as it was before" in capsys.readouterr().err
    for change in ("--samples 5", "--temperature 0.5", "--limit 5", "--seed 1"):
        assert study(f"{base} {flags} {change}") == 2
        error = capsys.readouterr().err
        assert "another study" in error
        assert "--overwrite" in error
    assert (out / "samples.jsonl.gz").read_bytes() == before
    (out / "mine.txt").write_text("not of the study")
    assert study(f"{base} {model} {flags} --overwrite") == 0
    assert (out / "mine.txt").exists()
    assert len(read(out)) == 48


def test_samples_are_graded_again_without_being_sampled_again(base, tmp_path, capsys, monkeypatch):
    flags = f"{base} --samples 4 --limit 6 --perplexity 0 --out {tmp_path / 'out'}"
    assert study(f"{flags} --regrade") == 2
    assert "no samples.jsonl.gz" in capsys.readouterr().err
    assert study(flags) == 0
    before = read(tmp_path / "out")
    monkeypatch.setattr(samples, "generate_rows", None)
    monkeypatch.setattr(samples, "load_model", None)
    capsys.readouterr()
    assert study(f"{flags} --regrade") == 0
    assert "0 of 24 verdicts changed" in capsys.readouterr().out
    assert read(tmp_path / "out") == before
    assert study(f"other {flags} --regrade") == 2
    assert "no samples of" in capsys.readouterr().err
    monkeypatch.setattr(samples, "grade", lambda texts, *_: ["3" in text for text in texts])
    assert study(f"{flags} --regrade") == 0
    after = read(tmp_path / "out")
    changed = sum(a["correct"] != b["correct"] for a, b in zip(before, after, strict=True))
    assert changed > 0
    assert f"{changed} of 24 verdicts changed" in capsys.readouterr().out
    assert sum(report(tmp_path / "out")["models"][str(base)]["counts_correct"]) == sum("3" in r["text"] for r in before)


# --- perplexity and entropy -----------------------------------------------------------------------------------------


def test_perplexity_is_that_of_the_models_own_logits(base, sharper, tmp_path):
    out = tmp_path / "out"
    assert study(f"{base} {sharper} --samples 4 --limit 6 --perplexity 3 --out {out}") == 0
    problems, tokenizer = toy.make_problems("test", 6), AutoTokenizer.from_pretrained(base)

    def expected(writer, reader):
        policy, medians = AutoModelForCausalLM.from_pretrained(reader), {}
        for i, (prompt, _) in enumerate(problems):
            texts = [r["tokens"] for r in read(out) if r["model"] == str(writer) and r["problem"] == i][:3]
            values = []
            for tokens in texts:
                ids = tokenizer(prompt)["input_ids"] + tokens
                logps = policy(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
                chosen = [logps[t - 1, ids[t]].item() for t in range(len(ids) - len(tokens), len(ids))]
                values.append(np.exp(-np.mean(chosen)))
            medians[str(i)] = np.median(values)
        return medians

    table = {(row["writer"], row["reader"]): row["problems"] for row in report(out)["perplexity"]}
    pairs = [(base, base), (sharper, base), (sharper, sharper)]
    assert set(table) == {(str(a), str(b)) for a, b in pairs} | {("teacher", str(base))}
    for writer, reader in pairs:
        assert table[str(writer), str(reader)] == pytest.approx(expected(writer, reader), rel=1e-4)


def test_perplexity_of_one_token_in_v_is_v():
    assert perplexity.perplexity([np.log(1 / 23)] * 5) == pytest.approx(23)
    assert perplexity.perplexity([0.0, 0.0]) == 1


def test_a_teachers_file_is_matched_by_the_text_of_the_problem(base, tmp_path, capsys):
    problems = toy.make_problems("test", 6)
    rows = [{"problem": problems[2][0], "response": "\\boxed{1}"}, {"question": "unknown", "response": "x"}]
    rows.append({"prompt": problems[3][0], "response": ""})
    (tmp_path / "teacher.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = f"{base} --samples 2 --limit 6 --perplexity 1 --out {tmp_path / 'out'}"
    assert study(f"{flags} --teacher {tmp_path / 'teacher.jsonl'}") == 0
    table = {row["writer"]: row["problems"] for row in report(tmp_path / "out")["perplexity"]}
    assert list(table["teacher"]) == ["2"]
    for text, said in (
        ('{"problem": "no", "response": "x"}', "no response to a problem"),
        ('{"text": 1}', "columns text"),
    ):
        (tmp_path / "teacher.jsonl").write_text(text)
        assert study(f"{flags} --teacher {tmp_path / 'teacher.jsonl'} --overwrite") == 2
        assert said in capsys.readouterr().err
    assert len(read(tmp_path / "out")) == 12  # bad input has deleted nothing


def test_a_character_of_several_tokens_belongs_to_the_last_of_them():
    class Bytes:
        def decode(self, tokens):
            return bytes(tokens).decode(errors="replace")

    text = "a\u00e9\u4e16\U0001f600b"
    found = perplexity.pieces(np.frombuffer(text.encode(), dtype=np.uint8), Bytes())
    assert found == ["a", "", "\u00e9", "", "", "\u4e16", "", "", "", "\U0001f600", "b"]
    assert "".join(perplexity.pieces(np.array([0xFF] * 6), Bytes())) == "\ufffd" * 6


def test_the_matching_temperature_of_doubled_logits_is_two(base, sharper, tmp_path):
    out = tmp_path / "out"
    assert study(f"{base} {sharper} --samples 4 --limit 6 --match-entropy --perplexity 0 --out {out}") == 0
    models = report(out)["models"]
    (label,) = set(models) - {str(base), str(sharper)}
    assert models[label]["temperature"] == pytest.approx(2, abs=0.011)
    assert models[str(sharper)]["entropy"] < 0.8 * models[str(base)]["entropy"]
    assert models[label]["entropy"] == pytest.approx(models[str(base)]["entropy"], rel=0.03)
    # The other way round the temperature has to fall.
    assert (
        study(f"{sharper} {base} --samples 4 --limit 6 --match-entropy --perplexity 0 --out {tmp_path / 'back'}") == 0
    )
    temperatures = [result["temperature"] for result in report(tmp_path / "back")["models"].values()]
    assert temperatures == [1, 1, pytest.approx(0.5, abs=0.011)]


# --- for a person ---------------------------------------------------------------------------------------------------


def test_the_hardest_solved_problems_are_written_with_their_right_completions(base, tmp_path):
    out = tmp_path / "out"
    assert study(f"{base} --samples 12 --limit 12 --perplexity 0 --review 2 --out {out}") == 0
    text, counts = (out / "review.md").read_text(), report(out)["models"][str(base)]["counts_correct"]
    hardest = sorted((i for i in range(12) if counts[i]), key=lambda i: (counts[i], i))[:2]
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        f"## {base}, problem {i}: {counts[i]} of 12 right" for i in hardest
    ]
    right = [r["text"] for r in read(out) if r["correct"] and r["problem"] in hardest]
    assert text.count("Sample ") == len(right) == sum(counts[i] for i in hardest)
    assert all(completion in text for completion in right)


def test_problems_of_a_file_are_studied_without_chains(base, sharper, tmp_path, capsys):
    rows = [{"problem": prompt, "answer": answer} for prompt, answer in toy.make_problems("test", 5)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = f"--data {tmp_path / 'problems.jsonl'} --samples 4 --perplexity 2 --review 1 --max-new-tokens 30"
    assert study(f"{base} {sharper} {flags} --out {tmp_path / 'out'}") == 0
    content = report(tmp_path / "out")
    assert content["problems"] == 5
    assert not [name for result in content["models"].values() for name in result if "valid" in name]
    assert {row["writer"] for row in content["perplexity"]} == {str(base), str(sharper)}  # a file has no teacher
    assert "valid chain" not in capsys.readouterr().out + (tmp_path / "out" / "review.md").read_text()


def test_the_paper_is_a_recipe_which_flags_change():
    settings = evaluation.parse(["a", "b", "--recipe", "limit-of-rlvr", "--data", "math500"])
    evaluation.complete(settings)
    assert (settings.samples, settings.temperature, settings.top_p) == (256, 0.6, 0.95)
    assert (settings.max_new_tokens, settings.limit) == (16_384, None)
    settings = evaluation.parse(["a", "b", "--samples", "9", "--recipe", "limit-of-rlvr", "--top-p", "1"])
    evaluation.complete(settings)
    assert (settings.samples, settings.temperature, settings.top_p) == (9, 0.6, 1)
    assert (settings.max_new_tokens, settings.limit) == (80, 180)  # of the toy


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("no/such/folder", "--model no/such/folder"),
        ("BASE no/such/folder", "--model no/such/folder"),
        ("BASE BASE", "named twice"),
        ("BASE --data nosuch", "--data nosuch"),
        ("BASE --samples 0", "--samples 0"),
        ("BASE --temperature 0", "--temperature 0"),
        ("BASE --temperature nan", "--temperature"),
        ("BASE --top-p 0", "--top-p"),
        ("BASE --template nosuch", "--template nosuch"),
        ("BASE --max-new-tokens 510", "context"),
        ("BASE --perplexity -1", "--perplexity -1"),
        ("BASE --match-entropy", "--match-entropy"),
        ("BASE --regrade --shard 1/2", "--regrade"),
        ("BASE --teacher nosuch.jsonl", "--teacher nosuch.jsonl"),
    ],
)
def test_bad_input_to_eval(base, tmp_path, capsys, flags, said):
    out = tmp_path / "out"
    assert study(f"{flags.replace('BASE', str(base))} --out {out}") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert said in error[0]
    assert not out.exists()


@pytest.mark.parametrize("flags", ["--shard 0/2", "--shard 3/2", "--shard two", "--recipe nosuch"])
def test_argparse_refuses_the_rest(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        study(f"toy {flags}")
    assert stopped.value.code == 2
    assert flags.split()[0] in capsys.readouterr().err
