"""The folder of a study: what is deleted, what is refused, and what a kill or a full disk leaves."""

import gzip
import io
import json
import multiprocessing
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import torch

import eval as evaluation
from running.files import BadInput, replace_bytes
from study import folder, records, samples

pytestmark = pytest.mark.usefixtures("no_pictures", "small_parts")
FLAGS = "--samples 4 --limit 6 --max-new-tokens 20 --perplexity 1 --review 1"  # 3 parts
FIRST = "parts/*-00000.jsonl.gz"


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of eight completions, so that a small study has several."""
    monkeypatch.setattr(samples, "PART", 8)


def study(flags: str) -> int:
    return evaluation.main(shlex.split(flags))


def contents(path: Path) -> dict:
    """Every file below a folder, as bytes; None for a folder."""
    found = sorted(path.rglob("*"))
    return {str(file.relative_to(path)): file.read_bytes() if file.is_file() else None for file in found}


def refusal(flags: str, capsys) -> str:
    """The one line with which a command is refused. (Bars that came before end in a carriage return.)"""
    capsys.readouterr()
    assert study(flags) == 2
    lines = [line.rpartition("\r")[2] for line in capsys.readouterr().err.splitlines()]
    said = [line for line in lines if line.startswith("eval.py: ")]
    assert len(said) == 1, lines
    assert "Traceback" not in lines[0]
    return said[0]


def no_picture(content, path) -> str:
    replace_bytes(path, b"")  # as a picture is written
    return ""


@pytest.fixture(scope="session")
def calm(base, tmp_path_factory):
    """An undisturbed study, finished, and one of which the parts alone are there: (folder, folder)."""
    out, shard = tmp_path_factory.mktemp("calm") / "out", tmp_path_factory.mktemp("calm") / "shard"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "PART", 8)
        patch.setattr(evaluation, "PICTURES", dict.fromkeys(evaluation.PICTURES, no_picture))
        assert study(f"{base} {FLAGS} --out {out}") == 0
        assert study(f"{base} {FLAGS} --shard 1/2 --out {shard}") == 0
    return out, shard


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


# --- what is deleted ------------------------------------------------------------------------------------------------


FOREIGN = (
    "notes.txt", "report.html.bak", "report.html.1", "report.htm", "samples.jsonl.gz.old", "study.json.bak",
    "parts/mine.txt", "parts/mine.jsonl.gz", "parts.old/a", "x/report.json", "passk.png.new",
)  # fmt: skip


def plant(out: Path, *names: str) -> dict:
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(f"mine: {name}")
    return {name: (out / name).read_bytes() for name in names}


@pytest.mark.parametrize("how", ["overwrite", "replace", "forget"])
def test_only_what_the_study_wrote_is_deleted(base, calm, tmp_path, how):
    out = copy(calm[0], tmp_path / "out")
    shutil.copytree(calm[1] / "parts", out / "parts")  # as if it were being added to
    mine = plant(out, *FOREIGN)
    if how == "overwrite":
        assert study(f"{base} {FLAGS} --seed 1 --overwrite --out {out}") == 0
    elif how == "replace":
        flags = shlex.split(f"{base} {FLAGS} --seed 1 --out {out}")
        evaluation.run(evaluation.parse(flags), replace=True)
    else:
        folder.forget(out)
    kept = contents(out)
    assert mine.items() <= kept.items()
    theirs = {name for name, data in kept.items() if data is not None} - set(FOREIGN)
    assert theirs == (set() if how == "forget" else {name for name, data in contents(calm[0]).items()})
    if how != "forget":
        assert kept["samples.jsonl.gz"] != contents(calm[0])["samples.jsonl.gz"]


@pytest.mark.parametrize(
    "name", [*FOREIGN, "report.html", "report.json", "parts/a", "unfinished/a", "samples.jsonl.gz"]
)
def test_a_folder_that_is_no_study_is_not_overwritten(base, tmp_path, capsys, name):
    out = tmp_path / "out"
    plant(out, name)
    before = contents(out)
    said = refusal(f"{base} {FLAGS} --overwrite --out {out}", capsys)
    assert "--overwrite" in said and "another --out" in said
    assert contents(out) == before
    ours = name.split("/")[0] in (*folder.REPORT, "samples.jsonl.gz", "parts", "unfinished")
    if ours:  # in the way of a study also without --overwrite
        assert name.split("/")[0] in refusal(f"{base} {FLAGS} --out {out}", capsys)
        assert contents(out) == before
        with pytest.raises(BadInput, match="without study.json"):
            folder.forget(out)
    else:
        folder.forget(out)
    assert contents(out) == before


def test_what_a_kill_left_of_the_first_study_json_is_no_obstacle(base, calm, tmp_path):
    plant(tmp_path / "out", "study.json.77.new")
    assert study(f"{base} {FLAGS} --overwrite --out {tmp_path / 'out'}") == 0
    assert contents(tmp_path / "out") == contents(calm[0])


def test_a_file_that_came_beside_the_study_is_not_written_over(base, calm, tmp_path, capsys):
    out = copy(calm[0], tmp_path / "out")
    (out / "coverage.png").unlink(missing_ok=True)  # of one model there is none
    mine = plant(out, "coverage.png")
    for flags in ("", "--overwrite", "--regrade"):
        assert "coverage.png: is not of this study" in refusal(f"{base} {FLAGS} {flags} --out {out}", capsys)
        assert mine.items() <= contents(out).items()
    shutil.rmtree(out)
    out = copy(calm[0], tmp_path / "out")
    plant(out, "unfinished/thesis.txt")
    assert "thesis.txt: is not of this study" in refusal(f"{base} {FLAGS} --overwrite --out {out}", capsys)


def test_a_study_of_an_earlier_version_is_gone_on_with_and_overwritten(base, calm, tmp_path, monkeypatch):
    out = copy(calm[0], tmp_path / "out")
    new = json.loads((out / "study.json").read_text())
    (out / "study.json").write_text(json.dumps({name: new[name] for name in ("settings", "matched", "models")}))
    monkeypatch.setattr(samples, "draw_samples", None)  # nothing is sampled again
    assert study(f"{base} {FLAGS} --out {out}") == 0
    assert contents(out).items() - {("study.json", contents(out)["study.json"])} <= contents(calm[0]).items()
    held = json.loads((out / "study.json").read_text())
    held["models"] = {name: weights[:16] for name, weights in held["models"].items()}
    (out / "study.json").write_text(json.dumps({name: held[name] for name in ("settings", "matched", "models")}))
    assert study(f"{base} {FLAGS} --out {out}") == 0
    folder.forget(out)
    assert contents(out) == {}


# --- damaged files --------------------------------------------------------------------------------------------------


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one byte less": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a list": lambda path: write_text(path, "[]"),
    "a number": lambda path: write_text(path, "7"),
    "an object": lambda path: write_text(path, "{}"),
    "an empty study": lambda path: write_text(path, '{"settings": {}, "matched": {}, "models": {}}'),
    "deep": lambda path: write_text(path, "[" * 100_000),
    "a letter": lambda path: write_text(path, read_text(path).replace("e", "f", 1)),
}


def read_text(path: Path) -> str:
    return (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8").read()


def write_text(path: Path, text: str) -> None:
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8") as file:
        file.write(text)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["study.json", "samples.jsonl.gz", FIRST])
def test_a_damaged_file_is_named_and_nothing_is_changed(base, calm, tmp_path, capsys, monkeypatch, name, how):
    monkeypatch.setattr(samples, "draw_samples", None)  # it is seen before anything is sampled
    out = copy(calm[name == FIRST], tmp_path / "out")
    (path,) = out.glob(name)
    DAMAGES[how](path)
    before = contents(out)
    for flags in [""] if name == FIRST else ["", "--regrade"]:
        said = refusal(f"{base} {FLAGS} {flags} --out {out}", capsys)
        assert path.name in said
        assert any(way in said for way in ("copy it again", "delete it", "--overwrite", "move it away")), said
        assert contents(out) == before


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_report_is_refused_where_it_is_read_and_mended_where_it_is_not(base, calm, tmp_path, capsys, how):
    out = copy(calm[0], tmp_path / "out")
    DAMAGES[how](out / "report.json")
    before = contents(out)
    said = refusal(f"{base} {FLAGS} --regrade --out {out}", capsys)
    assert "report.json" in said and ("leave out --regrade" in said or "move it away" in said)
    assert contents(out) == before
    if how != "a folder":
        assert study(f"{base} {FLAGS} --out {out}") == 0
        assert contents(out) == contents(calm[0])


def test_a_missing_file_is_said(base, calm, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(samples, "draw_samples", None)
    for name, flags, said in (
        ("samples.jsonl.gz", "", "copy it again, or give --overwrite"),
        ("samples.jsonl.gz", "--regrade", "leave the flag out"),
        ("study.json", "", "without study.json"),
        ("study.json", "--regrade", "leave the flag out"),
        ("report.json", "--regrade", "add --perplexity 0"),
    ):
        out = copy(calm[0], tmp_path / f"{name}{flags}")
        (out / name).unlink()
        before = contents(out)
        assert said in refusal(f"{base} {FLAGS} {flags} --out {out}", capsys)
        assert contents(out) == before
    assert study(f"{base} {FLAGS} --regrade --out {out} --perplexity 0") == 0
    assert json.loads((out / "report.json").read_text())["perplexity"] == []


def test_no_changed_byte_of_a_sealed_file_or_of_the_samples_is_believed(calm, tmp_path):
    """Every byte of study.json, and many of the others, is turned: it is refused, or says the same as before."""
    out, shape = copy(calm[0], tmp_path / "out"), records.Shape(6, 4, 20, 0, True)
    readings = {
        "study.json": (1, lambda: folder.read_study(out)),
        "report.json": (29, lambda: folder.old_report(out, 1)),
        "samples.jsonl.gz": (9, lambda: (folder.sampled_labels(out, shape), [*folder.read_samples(out)])),
    }
    for name, (stride, reading) in readings.items():
        whole, right, refused, places = (out / name).read_bytes(), reading(), 0, 0
        for place in range(0, len(whole), stride):
            turned = bytearray(whole)
            turned[place] ^= 1 << place % 7
            (out / name).write_bytes(turned)
            places += 1
            try:
                found = reading()
            except BadInput as error:
                assert name in str(error)
                refused += 1
            else:
                if name != "study.json" and isinstance(found, dict):
                    found = {key: value for key, value in found.items() if key in right}  # the word "checksum" itself
                assert found == right, place
        (out / name).write_bytes(whole)
        assert refused > 0.8 * places  # spaces between, a time in gzip's header


HUGE = 10**400
WRONG = {
    "no tokens": lambda r: r.pop("tokens"),
    "no entropy": lambda r: r.pop("entropy"),
    "text only": lambda r: [r.pop(name) for name in [*r] if name not in ("model", "problem", "sample", "text")],
    "no valid": lambda r: r.pop("valid"),
    "no correct": lambda r: r.pop("correct"),
    "no answer": lambda r: r.pop("answer"),
    "tokens []": lambda r: r.update(tokens=[]),
    "tokens true": lambda r: r["tokens"].append(True),
    "tokens 1.0": lambda r: r["tokens"].append(1.0),
    "tokens -1": lambda r: r["tokens"].__setitem__(0, -1),
    "tokens beyond the vocabulary": lambda r: r["tokens"].__setitem__(0, 10**6),
    "tokens huge": lambda r: r["tokens"].__setitem__(0, HUGE),
    "tokens text": lambda r: r.update(tokens="abc"),
    "too many tokens": lambda r: r.update(tokens=[1] * 21),
    "correct 7": lambda r: r.update(correct=7),
    "correct null": lambda r: r.update(correct=None),
    "valid text": lambda r: r.update(valid="yes"),
    "truncated 1": lambda r: r.update(truncated=1),
    "problem 999": lambda r: r.update(problem=999, seed=[0, 999, r["sample"]]),
    "problem -1": lambda r: r.update(problem=-1),
    "problem true": lambda r: r.update(problem=True),
    "sample 5": lambda r: r.update(sample=5),
    "sample of another": lambda r: r.update(sample=1 - r["sample"], seed=[0, r["problem"], 1 - r["sample"]]),
    "tokens null": lambda r: r.update(tokens=None),
    "truncated null": lambda r: r.update(truncated=None),
    "entropy null": lambda r: r.update(entropy=None),
    "seed null": lambda r: r.update(seed=None),
    "seed": lambda r: r.update(seed=[1, r["problem"], r["sample"]]),
    "entropy nan": lambda r: r.update(entropy=float("nan")),
    "entropy inf": lambda r: r.update(entropy=float("inf")),
    "entropy -3": lambda r: r.update(entropy=-3.0),
    "entropy huge": lambda r: r.update(entropy=HUGE),
    "entropy text": lambda r: r.update(entropy="1.0"),
    "text null": lambda r: r.update(text=None),
    "half a character": lambda r: r.update(text="\ud800"),
    "answer 7": lambda r: r.update(answer=7),
    "model 7": lambda r: r.update(model=7),
    "model other": lambda r: r.update(model="other"),
}


def spoil(path: Path, change, line: int = 1) -> None:
    rows = [json.loads(text) for text in read_text(path).splitlines()]
    change(rows[line])
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("name", "wrong"), [*(("samples.jsonl.gz", wrong) for wrong in WRONG), *((FIRST, wrong) for wrong in [*WRONG][::4])]
)
def test_a_record_that_no_study_writes_is_refused(base, calm, tmp_path, capsys, monkeypatch, name, wrong):
    monkeypatch.setattr(samples, "draw_samples", None)
    out = copy(calm[name == FIRST], tmp_path / "out")
    (path,) = out.glob(name)
    spoil(path, WRONG[wrong])
    before = contents(out)
    for flags in ("",) if name == FIRST or wrong == "no valid" else ("--regrade",):
        said = refusal(f"{base} {FLAGS} {flags} --out {out}", capsys)
        assert path.name in said and ("line 2" in said or "not all samples" in said or wrong == "model other"), said
        assert "again" in said
        assert contents(out) == before


def test_samples_that_are_doubled_or_left_out_are_refused(base, calm, tmp_path, capsys):
    out = copy(calm[0], tmp_path / "out")
    lines = read_text(out / "samples.jsonl.gz").splitlines(keepends=True)
    for some in (lines[:-1], lines[1:], lines + lines[-1:], lines[:4] + lines[:4] + lines[8:], lines[:8], lines[::-1]):
        write_text(out / "samples.jsonl.gz", "".join(some))
        assert "samples.jsonl.gz" in refusal(f"{base} {FLAGS} --out {out}", capsys)
    assert study(f"{base} {FLAGS} --out {out} --overwrite") == 0
    assert contents(out)["samples.jsonl.gz"] == contents(calm[0])["samples.jsonl.gz"]


def test_what_is_graded_again_is_graded_whole_or_not_at_all(base, calm, tmp_path, monkeypatch):
    out = copy(calm[0], tmp_path / "out")

    def fails(texts, *_):
        raise KeyboardInterrupt

    monkeypatch.setattr(samples, "grade", fails)
    with pytest.raises(KeyboardInterrupt):
        study(f"{base} {FLAGS} --regrade --out {out}")
    assert contents(out) == contents(calm[0])


def test_probabilities_of_right_responses_are_those_of_the_verdicts_also_after_a_kill(
    base, calm, tmp_path, monkeypatch
):
    """Killed behind the new verdicts and before the new report: the next --regrade finds no verdict that changes."""
    out = copy(calm[0], tmp_path / "out")
    old = json.loads((out / "report.json").read_text())
    monkeypatch.setattr(samples, "grade", lambda texts, *_: ["3" in text for text in texts])
    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_report", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            study(f"{base} {FLAGS} --regrade --out {out}")
    assert json.loads((out / "report.json").read_text()) == old
    assert study(f"{base} {FLAGS} --regrade --out {out}") == 0
    new = json.loads((out / "report.json").read_text())
    assert new["models"][str(base)]["counts_correct"] != old["models"][str(base)]["counts_correct"]
    assert [row["right_logps"] for row in new["perplexity"] if row["writer"] == str(base)] == [{}]


# --- kills and full disks ---------------------------------------------------------------------------------------------

# (flags of the study that is there before, flags of the one that is killed, how many kills)
WORKS = {
    "new": (None, "", 20),
    "in place of another": ("--seed 1", "--overwrite", 10),
    "graded again": ("", "--regrade", 10),
}
WRITES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir")


def a_child(flags: str, out: str, place: int, size: int, counted, dies: bool) -> None:
    """A study in a process of its own. It gets SIGKILL before it does something to a file in `out` for the place-th
    time; and a file there cannot grow beyond `size` bytes: it dies at that byte, or is told that it is too large."""
    torch.set_num_threads(1)
    samples.PART = 8
    evaluation.PICTURES = dict.fromkeys(evaluation.PICTURES, no_picture)
    if "--regrade" in flags:
        samples.grade = lambda texts, *_: ["3" in text for text in texts]

    def watch(event, arguments) -> None:
        if event in WRITES and str(arguments[0]).startswith(out):
            counted.value += 1
            if counted.value == place:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    if size:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if dies else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    with redirect_stderr(io.StringIO()) as said:  # it may be a file too
        code = study(flags)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    Path(f"{out}.said").write_text(said.getvalue())
    sys.exit(code)


@pytest.fixture(scope="session")
def apart():
    """Runs a study in a child of a process without threads, which has imported everything: (exit code, what was done to
    files of its folder)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["eval"])

    def run(flags: str, out: Path, place: int = 0, size: int = 0, dies: bool = True) -> tuple[int, int]:
        counted = context.Value("i", 0)
        child = context.Process(target=a_child, args=(f"{flags} --out {out}", str(out), place, size, counted, dies))
        child.start()
        child.join()
        return child.exitcode, counted.value

    return run


