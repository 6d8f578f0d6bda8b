"""eval.py and study/: a study as a user runs it, killed, shared among machines, and added to."""

import copy
import gzip
import itertools
import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import VOCABULARY, tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import eval as evaluation
import toy
from data import Problem
from running.files import BadInput
from running.stopping import program
from study import analysis, entropy, folder, perplexity, samples
from study.records import write_records

pytestmark = pytest.mark.usefixtures("no_pictures")


SHORT = "--max-new-tokens 20 --perplexity 0"  # for studies whose bookkeeping alone is looked at


def study(flags: str) -> int:
    return evaluation.main(shlex.split(flags))


def read(out) -> list[dict]:
    with gzip.open(out / "samples.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


def report(out) -> dict:
    content = json.loads((out / "report.json").read_text())
    return {name: value for name, value in content.items() if name != "checksum"}


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
    names = ["coverage.png", "groups.png", "histogram.png", "passk.json", "passk.png", "perplexity.png", "report.html"]
    assert sorted(path.name for path in out.iterdir()) == [*names, "report.json", "samples.jsonl.gz", "study.json"]


def test_a_record_says_how_its_sample_ended_and_how_spread_its_distributions_were(base, tmp_path):
    assert study(f"{base} --samples 6 --limit 6 --temperature 0.7 --max-new-tokens 12 --out {tmp_path / 'out'}") == 0
    policy, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    problems, ended = toy.make_problems("test", 6), set()
    for record in read(tmp_path / "out"):
        tokens = record["tokens"]
        assert record["truncated"] == (tokens[-1] != tokenizer.eos_token_id)
        assert len(tokens) == 12 if record["truncated"] else tokens.count(tokenizer.eos_token_id) == 1
        ended.add(record["truncated"])
        prompt = tokenizer(problems[record["problem"]][0])["input_ids"]
        logits = policy(input_ids=torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1] / 0.7
        spread = torch.distributions.Categorical(logits=logits).entropy()  # [T], nats
        assert record["entropy"] == pytest.approx(spread.mean().item(), abs=1e-4)
    assert ended == {True, False}
    result = next(iter(report(tmp_path / "out")["models"].values()))
    assert result["truncated"] == pytest.approx(sum(r["truncated"] for r in read(tmp_path / "out")) / 36, abs=1e-6)
    assert result["temperature"] == 0.7


def test_only_what_needs_less_memory_than_is_free_is_sampled(base, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(samples, "free_memory", lambda device: 4 * 10**5)
    assert study(f"{base} --samples 8 --limit 10 --out {tmp_path / 'out'}") == 2
    error = capsys.readouterr().err
    assert "--rows 384" in error
    fitting = int(re.search(r"give about (\d+)", error)[1])
    assert study(f"{base} --samples 8 --limit 10 --rows {round(1.5 * fitting)} --out {tmp_path / 'out'}") == 2
    assert study(f"{base} --samples 8 --limit 10 --rows {fitting} --perplexity 0 --out {tmp_path / 'out'}") == 0


def test_programs_are_run_only_where_somebody_has_said_so(base, tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(samples, "grade", lambda texts, golds, kinds, run: asked.append(run) or [False] * len(texts))
    rows = [{"problem": "1+1=", "tests": "assert f(1) == 2"}, {"problem": "2+1=", "answer": "3"}]
    (tmp_path / "tests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = f"{base} --data {tmp_path / 'tests.jsonl'} --samples 2 --max-new-tokens 9 --perplexity 0"
    assert study(f"{flags} --out {tmp_path / 'out'}") == 2
    assert "--allow-code-execution" in capsys.readouterr().err
    assert not asked
    assert study(f"{flags} --allow-code-execution --out {tmp_path / 'out'}") == 0
    assert asked == [True]
    (tmp_path / "tests.jsonl").write_text(json.dumps(rows[1]))
    assert study(f"{flags} --out {tmp_path / 'other'}") == 0
    assert asked == [True, False]
    assert "majority_at_k" in report(tmp_path / "other")["models"][str(base)]
    assert "majority_at_k" not in report(tmp_path / "out")["models"][str(base)]  # nobody votes on programs
    assert all(len(digits) <= 6 for digits in re.findall(r"\d\.(\d+)", (tmp_path / "out" / "report.json").read_text()))


def test_temperature_top_p_and_seed_are_those_given(base, tmp_path):
    def texts(flags):
        assert study(f"{base} {SHORT} --samples 4 --limit 6 --out {tmp_path / 'out'} --overwrite {flags}") == 0
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
    assert study(f"{base} {sharper} {SHORT} --samples 4 --limit 6 --rows 2 --seed 3 --out {tmp_path / 'out'}") == 0
    records = read(tmp_path / "out")
    assert [r["seed"] for r in records] == 2 * [[3, i, j] for i in range(6) for j in range(4)]
    assert len(drawn) == 6  # two models, three parts of two problems each
    first = torch.cat(drawn[:3])  # [24, 5], by problem and sample
    assert len(first.unique(dim=0)) == 24
    for row, record in zip(first, records, strict=False):
        assert row.tolist() == np.random.default_rng(record["seed"]).random(5, dtype=np.float32).tolist()
    assert torch.equal(first, torch.cat(drawn[3:]))  # both models are given the same


# --- killed, shared, added to ---------------------------------------------------------------------------------------


# Where a study dies: at the n-th time that it does something to a path with this text in it.
KILLS = (
    ("half written", "parts/", 2),
    ("before the move", "parts/", 2),
    ("before the move", "samples.jsonl.gz", 1),
    ("after deleting", "parts/", 1),
    ("after the move", "report.html", 1),
)


def dying_at(when: str, text: str, number: int, die) -> list[tuple]:
    """(owner, name, function) of what a study calls, so that it dies at one place of its work."""
    write, replace, unlink, times = samples.write_records, os.replace, Path.unlink, itertools.count(1)

    def at(this: str, path) -> bool:
        return this == when and text in str(path) and next(times) == number

    def half_written(path, records):
        def some():
            yield from records[:3]
            die()

        write(path, some() if at("half written", path) else records)

    def killing_replace(source, target):
        if at("before the move", target):
            die()
        replace(source, target)
        if at("after the move", target):
            die()

    def killing_unlink(path, missing_ok=False):
        unlink(path, missing_ok)
        # A kill leaves an unfinished file too, and in which order a folder gives its files is left to the disk.
        if path.suffix == ".gz" and at("after deleting", path):
            die()

    dying = {
        (samples, "write_records"): half_written,
        (os, "replace"): killing_replace,
        (Path, "unlink"): killing_unlink,
    }
    return [(*place, function) for place, function in dying.items()]


def killed_study(flags: str, *place) -> None:
    """A study in a process of its own, which gets SIGKILL at one place of its work."""
    torch.set_num_threads(1)
    samples.PART = 8
    for owner, name, dying in dying_at(*place, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        setattr(owner, name, dying)
    sys.exit(study(flags))


@pytest.fixture(params=["interrupted", pytest.param("killed", marks=pytest.mark.slow)])
def stopped(request, monkeypatch):
    """Runs a study that ends at one place: by an exception here, or by SIGKILL in a process of its own."""
    # Children of a process without threads, which has imported everything: they start at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["eval"])

    def killed(flags: str, *place) -> None:
        child = context.Process(target=killed_study, args=(flags, *place))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL, place

    def die():
        raise KeyboardInterrupt

    def interrupted(flags: str, *place) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: hash(place))  # as another process each time
            for owner, name, dying in dying_at(*place, die):
                patch.setattr(owner, name, dying)
            with pytest.raises(KeyboardInterrupt):
                study(flags)

    return {"interrupted": interrupted, "killed": killed}[request.param]


def test_a_study_killed_again_and_again_is_the_study_never_killed(base, tmp_path, small_parts, stopped):
    flags, out = f"{base} {SHORT} --samples 4 --limit 12", tmp_path / "out"  # 6 parts
    assert study(f"{flags} --out {tmp_path / 'calm'}") == 0

    def parts() -> dict:
        """Which parts there are, and which files hold them: a part that is sampled again is another file."""
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (out / "parts").glob("*.gz")}

    before, numbers = {}, []
    for when, text, number in KILLS:
        stopped(f"{flags} --out {out}", when, text, number)
        assert not (out / "report.json").exists()
        after = parts()
        assert before.items() <= after.items() or when == "after deleting" or text == "report.html"
        numbers.append(len(after))
        before = after
    assert numbers == [1, 2, 6, 5, 0]
    assert study(f"{flags} --out {out}") == 0
    assert (out / "samples.jsonl.gz").read_bytes() == (tmp_path / "calm" / "samples.jsonl.gz").read_bytes()
    assert report(out) == report(tmp_path / "calm")
    assert (out / "report.html").read_bytes() == (tmp_path / "calm" / "report.html").read_bytes()
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "calm").iterdir())


def test_a_kill_while_the_parts_become_one_file_loses_and_doubles_nothing(base, sharper, tmp_path, monkeypatch):
    flags = f"{SHORT} --samples 4 --limit 6 --rows 4 --out {tmp_path / 'out'}"
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


def test_shards_put_together_are_the_whole(base, sharper, tmp_path, capsys, monkeypatch, small_parts):
    flags = f"{base} {sharper} {SHORT} --samples 4 --limit 8 --rows 4"
    assert study(f"{flags} --out {tmp_path / 'whole'}") == 0
    numbers = []
    for i in (1, 2, 3):
        assert study(f"{flags} --shard {i}/3 --out {tmp_path / f'shard{i}'}") == 0
        assert "without --shard" in capsys.readouterr().out
        assert sorted(path.name for path in (tmp_path / f"shard{i}").iterdir()) == ["parts", "study.json"]
        numbers.append(len(list((tmp_path / f"shard{i}" / "parts").iterdir())))
        shutil.copytree(tmp_path / f"shard{i}", tmp_path / "merged", dirs_exist_ok=True)
    assert numbers == [3, 3, 2]  # of eight parts, four of each model
    monkeypatch.setattr(samples, "draw_samples", None)  # nothing is left to be sampled
    assert study(f"{flags} --out {tmp_path / 'merged'}") == 0
    assert (tmp_path / "merged/samples.jsonl.gz").read_bytes() == (tmp_path / "whole/samples.jsonl.gz").read_bytes()


def test_parts_that_are_broken_or_of_another_study_are_not_taken(base, tmp_path, capsys, small_parts):
    flags, out = f"{base} {SHORT} --samples 4 --limit 8", tmp_path / "out"
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
    flags = f"{SHORT} --samples 4 --limit 8 --out {tmp_path / 'out'}"
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
    flags = f"{SHORT} --samples 4 --limit 6 --out {out}"
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
    assert (out / "samples.jsonl.gz").read_bytes() == before
    (out / "mine.txt").write_text("not of the study")
    assert study(f"{base} {model} {flags} --overwrite") == 0
    assert (out / "mine.txt").exists()
    assert len(read(out)) == 48


def test_a_model_of_which_one_bit_changed_is_another(qwen2):
    before = samples.fingerprint(qwen2)
    assert samples.fingerprint(qwen2) == before
    for weight in qwen2.parameters():
        with torch.no_grad():
            bits = weight.view(torch.int32).view(-1)
            bits[len(bits) // 2] ^= 1
            assert samples.fingerprint(qwen2) != before
            bits[len(bits) // 2] ^= 1
    assert samples.fingerprint(qwen2) == before
    assert samples.fingerprint(qwen2.bfloat16()) != before


def test_parts_of_a_model_as_it_was_before_are_not_taken(base, sharper, tmp_path, small_parts):
    model, flags = tmp_path / "model", f"{SHORT} --samples 4 --limit 8"
    shutil.copytree(base, model)
    assert study(f"{model} {flags} --shard 1/2 --out {tmp_path / 'out'}") == 0
    shutil.rmtree(model)
    shutil.copytree(sharper, model)  # nothing of it is in samples.jsonl.gz, so it may change
    assert study(f"{model} {flags} --out {tmp_path / 'out'}") == 0
    assert study(f"{sharper} {flags} --out {tmp_path / 'sharper'}") == 0
    assert [r["tokens"] for r in read(tmp_path / "out")] == [r["tokens"] for r in read(tmp_path / "sharper")]


# Every setting that samples depend on, and a value of it that gives another study.
OTHERS = {
    "template": "--template r1-zero",
    "samples": "--samples 5",
    "temperature": "--temperature 0.5",
    "top_p": "--top-p 0.9",
    "max_new_tokens": "--max-new-tokens 70",
    "seed": "--seed 1",
    "dtype": "--dtype bfloat16",
    "problems": "--limit 5",
}


def test_samples_that_were_drawn_otherwise_are_refused_and_kept(base, tmp_path, capsys, monkeypatch):
    flags, out = f"{base} {SHORT} --samples 4 --limit 6 --out {tmp_path / 'out'}", tmp_path / "out"
    assert study(flags) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(json.loads((out / "study.json").read_text())["settings"]) == set(OTHERS)
    for name, change in OTHERS.items():
        capsys.readouterr()
        assert study(f"{flags} {change}") == 2, name
        error = capsys.readouterr().err
        assert f"holds another study ({'other problems' if name == 'problems' else name}" in error
        assert "--overwrite" in error
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    monkeypatch.setattr(samples, "draw_samples", None)  # what does not define them may change
    assert study(f"{flags} --rows 3 --review 1") == 0
    assert (out / "samples.jsonl.gz").read_bytes() == before["samples.jsonl.gz"]


@pytest.mark.parametrize("change", [("prompt", "2+2="), ("answer", "5"), ("kind", "choice")])
def test_problems_are_the_same_if_prompt_answer_and_kind_are(change):
    described = dict.fromkeys(folder.IDENTITY, 1)
    problem = {"prompt": "1+3=", "answer": "4", "kind": "math"}
    same = folder.identity(described, [Problem(**problem)])
    assert folder.identity(described, [Problem(**problem)]) == same
    assert folder.identity(described, [Problem(**{**problem, change[0]: change[1]})]) != same


def test_samples_without_their_study_are_not_taken(base, tmp_path, capsys):
    flags, out = f"{base} --samples 2 --limit 3 --perplexity 0 --out {tmp_path / 'out'}", tmp_path / "out"
    assert study(f"{flags} --shard 1/2") == 0
    (out / "study.json").unlink()
    assert study(flags) == 2
    assert "holds parts without study.json" in capsys.readouterr().err


def test_a_run_folder_gets_a_new_study_in_place_of_another_and_settings_stay_as_given(base, tmp_path):
    def settings(**changes):
        given = {"models": [str(base)], "samples": 2, "limit": 3, "perplexity": 0, "device": "cpu"}
        return evaluation.Settings(**given, out=str(tmp_path / "out"), **changes)

    first = settings()
    before = copy.deepcopy(first)
    content = evaluation.run(first)
    assert first == before  # nothing below fills in settings
    assert content == report(tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").write_text("of the run")
    samples_file = tmp_path / "out" / "samples.jsonl.gz"
    inode = samples_file.stat().st_ino
    evaluation.run(settings(), replace=True)
    assert samples_file.stat().st_ino == inode  # the same study is kept
    with pytest.raises(BadInput, match="another study"):
        evaluation.run(settings(seed=1))
    assert evaluation.run(settings(seed=1), replace=True)["seed"] == 1
    assert {tuple(record["seed"])[0] for record in read(tmp_path / "out")} == {1}
    folder.forget(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]


def test_every_model_is_given_the_prompts_of_the_base(base, tmp_path, capsys):
    chat = tmp_path / "chat"
    shutil.copytree(base, chat)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(chat)
    flags = "--samples 2 --limit 4 --perplexity 0"
    assert study(f"{base} {chat} {flags} --out {tmp_path / 'plain'}") == 0
    content, records = report(tmp_path / "plain"), read(tmp_path / "plain")
    assert content["template"] == "plain"  # the base's default; the second model's own would be qwen-boxed
    assert {result["template"] for result in content["models"].values()} == {"plain"}
    # Equal weights, equal random numbers, equal prompts: equal samples.
    assert [r["tokens"] for r in records[:8]] == [r["tokens"] for r in records[8:]]
    assert "note:" not in capsys.readouterr().err
    assert study(f"{chat} {base} {flags} --out {tmp_path / 'chat-first'}") == 2  # now the default is qwen-boxed
    assert "--template qwen-boxed" in capsys.readouterr().err


def test_prompts_that_differ_between_tokenizers_are_said_and_every_model_is_tried(capsys):
    asked, bases = [], []

    class Tokenizer:
        eos_token_id = 1

        def __init__(self, text):
            self.text = text

        def decode(self, prompt):
            return self.text

    def load(model, template):
        asked.append((model, template))
        return samples.Ready(
            tiny_model("qwen2"), Tokenizer("one" if model != "c" else "two"), [[1]], template or "r1-zero"
        )

    template, fingerprints, sizes = samples.try_models(["a", "b", "c"], load, None, bases.append)
    assert template == "r1-zero"
    assert asked == [("a", None), ("b", "r1-zero"), ("c", "r1-zero")]
    assert list(fingerprints) == ["a", "b", "c"]
    assert sizes == dict.fromkeys("abc", VOCABULARY)
    assert [base.tokenizer.text for base in bases] == ["one"]
    notes = capsys.readouterr().err.splitlines()
    assert notes == ["note: the prompts of c differ from those of a"]


def test_samples_are_graded_again_without_being_sampled_again(base, tmp_path, capsys, monkeypatch):
    flags = f"{base} {SHORT} --samples 4 --limit 6 --out {tmp_path / 'out'}"
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
    # Template and dtype are those of the samples, whatever the default or a flag says now.
    assert study(f"{flags} --regrade --template r1-zero --dtype bfloat16") == 0
    assert [report(tmp_path / "out")[name] for name in ("template", "dtype")] == ["plain", "float32"]
    assert study(f"{flags} --regrade --seed 1") == 2
    capsys.readouterr()
    assert study(f"{base} other {flags.removeprefix(str(base))} --regrade --match-entropy") == 2
    assert "leave out --regrade" in capsys.readouterr().err
    assert study(f"other {flags} --regrade") == 2
    assert "no samples of other" in capsys.readouterr().err
    monkeypatch.setattr(samples, "grade", lambda texts, *_: ["3" in text for text in texts])
    assert study(f"{flags} --regrade") == 0
    after = read(tmp_path / "out")
    changed = sum(a["correct"] != b["correct"] for a, b in zip(before, after, strict=True))
    assert changed > 0
    assert f"{changed} of 24 verdicts changed" in capsys.readouterr().out
    assert sum(report(tmp_path / "out")["models"][str(base)]["counts_correct"]) == sum("3" in r["text"] for r in before)


def test_a_study_from_before_there_were_groups_is_graded_again(base, tmp_path, monkeypatch):
    flags, out = f"{base} --samples 4 --limit 12 --perplexity 2 --out {tmp_path / 'out'}", tmp_path / "out"
    assert study(flags) == 0
    new = report(out)
    assert new["chance"] == {"name": "blind guess", "pass_at_k": pytest.approx([0.01, 0.0199, 0.039404], abs=1e-6)}
    assert [group["problems"] for group in new["groups"].values()] == [[i, i + 6] for i in range(6)]
    old = {name: value for name, value in new.items() if name not in ("chance", "groups")}
    old["perplexity"] = [{key: row[key] for key in ("writer", "reader", "problems")} for row in new["perplexity"]]
    (out / "report.json").write_text(json.dumps(old))
    assert study(f"{flags} --regrade") == 0
    again = report(out)
    assert again["groups"]["1 operation"]["models"] == new["groups"]["1 operation"]["models"]
    assert again["groups"]["1 operation"]["perplexity"][0]["right_logp"] is None
    # With a report of now they are kept, unless other responses are right now.
    (out / "report.json").write_text(json.dumps(new))
    assert study(f"{flags} --regrade") == 0
    assert report(out)["perplexity"] == new["perplexity"]
    assert any(row["right_logps"] for row in new["perplexity"])
    monkeypatch.setattr(samples, "grade", lambda texts, *_: ["3" in text for text in texts])
    assert study(f"{flags} --regrade") == 0
    (mine, teachers) = report(out)["perplexity"]
    assert mine["right_logps"] == {}
    assert teachers == new["perplexity"][1]  # nobody has graded a solver
    assert [row["problems"] for row in report(out)["perplexity"]] == [row["problems"] for row in new["perplexity"]]


def test_a_report_of_fewer_models_leaves_nothing_of_the_last_one(base, sharper, tmp_path):
    flags, out = f"--max-new-tokens 20 --samples 4 --limit 6 --perplexity 1 --out {tmp_path / 'out'}", tmp_path / "out"
    assert study(f"{base} {sharper} {flags}") == 0
    table = report(out)["perplexity"]
    assert {(row["writer"], row["reader"]) for row in table} == {
        (str(base), str(base)),
        (str(sharper), str(base)),
        (str(sharper), str(sharper)),
        ("teacher", str(base)),
    }
    assert study(f"{base} {sharper} {flags} --regrade") == 0
    assert report(out)["perplexity"] == table  # without a model, from the report that is there
    assert study(f"{base} {flags} --regrade") == 0
    assert [row["writer"] for row in report(out)["perplexity"]] == [str(base), "teacher"]
    assert study(f"{base} {sharper} {flags}") == 0  # measures it again
    assert report(out)["perplexity"] == table
    assert study(f"{sharper} {flags} --regrade") == 0
    assert report(out)["perplexity"] == [row for row in table if row["writer"] == row["reader"] == str(sharper)]
    assert not (out / "coverage.png").exists()
    assert (out / "perplexity.png").exists()
    assert study(f"{base} {flags} --perplexity 0") == 0
    assert not (out / "perplexity.png").exists()
    assert report(out)["perplexity"] == []
    counted = json.loads((out / "passk.json").read_text())
    assert set(report(out)) - set(counted) == {"compared", "perplexity", "groups", "runs"}
    assert set(counted["models"][str(base)]) == {"template", "temperature"} | {
        f"{what}_{kind}" for what in ("counts", "pass_at_k") for kind in ("correct", "valid")
    } | {"counts_truncated"}


# --- counting ---------------------------------------------------------------------------------------------------------


def test_a_chain_is_valid_only_with_the_right_last_answer():
    texts = [
        "first, 3+2=5 finally, 5+2=7 therefore \\boxed{7}",
        "therefore \\boxed{7}",
        "first, 3+2=5 finally, 5+2=7 therefore \\boxed{7}. No, wait: it is \\boxed{8}",
        "",
    ]
    records = [{"problem": 1, "text": text} for text in texts]
    problems = [Problem("1+1=", "2"), Problem("3+2+2=", "7", "number")]
    graded = samples.add_verdicts(records, problems, run_code=False, valid=toy.valid_chain)
    assert [(r["answer"], r["correct"], r["valid"]) for r in graded] == [
        ("7", True, True),
        ("7", True, False),
        ("8", False, False),
        (None, False, False),
    ]
    assert "valid" not in samples.add_verdicts(records, problems, run_code=False, valid=None)[0]
    assert "correct" not in records[0]  # what was given is left as it was


def write_samples(out, rows) -> None:
    """samples.jsonl.gz of (model, problem, sample, correct, answer, tokens, entropy), 0 for what is left out."""
    names = ("model", "problem", "sample", "correct", "answer", "tokens", "entropy")
    more = {"truncated": False, "text": "", "seed": []}
    write_records(out / "samples.jsonl.gz", [{**dict(zip(names, row, strict=True)), **more} for row in rows])


def test_counts_are_of_the_named_models_and_weigh_tokens_alike(tmp_path):
    rows = [("a", 0, 0, True, "7", [1], 4.0), ("a", 0, 1, False, None, [1, 2, 3], 0.0)]
    rows += [("b", 0, 0, True, "7", [1], 9.0), ("b", 0, 1, True, "7", [1], 9.0)]
    write_samples(tmp_path, rows)
    entries, problems = [samples.Entry("a", "a", 1.0)], [Problem("3+4=", "7")]
    tallies = analysis.count(entries, problems, 2, tmp_path, first=0, chains=False)
    assert list(tallies) == ["a"]
    assert tallies["a"].counts["correct"].tolist() == [1]
    result = analysis.analyse(entries, tallies, problems, 2, "plain")["models"]["a"]
    assert result["entropy"] == 1.0  # (4 + 0 + 0 + 0) / 4: a mean over samples would say 2
    assert result["completion_tokens"] == 2
    assert result["answered"] == 0.5
    assert "interval_correct" not in result  # of one problem
    with pytest.raises(BadInput, match="not all samples of a"):
        analysis.count(entries, problems, 3, tmp_path, first=0, chains=False)
    with pytest.raises(BadInput, match="not all samples of a"):
        analysis.count(entries, problems * 2, 2, tmp_path, first=0, chains=False)


def test_the_first_samples_are_kept_to_be_read_and_right_ones_that_come_later(tmp_path):
    write_samples(tmp_path, [("a", 0, j, j in (2, 7, 8, 9), "7", [1], 0.0) for j in range(12)])
    entries, problems = [samples.Entry("a", "a", 1.0)], [Problem("3+4=", "7")]

    def kept(first):
        tally = analysis.count(entries, problems, 12, tmp_path, first=first, chains=False)["a"]
        return [record["sample"] for record in tally.kept]

    assert kept(0) == [0, 1, 2, 3, 4, 5, 7]  # six, and up to two right ones
    assert kept(8) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_nobody_votes_on_programs_and_every_problem_votes_in_orders_of_its_own(tmp_path):
    write_samples(tmp_path, [("a", 0, j, True, "def f(): ...", [1], 0.0) for j in range(3)])
    entries = [samples.Entry("a", "a", 1.0)]
    tallies = analysis.count(entries, [Problem("?", "{}", "code")], 3, tmp_path, first=0, chains=False)
    assert tallies["a"].answers[0] == [None] * 3  # the texts would fill the memory
    assert tallies["a"].answered == 3
    # 200 equal problems, answers 1, 1, 2, 3: the right one (1) wins a vote of two in 1/6 + 4/6 * 1/2 of the cases.
    # Orders that all problems share would miss that by one problem's noise.
    tally = analysis.Tally(
        {}, {i: list("1123") for i in range(200)}, {i: [True, True, False, False] for i in range(200)}
    )
    assert analysis.votes(tally, [2], 200) == [pytest.approx(1 / 2, abs=0.004)]


def test_models_are_compared_with_the_first_one_pair_by_pair():
    """Hand-made counts, 4 samples of 3 problems: base solves 0, 1, 4 of them, trained 1, 2, 4."""
    entries = [samples.Entry(name, name, 1.0) for name in ("base", "trained")]
    tallies = {}
    for name, right in (("base", [0, 1, 4]), ("trained", [1, 2, 4])):
        verdicts = {i: [True] * c + [False] * (4 - c) for i, c in enumerate(right)}
        answers = {i: ["1" if yes else "2" for yes in verdict] for i, verdict in verdicts.items()}
        counts = {"correct": np.array(right), "truncated": np.array([1, 0, 2])}
        tallies[name] = analysis.Tally(counts, answers, verdicts, [], entropy=6.0, tokens=12, answered=9)
    content = analysis.analyse(entries, tallies, [Problem("1+1=", "2")] * 3, 4, "plain")
    assert content["k"] == [1, 2, 4]
    assert list(content["compared"]) == ["trained"]
    pair, base, trained = content["compared"]["trained"], *content["models"].values()
    # pass@2 of 1 in 4 is 1/2, of 2 in 4 it is 5/6.
    assert base["pass_at_k_correct"] == pytest.approx([5 / 12, 1 / 2, 2 / 3])
    assert trained["pass_at_k_correct"] == pytest.approx([7 / 12, (1 / 2 + 5 / 6 + 1) / 3, 1])
    assert pair["difference_correct"] == pytest.approx([1 / 6, 5 / 18, 1 / 3])
    # The interval of the paired difference: at k = 1 the differences are 1/4, 1/4 and 0, with mean 1/6 and variance
    # 1/48. Its ends are the roots of (1/6 - x)^2 = a (1 - x^2) for a = t^2 / 3 * (1/48) / (1 - 1/36) and t = 3.8517.
    low, high = np.array(pair["difference_interval_correct"])
    assert (low[0], high[0]) == (pytest.approx(-0.15493, abs=1e-4), pytest.approx(0.45633, abs=1e-4))
    assert (low <= pair["difference_correct"]).all()
    assert (high >= pair["difference_correct"]).all()
    # That of one curve lies in 0..1: (7/12 - x)^2 = a x (1 - x), the variance of 1/4, 1/2 and 1 being 7/48.
    assert np.array(trained["interval_correct"])[:, 0] == pytest.approx([0.09011, 0.95190], abs=1e-4)
    assert pair["coverage_correct"] == {"both": [1, 2], "base_only": [], "trained_only": [0], "neither": []}
    assert pair["sampling_efficiency_gap_correct"] == pytest.approx(100 * (2 / 3 - 7 / 12))
    assert pair["crossing_correct"] is None
    assert base["histogram_correct"] == [1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert base["truncated"] == 3 / 12
    assert base["majority_at_k"][-1] == pytest.approx(1 / 3)  # of four votes: 0, 1 and 4 are right


def test_the_gap_is_that_of_256_tries_also_where_there_are_more_samples():
    entries, tallies = [samples.Entry(name, name, 1.0) for name in "ab"], {}
    for name in "ab":
        verdict = {0: [True] + [False] * 511}
        counts = {"correct": np.array([1]), "truncated": np.array([0])}
        tallies[name] = analysis.Tally(counts, {0: ["1"] + ["2"] * 511}, verdict, [], tokens=1)
    pair = analysis.analyse(entries, tallies, [Problem("1+1=", "2")], 512, "plain")["compared"]["b"]
    assert pair["sampling_efficiency_gap_correct"] == pytest.approx(100 * (1 / 2 - 1 / 512))


# --- perplexity and entropy -----------------------------------------------------------------------------------------


def test_perplexity_is_that_of_the_models_own_logits(base, sharper, tmp_path):
    out = tmp_path / "out"
    assert study(f"{base} {sharper} --samples 9 --limit 6 --perplexity 8 --out {out}") == 0
    problems, tokenizer = toy.make_problems("test", 6), AutoTokenizer.from_pretrained(base)

    def expected(writer, reader):
        policy, medians = AutoModelForCausalLM.from_pretrained(reader), {}
        for i, (prompt, _) in enumerate(problems):
            texts = [r["tokens"] for r in read(out) if r["model"] == str(writer) and r["problem"] == i][:8]
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
    with pytest.raises(ValueError, match="without tokens"):
        perplexity.perplexity([])


def test_the_same_response_to_the_same_prompt_is_scored_once(monkeypatch):
    torch.manual_seed(0)
    policy, scored, score = tiny_model("qwen2"), [], perplexity.score
    monkeypatch.setattr(perplexity, "score", lambda *args: scored.append(len(args[1])) or score(*args))
    prompts = [[1, 2, 3], [4, 5]]
    said = [(0, [6, 7]), (1, [6, 7]), (0, [6, 7]), (0, [6]), (0, [6, 7])]  # a problem, and the response to it
    pairs = [(prompts[problem], np.array(tokens, dtype=np.int32)) for problem, tokens in said]
    found = {i: logps.tolist() for i, logps, _ in perplexity.token_values(policy, pairs)}
    for i, (problem, tokens) in enumerate(said):
        logits = policy(input_ids=torch.tensor([prompts[problem] + tokens])).logits[0, len(prompts[problem]) - 1 : -1]
        assert found[i] == pytest.approx(logits.log_softmax(-1)[range(len(tokens)), tokens].tolist(), abs=1e-5)
    assert sum(scored) == 3


class Letters:
    """A tokenizer of letters, a to w, that drops other characters."""

    def __call__(self, text, add_special_tokens):
        return {"input_ids": [ord(c) - ord("a") for c in text if "a" <= c <= "w"]}

    def decode(self, tokens, skip_special_tokens=False):
        return "".join(chr(ord("a") + token) for token in tokens)


def test_who_reads_what_and_how_much_of_it_counts():
    torch.manual_seed(0)
    policies = {"base": tiny_model("qwen2"), "trained": tiny_model("gpt2")}
    prompts = [[1, 2, 3], [4, 5]]

    def load(model):
        return samples.Ready(policies[model], Letters(), prompts, "plain")

    def value(model, problem, tokens):
        """The perplexity, and each token's log-probability and self-certainty, from the whole distribution."""
        ids = torch.tensor([prompts[problem] + tokens])
        logps = policies[model](input_ids=ids).logits[0, len(prompts[problem]) - 1 : -1].log_softmax(-1)  # [T, V]
        chosen = logps[range(len(tokens)), tokens]
        return chosen.neg().mean().exp().item(), chosen.tolist(), (-logps.mean(-1) - np.log(23)).tolist()

    def record(problem, sample, text):
        tokens = Letters()(text, False)["input_ids"]
        return {"problem": problem, "sample": sample, "tokens": np.array(tokens, dtype=np.int32), "text": text}

    texts = ("ab", "cde", "fghij", "k")
    written = {
        name: [record(0, j, shift + text) for j, text in enumerate(texts)] for name, shift in (("base", ""), ("t", "q"))
    }
    entries = [samples.Entry("base", "base", 1.0), samples.Entry("t", "trained", 0.5)]
    # The teacher's responses all count, but for one that no token is left of.
    teacher = [{"problem": 1, "text": text} for text in ("mno", "pq", "!")]
    shown = [written["base"][0], written["t"][3]]
    table = perplexity.perplexities(entries, written, teacher, load, 3, shown)
    rows = {(row["writer"], row["reader"]): row["problems"] for row in table}
    assert list(rows) == [("base", "base"), ("t", "base"), ("teacher", "base"), ("t", "trained")]

    def median(model, records):
        return np.median([value(model, r["problem"], Letters()(r["text"], False)["input_ids"])[0] for r in records])

    assert rows["base", "base"] == {0: pytest.approx(median("base", written["base"][:3]), rel=1e-4)}
    assert rows["t", "base"] == {0: pytest.approx(median("base", written["t"][:3]), rel=1e-4)}
    assert rows["t", "trained"] == {0: pytest.approx(median("trained", written["t"][:3]), rel=1e-4)}
    assert rows["teacher", "base"] == {1: pytest.approx(median("base", teacher[:2]), rel=1e-4)}
    # Records for the page have the values of the model that wrote them, whichever number they have.
    for model, shown_record in (("base", shown[0]), ("trained", shown[1])):
        _, logps, certainty = value(model, 0, shown_record["tokens"].tolist())
        assert shown_record["logps"] == pytest.approx(logps, abs=1e-4)
        assert shown_record["certainty"] == pytest.approx(certainty, abs=1e-4)
        assert shown_record["pieces"] == list(shown_record["text"])
    assert sum("logps" in r for records in written.values() for r in records) == 2
    assert perplexity.perplexities(entries, written, teacher, None, 0, shown) == []  # 0 of them: no model is needed
    # Responses of which no token is left give no row, and no number that is none.
    silent = [{"problem": 0, "text": "!"}]
    assert [row["writer"] for row in perplexity.perplexities(entries[:1], {}, silent, load, 3, [])] == []


def test_how_likely_a_right_response_is_as_a_whole_is_the_product_of_its_tokens():
    policy = tiny_model("qwen2")

    def record(sample, text, correct):
        return {"problem": 0, "sample": sample, "text": text, "correct": correct}

    # Number 7 was kept because it is right: it is in no perplexity, and among the right ones it counts as any other.
    written = {"base": [record(0, "ab", True), record(1, "cd", False), record(7, "e", True)]}
    load = {"base": samples.Ready(policy, Letters(), [[1, 2, 3]], "plain")}.get
    (row,) = perplexity.perplexities([samples.Entry("base", "base", 1.0)], written, [], load, 2, [])

    def p(before, token):
        return policy(input_ids=torch.tensor([before])).logits[0, -1].softmax(-1)[token].item()

    two, one = p([1, 2, 3], 0) * p([1, 2, 3, 0], 1), p([1, 2, 3], 4)  # "ab" and "e"
    assert row["right_logps"] == {0: pytest.approx((np.log(two) + np.log(one)) / 2, rel=1e-4)}
    wrong = {"base": [record(1, "cd", False)]}
    assert perplexity.perplexities([samples.Entry("base", "base", 1.0)], wrong, [], load, 2, [])[0]["right_logps"] == {}


def test_sampled_tokens_are_scored_unless_they_mean_other_text_to_the_reader():
    record = {"text": "ab", "tokens": np.array([0, 1], dtype=np.int32)}
    assert perplexity.response_tokens(record, Letters()).tolist() == [0, 1]
    foreign = {"text": "ab", "tokens": np.array([7, 8, 9], dtype=np.int32)}
    assert perplexity.response_tokens(foreign, Letters()).tolist() == [0, 1]
    assert perplexity.response_tokens({"text": "c"}, Letters()).tolist() == [2]


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


def test_a_teacher_gives_at_most_as_many_responses_to_a_problem_as_are_measured(tmp_path):
    problems = [Problem("1+1=", "2"), Problem("2+2=", "4")]
    rows = [{"problem": " 1+1= ", "response": f"said {j}"} for j in range(5)] + [{"question": "2+2=", "response": "4"}]
    (tmp_path / "teacher.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = perplexity.teacher_responses(problems, str(tmp_path / "teacher.jsonl"), 3, toy.reason)
    assert found == [{"problem": 0, "text": f"said {j}"} for j in range(3)] + [{"problem": 1, "text": "4"}]
    chains = perplexity.teacher_responses(problems, None, 3, toy.reason)  # a toy world answers itself
    assert [row["problem"] for row in chains] == [0, 0, 0, 1, 1, 1]
    assert all(toy.valid_chain(row["text"], problems[row["problem"]].prompt) for row in chains)
    assert perplexity.teacher_responses(problems, None, 3, None) == []


def test_a_character_of_several_tokens_belongs_to_the_last_of_them():
    class Bytes:
        def decode(self, tokens):
            return bytes(tokens).decode(errors="replace")

    text = "a\u00e9\u4e16\U0001f600b"
    found = perplexity.split_text(np.frombuffer(text.encode(), dtype=np.uint8), Bytes())
    assert found == ["a", "", "\u00e9", "", "", "\u4e16", "", "", "", "\U0001f600", "b"]
    assert "".join(perplexity.split_text(np.array([0xFF] * 6), Bytes())) == "\ufffd" * 6


@pytest.mark.parametrize(
    ("number", "limit", "tolerance"), [(16, 6, 0.25), pytest.param(48, 12, 0.05, marks=pytest.mark.slow)]
)
def test_the_matching_temperature_of_doubled_logits_is_two(base, sharper, tmp_path, number, limit, tolerance):
    """Up to the luck of so many samples of so many problems."""
    out = tmp_path / "out"
    flags = f"--samples {number} --limit {limit} --match-entropy --perplexity 0 --out {out}"
    assert study(f"{base} {sharper} {flags}") == 0
    models = report(out)["models"]
    (label,) = set(models) - {str(base), str(sharper)}
    assert models[label]["temperature"] == pytest.approx(2, rel=tolerance)
    assert models[str(sharper)]["entropy_ratio"] < 0.8
    assert models[label]["entropy_ratio"] == pytest.approx(1, abs=tolerance)
    ratio = models[label]["entropy"] / models[str(base)]["entropy"]
    assert models[label]["entropy_ratio"] == pytest.approx(ratio, 1e-4)


SAMPLING = samples.Sampling(number=20, temperature=1.0, top_p=1.0, max_new_tokens=8, rows=4, seed=3)


def test_a_matching_temperature_is_found_on_any_smooth_curve_or_refused(monkeypatch):
    asked, luck = [], {1: 1.0, 2: 1.0}  # of the two blocks

    def spread(ready, sampling, block):
        asked.append(sampling.temperature)
        return luck[block] * ready(sampling.temperature)

    monkeypatch.setattr(entropy, "entropy_of", spread)
    for curve in (lambda T: T**3, lambda T: 2 * T / (1 + T), lambda T: 5 * T - 0.2):
        for wanted in (0.21, 0.9, 1.0, 1.3, 3.1):
            found = entropy.matching_temperature(curve, curve(wanted), SAMPLING)
            assert curve(found) == pytest.approx(curve(wanted), rel=0.0051)
            assert found == round(found, 3)
            luck[1] = 1.05  # the block of the search has 5 % more than there is: the other one tells
            found = entropy.matching_temperature(curve, curve(wanted), SAMPLING)
            assert curve(found) == pytest.approx(curve(wanted), rel=0.01)
            luck[1] = 1.0
    assert max(asked) <= 4
    with pytest.raises(BadInput, match="no temperature from 0.05 to 4"):
        entropy.matching_temperature(lambda T: T, 9.0, SAMPLING)
    with pytest.raises(BadInput, match="no temperature"):
        entropy.matching_temperature(lambda T: T, 0.001, SAMPLING)


def test_the_entropy_of_a_model_is_a_mean_over_tokens_of_a_few_samples_of_each_problem(monkeypatch):
    asked = []

    def draw(ready, chosen, sampling):
        asked.append((chosen, sampling.number, sampling.temperature, sampling.seed))
        return iter([{"entropy": 4.0, "tokens": [1]}, {"entropy": 0.0, "tokens": [1, 2, 3]}])

    monkeypatch.setattr(entropy, "draw_samples", draw)
    ready = samples.Ready(tiny_model("qwen2"), None, [[1]] * 5, "plain")
    assert entropy.entropy_of(ready, SAMPLING._replace(temperature=0.5), 1) == 1.0
    assert asked == [(range(5), 16, 0.5, 1003)]  # of twenty, and not the study's own random numbers
    entropy.entropy_of(ready, SAMPLING, 2)
    assert asked[-1][1:] == (20, 1.0, 2003)  # nor those of the search
    entropy.entropy_of(ready._replace(prompts=[[1]] * 1000), SAMPLING, 1)
    assert asked[-1][1] == 2  # all problems, and few samples of each


def test_matched_temperatures_are_the_bases_kept_and_not_searched_again(tmp_path, monkeypatch):
    entries = [samples.Entry(name, name, 1.0) for name in ("base", "b", "c", "d")]
    settings = dict.fromkeys((*folder.IDENTITY, "problems"), "")
    folder.write_study(tmp_path, {"settings": settings, "matched": {}, "models": {}})
    matching = {"b": 0.5, "c": 1.0, "d": 2.0}
    written = [("base", [1], 9.0), ("b", [1], 1.0), ("base", [1, 2], 6.0)]
    write_samples(tmp_path, [(model, 0, 0, True, "7", *rest) for model, *rest in written])

    def search(ready, target, sampling):
        if matching[ready] is None:
            raise KeyboardInterrupt
        assert target == 7.0
        return matching[ready]

    monkeypatch.setattr(entropy, "matching_temperature", search)
    with pytest.raises(BadInput, match="leave out --regrade"):
        entropy.matched_entries(entries, tmp_path, SAMPLING, None)
    matching["d"] = None  # killed while the last one is searched
    with pytest.raises(KeyboardInterrupt):
        entropy.matched_entries(entries, tmp_path, SAMPLING, lambda model: model)
    assert folder.read_study(tmp_path)["matched"] == {"base": {"b": 0.5, "c": 1.0}}
    matching.update(b=None, c=None, d=2.0)
    found = entropy.matched_entries(entries, tmp_path, SAMPLING, lambda model: model)
    # c has the base's entropy as it is, and is not sampled twice.
    assert found == [("b at T=0.5", "b", 0.5), ("d at T=2", "d", 2.0)]
    assert entropy.matched_entries(entries, tmp_path, SAMPLING, None) == found


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


def test_the_defaults_that_depend_on_other_flags(tmp_path):
    def filled(flags):
        return evaluation.fill_in(evaluation.parse(shlex.split(flags)))

    assert (filled("a").limit, filled("a").max_new_tokens, filled("a").dtype) == (180, 80, "float32")
    other = filled("a --data math500")
    assert (other.limit, other.max_new_tokens, other.dtype) == (180, 1024, "auto")
    assert filled("a --recipe limit-of-rlvr").limit == filled("a --temperature 0").limit == 180
    assert filled("a --data math500 --temperature 0").limit is None  # as published figures are
    assert filled("a --data math500 --temperature 0 --limit 7").limit == 7
    given = filled("a --limit 7 --max-new-tokens 9 --dtype bfloat16")
    assert (given.limit, given.max_new_tokens, given.dtype) == (7, 9, "bfloat16")
    assert filled(f"{tmp_path}/ a/b").models == [str(tmp_path), "a/b"]  # so that a folder has one name
    assert filled("a --shard 2/4").shard == (2, 4)
    plain = evaluation.parse(["a"])
    values = (plain.samples, plain.temperature, plain.top_p, plain.rows, plain.perplexity, plain.seed, plain.review)
    assert values == (64, 1.0, 1.0, 384, 16, 0, 0)
    assert (plain.data, plain.out, plain.shard, plain.template) == (None, "runs/eval", (1, 1), None)


def test_the_problems_are_by_default_those_of_the_base_model(tmp_path):
    def data_of(flags):
        return evaluation.fill_in(evaluation.parse(shlex.split(flags))).data

    assert data_of("toy-weak@2 a") == "toy"
    assert data_of("toy-search a") == "toy-search"
    assert data_of("toy-search a --data gsm8k") == "gsm8k"
    (tmp_path / "config.json").write_text('{"minreason": {"data": "math", "eval_data": "math500"}}')
    assert data_of(f"{tmp_path} toy") == "math500"
    assert data_of("a toy-search") == "toy"


def test_the_paper_is_a_recipe_which_flags_change():
    settings = evaluation.parse(["a", "b", "--recipe", "limit-of-rlvr", "--data", "math500"])
    settings = evaluation.fill_in(settings)
    assert (settings.samples, settings.temperature, settings.top_p) == (256, 0.6, 0.95)
    assert (settings.max_new_tokens, settings.limit) == (16_384, None)
    settings = evaluation.parse(["a", "b", "--samples", "9", "--recipe", "limit-of-rlvr", "--top-p", "1"])
    settings = evaluation.fill_in(settings)
    assert (settings.samples, settings.temperature, settings.top_p) == (9, 0.6, 1)
    assert (settings.max_new_tokens, settings.limit) == (80, 180)  # of the toy


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("no/such/folder", "--model no/such/folder"),
        ("BASE no/such/folder", "--model no/such/folder"),
        ("BASE BASE", "named twice"),
        ("BASE --recipe nosuch", "limit-of-rlvr"),
        ("BASE --data nosuch", "--data nosuch"),
        ("BASE --samples 0", "--samples 0"),
        ("BASE --temperature 0 --samples 2", "--temperature 0"),
        ("BASE --temperature nan", "--temperature nan"),
        ("BASE --temperature -0.1", "--temperature -0.1"),
        ("BASE --top-p 0", "--top-p 0"),
        ("BASE --top-p 1.5", "--top-p 1.5"),
        ("BASE --limit 0", "--limit 0"),
        ("BASE --rows 0", "--rows 0"),
        ("BASE --max-new-tokens 0", "--max-new-tokens 0"),
        ("BASE --seed -1", "--seed -1"),
        ("BASE --review -1", "--review -1"),
        ("BASE --dtype float8", "--dtype float8"),
        ("BASE --device nosuch", "--device nosuch"),
        ("BASE teacher", "MODEL teacher"),
        ("BASE --template nosuch", "--template nosuch"),
        ("BASE --max-new-tokens 510", "context"),
        ("BASE --perplexity -1", "--perplexity -1"),
        ("BASE --match-entropy", "--match-entropy"),
        ("BASE other --match-entropy --temperature 0 --samples 1", "--match-entropy"),
        ("BASE other --match-entropy --shard 1/2", "--match-entropy: not with --shard"),
        ("BASE --overwrite --shard 1/2", "--overwrite: not with --shard"),
        ("BASE --regrade --shard 1/2", "--regrade: keeps the samples"),
        ("BASE --regrade --overwrite", "--regrade: keeps the samples"),
        ("BASE --teacher teacher.jsonl --perplexity 0", "--perplexity 0"),
        ("BASE --teacher nosuch.jsonl", "--teacher nosuch.jsonl"),
        ("''", "MODEL ''"),
        ("BASE --data ''", "--data ''"),
        ("BASE --template ''", "--template ''"),
        ("BASE --teacher ' '", "--teacher ' '"),
        ("BASE --samples 1099511627776", "--samples 1099511627776: must be between 1 and"),
        ("BASE --limit 1000000000000", "--limit 1000000000000: must be between 1 and"),
        ("BASE --perplexity 1000000000000", "--perplexity 1000000000000"),
        ("BASE --temperature 1e-300", "--temperature 1e-300: too small to divide by; 0 is greedy"),
        ("BASE --temperature 1e300", "--temperature 1e+300"),
        ("BASE --top-p 1e-300", "--top-p 1e-300: too small"),
        ("BASE --max-new-tokens 1000000000000", "--max-new-tokens 1000000000000: the model"),
        (f"BASE --data {'a' * 300}", "--data aaa"),
        (f"BASE {'a' * 300}", "MODEL aaa"),
        ("BASE --teacher /", "--teacher /: is no file"),
    ],
)
def test_bad_input_to_eval(base, tmp_path, capsys, flags, said):
    out = tmp_path / "out"
    assert study(f"{flags.replace('BASE', str(base))} --out {out}") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert said in error[0]
    assert not out.exists()


@pytest.mark.parametrize(("out", "said"), [("''", "--out ''"), ("a" * 300, "too long"), (__file__, "is a file")])
def test_an_out_that_can_be_no_folder_is_refused(base, tmp_path, capsys, monkeypatch, out, said):
    monkeypatch.chdir(tmp_path)
    assert study(f"{base} --out {out}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--out" in line
    assert said in line
    assert not list(tmp_path.iterdir())


TEXT = toy.make_problems("test", 1)[0][0]
TEACHERS = {
    "empty": b"",
    "binary": bytes(range(256)),
    "other columns": b'{"a": 1}',
    "a line break in a column": b'{"a\\nb": 1}',
    "a list": b"[1]",
    "a number": b"7",
    "deep": b"[" * 100_000,
    "no text": json.dumps({"problem": TEXT, "response": None}).encode(),
    "half a character": json.dumps({"problem": TEXT, "response": "\ud800"}).encode(),
    "a million characters": json.dumps({"problem": TEXT, "response": "1+" * 500_000}).encode(),
    "more than the context": json.dumps({"problem": TEXT, "response": "1+" * 260}).encode(),
    "cut": json.dumps({"problem": TEXT, "response": "1"}).encode()[:-3],
    "cut.gz": gzip.compress(json.dumps({"problem": TEXT, "response": "1"}).encode())[:-9],
    "no gzip.gz": json.dumps({"problem": TEXT, "response": "1"}).encode(),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teachers_file_that_cannot_be_used_is_named(base, tmp_path, capsys, name):
    path = tmp_path / f"teacher.jsonl{'.gz' if name.endswith('.gz') else ''}"
    path.write_bytes(TEACHERS[name])
    assert study(f"{base} --samples 2 --limit 1 --teacher {path} --out {tmp_path / 'out'}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"eval.py: --teacher {path}")
    assert "; " in line  # the way out
    assert not (tmp_path / "out").exists()


def test_a_response_that_fills_the_context_to_its_last_token_is_measured():
    policy, prompts = tiny_model("gpt2"), [[1, 2, 3]]  # of 64 positions
    perplexity.check_fits([(0, "a" * 61)], "x.jsonl", policy, Letters(), prompts)
    for long in ("a" * 62, "a" * 10**7):
        with pytest.raises(BadInput, match="61 tokens fit"):
            perplexity.check_fits([(0, long)], "x.jsonl", policy, Letters(), prompts)


def test_a_model_without_an_end_token_is_sampled_and_that_is_said(base, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(samples, "end_tokens", lambda policy, tokenizer: [])
    assert study(f"{base} {SHORT} --samples 2 --limit 3 --out {tmp_path / 'out'}") == 0
    assert f"note: {base} has no end token" in capsys.readouterr().err
    assert all(record["truncated"] for record in read(tmp_path / "out"))


def test_sigterm_ends_a_study_with_one_line_and_the_same_command_goes_on(
    base, tmp_path, capsys, monkeypatch, small_parts
):
    flags, out = f"{base} {SHORT} --samples 4 --limit 6", tmp_path / "out"
    assert study(f"{flags} --out {tmp_path / 'calm'}") == 0
    draw, times = samples.draw_samples, itertools.count(1)

    def terminated(*arguments):
        if next(times) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        yield from draw(*arguments)

    before = signal.getsignal(signal.SIGTERM)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(samples, "draw_samples", terminated)
        patch.setattr(sys, "argv", ["eval.py"])
        try:
            assert program(lambda: study(f"{flags} --out {out}"), "the same command goes on") == 143
        finally:
            signal.signal(signal.SIGTERM, before)
    lines = [line.rpartition("\r")[2] for line in capsys.readouterr().err.splitlines()]
    assert [line for line in lines if "samples/s" not in line and line] == [
        "eval.py: stopped; the same command goes on"
    ]
    assert sorted(path.name for path in out.iterdir()) == ["parts", "study.json"]
    assert study(f"{flags} --out {out}") == 0
    assert (out / "samples.jsonl.gz").read_bytes() == (tmp_path / "calm" / "samples.jsonl.gz").read_bytes()


@pytest.mark.parametrize("flags", ["--shard 0/2", "--shard 3/2", "--shard two"])
def test_argparse_refuses_the_rest(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        study(f"toy {flags}")
    assert stopped.value.code == 2
    assert flags.split()[0] in capsys.readouterr().err
