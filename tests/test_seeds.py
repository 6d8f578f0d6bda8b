"""study/seeds.py and study/reproduce.py: tables over seeds that can be checked by hand, and commands that are run."""

import json

import pytest

import distill
import eval as evaluation
import train
from study import certainty, compare, experiments, records, reproduce, seeds


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Four problems, four samples each: a base, two seeds of a run that narrows, one of a run that widens."""
    monkeypatch.chdir(tmp_path)
    counts = {
        "toy": [1, 1, 2, 0],
        "runs/narrow-seed0": [4, 4, 0, 0],
        "runs/narrow-seed1": [4, 2, 2, 0],
        "runs/wide-seed0": [1, 2, 2, 1],
    }
    models = {label: {"counts_correct": held, "entropy": 0.1 * i} for i, (label, held) in enumerate(counts.items())}
    content = {"samples": 4, "problems": 4, "k": [1, 2, 4], "data": "toy", "models": models}
    content["chance"] = {"name": "blind guess", "pass_at_k": [0.01, 0.02, 0.04]}
    for seed, seconds in enumerate((2.0, 4.0)):
        folder = tmp_path / "runs" / f"narrow-seed{seed}"
        folder.mkdir(parents=True)
        rows = [{"step": i, "seconds_train": seconds, "seconds_generate": 1.0, "loss": 9} for i in range(2)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "report.json"
    file.write_text(json.dumps(content))
    return file


def test_a_name_is_the_mean_over_its_seeds_against_the_base(report, capsys):
    assert seeds.main([str(report), "--out", "out"]) == 0
    found = json.loads((report.parent / "out" / "seeds.json").read_text())["found"]
    narrow, wide = found["narrow"], found["wide"]
    assert found["toy"]["pass_at_1"] == pytest.approx(4 / 16) and found["toy"]["pass_at_n"] == pytest.approx(3 / 4)
    assert narrow["pass_at_1_of_seeds"] == pytest.approx([0.5, 0.5]) and narrow["seeds"] == 2
    assert narrow["pass_at_n_of_seeds"] == pytest.approx([0.5, 0.75]) and narrow["pass_at_n"] == pytest.approx(0.625)
    assert narrow["gain_at_1"][0] == pytest.approx(25) and narrow["gain_at_n"][0] == pytest.approx(-12.5)
    assert narrow["gap"][0] == pytest.approx(25) and narrow["gap"][1] < 25 < narrow["gap"][2]  # .75 - .5
    assert (narrow["only_base"], narrow["only_trained"]) == (0.5, 0) and (wide["only_base"], wide["only_trained"]) == (
        0,
        1,
    )
    assert narrow["entropy"] == pytest.approx(0.15) and wide["entropy"] == pytest.approx(0.3)
    assert narrow["seconds"] == pytest.approx((6 + 10) / 2) and wide["seconds"] is None
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["toy", "narrow", "wide"]
    assert "0.500" in lines[2] and "+25.0 [" in lines[2] and "-12.5 [" in lines[2] and lines[2].endswith("1.00")
    assert "0.5 / 0.0" in lines[2] and "0.0 / 1.0" in lines[3]


def test_what_it_wrote_can_be_read_again_without_the_runs(report, capsys, monkeypatch, tmp_path):
    assert seeds.main([str(report), "--out", "out"]) == 0
    first = capsys.readouterr().out.splitlines()[:4]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert seeds.main([str(tmp_path / "out" / "seeds.json")]) == 0
    assert capsys.readouterr().out.splitlines()[:4] == first
    assert all((tmp_path / "out" / name).stat().st_size > 10_000 for name in ("passk-seeds.png", "gap.png"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"models": {"a": {}}, "samples": 1, "k": [1]}'])
def test_another_file_is_refused(text, tmp_path, capsys):
    (tmp_path / "report.json").write_text(text)
    assert seeds.main([str(tmp_path / "report.json")]) == 2
    assert "not the report.json of a study" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_report_in_which_a_digit_changed_is_refused(tmp_path, capsys):
    content = {"models": {"a": {"counts_correct": [1]}, "b-seed0": {"counts_correct": [1]}}, "samples": 2, "k": [1, 2]}
    (tmp_path / "report.json").write_text(records.sealed(content).replace('"samples": 2', '"samples": 3'))
    assert seeds.main([str(tmp_path / "report.json")]) == 2
    assert "its checksum is another" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


# --- experiments ----------------------------------------------------------------------------------------------------


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment of two runs, and in place of the programs one that notes how it was called."""
    monkeypatch.chdir(tmp_path)
    runs = {"a": "train.py --model toy --steps 3", "b": "distill.py --teacher self"}
    monkeypatch.setitem(
        reproduce.EXPERIMENTS, "mine", experiments.Experiment("?", "42", ("its-figure-1",), "toy", runs, "--samples 4")
    )
    monkeypatch.setitem(reproduce.NAMES, "mine", "mine")
    monkeypatch.setitem(reproduce.NAMES, "its-figure-1", "mine")
    program = "import sys; open('calls', 'a').write(' '.join(sys.argv) + '\\n'); sys.exit('--kl' in sys.argv)"
    for name in ("train.py", "distill.py", "eval.py"):
        (tmp_path / name).write_text(program)
    monkeypatch.setattr(reproduce.seeds, "write", lambda report, out: f"table of {report} in {out}")
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "report.json").write_text("{}")
    return tmp_path