@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS)
def test_a_study_killed_at_any_place_ends_as_the_one_never_killed(base, tmp_path, apart, work):
    before, now, kills = WORKS[work]
    flags = f"{base} {FLAGS} {now}"

    def begin(name: str) -> Path:
        out = tmp_path / name
        out.mkdir()
        plant(out, "notes.txt")
        if before is not None:
            assert apart(f"{base} {FLAGS} {before}", out)[0] == 0
        return out

    calm = begin("calm")
    code, places = apart(flags, calm)
    assert code == 0
    assert places > 20
    # Spread over the work; and at a byte in the middle of a part, of study.json, of the samples, of the page.
    chosen = [(1 + round(i * (places - 1) / (kills - 1)), 0) for i in range(kills)]
    chosen += [(0, size) for size in (100, 900, 2000, 9000)]
    for place, size in chosen:
        out = begin(f"{place}-{size}")
        code, _ = apart(flags, out, place, size)
        assert code == -(signal.SIGXFSZ if size else signal.SIGKILL), (place, size)
        assert apart(flags, out)[0] == 0, (place, size)
        assert contents(out) == contents(calm), (place, size)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 32 pages."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_disk_that_fills_is_said_and_with_space_the_same_command_goes_on(base, calm, small_disk, capsys):
    """With ever more free space, until it suffices."""
    out, page, named = small_disk / "out", os.sysconf("SC_PAGE_SIZE"), set()
    for free in range(0, 32, 4):
        shutil.rmtree(out, ignore_errors=True)
        filler = small_disk / "filler"
        with open(filler, "wb") as file, pytest.raises(OSError, match="No space left"):
            while True:
                os.write(file.fileno(), bytes(page))
        os.truncate(filler, filler.stat().st_size - free * page)
        capsys.readouterr()
        if study(f"{base} {FLAGS} --out {out}") == 0:
            break
        said = [line for line in capsys.readouterr().err.splitlines() if "eval.py: " in line]
        assert len(said) == 1
        assert "cannot write" in said[0] and "No space left" in said[0] and "make space" in said[0]
        named.add(said[0].partition("cannot write ")[2].partition(":")[0].removeprefix(f"{out}"))
        assert not [name for name in contents(out) if name.endswith(".new") or "unfinished" in name]
        whole = contents(out)
        filler.unlink()
        assert study(f"{base} {FLAGS} --out {out}") == 0
        assert contents(out) == contents(calm[0])
        assert all(
            whole[name] == data for name, data in contents(out).items() if name in whole and name != "study.json"
        )
    assert len(named) > 2  # it filled in several files
    assert contents(out) == contents(calm[0])


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_said_and_later_the_same_command_goes_on(base, tmp_path, apart):
    calm = tmp_path / "calm"
    assert apart(f"{base} {FLAGS}", calm)[0] == 0
    for size in (100, 900, 2000, 9000):
        assert apart(f"{base} {FLAGS}", tmp_path / f"{size}", size=size, dies=False)[0] == 2
        said = [line for line in (tmp_path / f"{size}.said").read_text().splitlines() if "eval.py: " in line]
        assert len(said) == 1
        assert "File too large" in said[0]
        assert apart(f"{base} {FLAGS}", tmp_path / f"{size}")[0] == 0
        assert contents(tmp_path / f"{size}") == contents(calm)
