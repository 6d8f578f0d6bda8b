"""study/seeds.py and study/reproduce.py: tables over seeds that can be checked by hand, and commands that are run."""

import json

import pytest

import distill
import train
from study import reproduce, seeds


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


# --- experiments ----------------------------------------------------------------------------------------------------


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment of two runs, and in place of the programs one that notes how it was called."""
    monkeypatch.chdir(tmp_path)
    runs = {"a": "train.py --model toy --steps 3", "b": "distill.py --teacher self"}
    monkeypatch.setitem(reproduce.EXPERIMENTS, "mine", reproduce.Experiment("?", "toy", runs, "--samples 4"))
    program = "import sys; open('calls', 'a').write(' '.join(sys.argv) + '\\n'); sys.exit('--kl' in sys.argv)"
    for name in ("train.py", "distill.py", "eval.py"):
        (tmp_path / name).write_text(program)
    monkeypatch.setattr(reproduce.seeds, "write", lambda report, out: f"table of {report} in {out}")
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
    assert "table of runs/mine/report.json in runs/mine" in capsys.readouterr().out


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
    assert reproduce.main(["--list"]) == 0
    assert "Figure 8" in capsys.readouterr().out and not (experiment / "calls").exists()
    assert reproduce.main(["nosuch"]) == 2
    assert "choose from algorithms" in capsys.readouterr().err


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