def calls(folder) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_what_is_missing_is_trained_and_then_all_is_compared(experiment, capsys):
    for name, file, text in [
        ("a-seed0", "config.json", '{"model_type": "qwen2"}'),  # finished
        ("a-seed1", "state.pt", ""),  # begun
        ("b-seed1", "config.json", '{"minreason": {}}'),  # begun, and cannot go on
    ]:
        (experiment / "runs" / name).mkdir(parents=True)
        (experiment / "runs" / name / file).write_text(text)
    assert reproduce.main(["mine", "--seeds", "2"]) == 0
    assert calls(experiment) == [
        "distill.py --teacher self --seed 0 --run runs/b-seed0",
        "train.py --model toy --steps 3 --seed 1 --run runs/a-seed1 --resume",
        "distill.py --teacher self --seed 1 --run runs/b-seed1 --overwrite",
        "eval.py toy runs/a-seed0 runs/a-seed1 runs/b-seed0 runs/b-seed1 --samples 4 --out runs/mine",
    ]
    out = capsys.readouterr().out
    assert "table of runs/mine/report.json in runs/mine" in out and "The paper: 42" in out


def test_jobs_run_beside_each_other_once_the_base_model_is_there(experiment, monkeypatch):
    made = []
    run = reproduce.run
    monkeypatch.setattr(
        reproduce, "run", lambda command, *rest, **more: made.append(command[0]) or (
            run(command, *rest, **more) if command[0] != "-c" else None)
    )  # fmt: skip
    assert reproduce.main(["mine", "--seeds", "2", "--jobs", "2"]) == 0
    assert made[0] == "-c" and len(calls(experiment)) == 5 and calls(experiment)[-1].startswith("eval.py")


def test_checkpoints_of_runs_are_compared_too(experiment):
    reproduce.EXPERIMENTS["mine"] = reproduce.EXPERIMENTS["mine"]._replace(checkpoints=(4, 8))
    reproduce.EXPERIMENTS["mine"].runs.pop("b")
    folders = [f"runs/a-seed{seed}{step}" for step in ("/checkpoint-4", "/checkpoint-8", "") for seed in (0, 1)]
    assert reproduce.study_command("mine", 2)[:8] == ["eval.py", "toy", *folders]
    assert list(seeds.by_name(folders)) == ["a/checkpoint-4", "a/checkpoint-8", "a"]
    assert list(seeds.by_name(folders).values())[0] == ["runs/a-seed0/checkpoint-4", "runs/a-seed1/checkpoint-4"]


def test_a_command_that_fails_stops_it_with_the_command(experiment, capsys, monkeypatch):
    monkeypatch.setitem(reproduce.EXPERIMENTS["mine"].runs, "a", "train.py --kl 1")
    assert reproduce.main(["mine", "--seeds", "1"]) == 2
    assert "python train.py --kl 1 --seed 0 --run runs/a-seed0 failed" in capsys.readouterr().err
    assert not any(call.startswith("eval.py") for call in calls(experiment))


def test_dry_run_and_list_only_print(experiment, capsys):
    assert reproduce.main(["mine", "--seeds", "1", "--dry-run"]) == 0
    assert (
        capsys.readouterr().out.splitlines()[0] == "python train.py --model toy --steps 3 --seed 0 --run runs/a-seed0"
    )
    assert reproduce.main(["its-figure-1", "--seeds", "1", "--dry-run"]) == 0
    assert "--run runs/a-seed0" in capsys.readouterr().out
    assert reproduce.main(["--list"]) == 0
    assert "limit-figure-8" in capsys.readouterr().out and not (experiment / "calls").exists()
    assert reproduce.main(["nosuch"]) == 2
    assert "choose from rewards" in capsys.readouterr().err


@pytest.mark.parametrize("name", reproduce.EXPERIMENTS)
def test_every_command_of_every_experiment_is_one_that_its_program_takes(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for program, *given in reproduce.commands(name, 1):
        if program == "train.py":
            settings = train.parse(given)[0]
            train.complete(settings)
        else:
            settings = distill.parse(given)[0]
            distill.complete(settings)
        assert settings.model == reproduce.EXPERIMENTS[name].base
        assert settings.run.startswith("runs/") and settings.seed == 0


@pytest.mark.parametrize("name", reproduce.EXPERIMENTS)
def test_every_study_is_one_that_its_program_takes_and_draws_only_runs_that_are_made(name):
    experiment, given = reproduce.EXPERIMENTS[name], reproduce.study_command(name, 2)[1:]
    if experiment.kind == "curves":
        settings = compare.parse(given[1:])
        assert {run for _, *runs in settings.panel for run in runs} == set(experiment.runs)
    else:
        settings = certainty.parse(given[1:]) if experiment.kind == "certainty" else evaluation.parse(given)
        assert settings.models[0] == experiment.base
        assert len(settings.models) == 1 + 2 * len(experiment.runs) * (1 + len(experiment.checkpoints))
    assert experiment.paper.endswith((".", ")")) and len(experiment.question) < 120


def test_no_figure_is_answered_by_two_experiments():
    names = [name for key, one in experiments.EXPERIMENTS.items() for name in (key, *one.answers_to)]
    assert len(names) == len(set(names)) == len(experiments.NAMES)


def test_runs_of_the_same_name_are_the_same_command():
    commands = {}
    for experiment in experiments.EXPERIMENTS.values():
        for run, command in experiment.runs.items():
            assert commands.setdefault(run, command) == command


def test_a_stored_result_is_shown_and_drawn_without_any_run(experiment, capsys):
    assert reproduce.main(["mine", "--stored"]) == 2
    assert "results/mine.json: not there" in capsys.readouterr().err
    (experiment / "results").mkdir()
    (experiment / "results" / "mine.json").write_text("{}")
    assert reproduce.main(["mine", "--stored"]) == 0
    assert "table of results/mine.json in runs/mine" in capsys.readouterr().out
    assert not (experiment / "calls").exists()


def test_all_draws_the_pictures_that_docs_has_and_no_others(experiment, monkeypatch, capsys):
    mine = {"mine": reproduce.EXPERIMENTS["mine"], "never-run": reproduce.EXPERIMENTS["mine"]}
    monkeypatch.setattr(reproduce, "EXPERIMENTS", mine)
    monkeypatch.setattr(reproduce, "PICTURED", {
        "passk.png": ("passk.png", "a-report.json", "$^"),
        "mine-coverage.png": ("coverage.png", "a-report.json", " at T="),
    })  # fmt: skip
    monkeypatch.setattr(reproduce, "RUNS", {"learning.png": "metrics.jsonl"})

    def draw(source, out):
        (out / "passk-seeds.png").write_text("new")
        (out / "gap.png").write_text("new gap")
        return f"table of {source.name}"

    monkeypatch.setattr(reproduce.seeds, "write", draw)
    for name in ("passk.png", "coverage.png"):
        monkeypatch.setitem(
            reproduce.pictures.PICTURES,
            name,
            lambda content, path: path.write_text(f"{content['x']} {[*content['models']]}"),
        )
    monkeypatch.setattr(reproduce.pictures, "learning", lambda rows, path: path.write_text(str(rows)))
    for folder, file, text in [
        ("results", "mine.json", "{}"), ("docs", "mine.png", "old"),
        ("results", "a-report.json", '{"x": "study", "models": {"m": 1, "m at T=2": 2}}'),
        ("results", "metrics.jsonl", '{"step": 7}\n'),
    ]:  # fmt: skip
        (experiment / folder).mkdir(exist_ok=True)
        (experiment / folder / file).write_text(text)
    assert reproduce.main(["--all"]) == 0
    shown = capsys.readouterr().out
    assert reproduce.main(["--all", "--dry-run"]) == 2
    assert "table of mine.json" in shown and shown.count("The paper: 42") == 1
    drawn = {path.name: path.read_text() for path in (experiment / "docs").iterdir()}
    assert drawn == {
        "mine.png": "new",
        "passk.png": "study ['m', 'm at T=2']",
        "mine-coverage.png": "study ['m']",
        "learning.png": "[{'step': 7}]",
    }


def test_valid_chains_are_compared_with_valid_chains(report):
    content = json.loads(report.read_text())
    valid = {"toy": [0, 1, 2, 0], "runs/narrow-seed0": [4, 0, 0, 0], "runs/narrow-seed1": [4, 2, 2, 0]}
    for label, result in content["models"].items():
        result["counts_valid"] = valid.get(label, [0, 0, 0, 0])
    report.write_text(json.dumps(content))
    assert seeds.main([str(report), "--out", "out"]) == 0
    kept = json.loads((report.parent / "out" / "seeds.json").read_text())
    assert kept["found"]["toy"]["pass_at_n"] == pytest.approx(3 / 4)
    assert kept["found_valid"]["toy"]["pass_at_n"] == pytest.approx(2 / 4)
    assert kept["found_valid"]["narrow"]["gain_at_n"][0] == pytest.approx(100 * ((1 + 3) / 8 - 2 / 4))
    assert kept["found_valid"]["wide"]["pass_at_1"] == 0


def test_seeds_at_temperatures_of_their_own_are_one_name():
    labels = ["runs/a-seed0 at T=1.41", "runs/a-seed1 at T=1.38", "runs/a-seed0"]
    assert seeds.by_name(labels) == {"a at the base's entropy": labels[:2], "a": labels[2:]}


def test_the_perplexity_is_the_bases_on_what_each_model_wrote(report, capsys):
    content = json.loads(report.read_text())
    values = {"toy": [1.5, 1.1, 1.2], "runs/narrow-seed0": [1.3, 1.2, 9.0], "runs/narrow-seed1": [1.5, 1.5, 1.5]}
    of_base = [
        {"writer": writer, "reader": "toy", "problems": dict(enumerate(held))} for writer, held in values.items()
    ]
    own = {"writer": "runs/narrow-seed0", "reader": "runs/narrow-seed0", "problems": {"0": 7.0}}
    content["perplexity"] = [*of_base, own, {"writer": "teacher", "reader": "toy", "problems": {"0": 8.0}}]
    report.write_text(json.dumps(content))
    assert seeds.main([str(report), "--out", "out"]) == 0
    found = json.loads((report.parent / "out" / "seeds.json").read_text())["found"]
    assert found["toy"]["perplexity"] == 1.2 and found["wide"]["perplexity"] is None
    assert found["narrow"]["perplexity"] == pytest.approx((1.3 + 1.5) / 2)
    table = capsys.readouterr().out.splitlines()
    assert table[0].endswith("perplexity") and table[1].endswith("1.200") and table[2].endswith("1.400")
    assert seeds.main([str(report.parent / "out" / "seeds.json")]) == 0  # what it wrote, read again
    assert capsys.readouterr().out.splitlines()[:4] == table[:4]


def test_the_times_of_a_kept_result_are_its_own(report):
    """Runs of today may have the names of those that a kept result is about."""
    assert seeds.main([str(report), "--out", "kept"]) == 0
    kept = report.parent / "kept" / "seeds.json"
    times = {label: one.get("seconds") for label, one in json.loads(kept.read_text())["models"].items()}
    assert times["runs/narrow-seed0"] == pytest.approx(2 * (2 + 1))
    for log in (report.parent / "runs").glob("*/metrics.jsonl"):
        log.write_text('{"step": 0, "seconds_train": 100.0}\n')
    assert seeds.main([str(kept), "--out", "again"]) == 0
    again = json.loads((report.parent / "again" / "seeds.json").read_text())["models"]
    assert {label: one.get("seconds") for label, one in again.items()} == times
