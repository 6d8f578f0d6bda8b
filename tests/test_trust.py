"""Nothing is lost, and nothing wrong is gone on with: what becomes of a run whose files, disk or input are not as they
should be."""

import json
import os
import pickle
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import eval as evaluation
import toy
import train
from running import saving
from running.files import BadInput, made_once, writes_into
from running.folder import alone, write_config
from running.models import load_model
from running.reward_models import load_reward_model

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="session")
def problems(tmp_path_factory):
    """A file of chains of one operation."""
    file = tmp_path_factory.mktemp("data") / "problems.jsonl"
    chains = [(p, a) for p, a in toy.make_problems("train", 400) if len(toy.steps(p)) == 1][:40]
    file.write_text("".join(json.dumps({"problem": p, "answer": a}) + "\n" for p, a in chains))
    return file


@pytest.fixture(scope="session")
def finished(base, problems, tmp_path_factory):
    """A finished run of two small steps."""
    run = tmp_path_factory.mktemp("runs") / "run"
    flags = f"--model {base} --data {problems} --run {run} --max-new-tokens 12 --eval-samples 0 --save-every 1"
    assert train.main(f"{flags} --prompts-per-step 2 --rollouts-per-prompt 4 --steps 2 --lr 1e-3".split()) == 0
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it that a test may damage."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def content_of(folder: Path) -> dict:
    """All that is in a folder."""
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def refused(capsys, flags: str, *said: str, program=train) -> None:
    """The program ends with exit code 2 and one line, which holds these words."""
    capsys.readouterr()
    assert program.main(flags.split()) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    for words in said:
        assert words in error


def on(run: Path) -> str:
    """The flags that go on with a run by one step."""
    return f"--run {run} --resume --steps 3"


# --- damaged files --------------------------------------------------------------------------------------------------


def flip(path: Path, at: float = 0.5) -> None:
    """Turn one bit of a file."""
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "first bit": lambda path: flip(path, 0.0),
    "a bit at the start": lambda path: flip(path, 0.1),
    "a bit in the middle": flip,
    "a bit at the end": lambda path: flip(path, 0.98),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["state.pt", "state.sha256", "config.json", "metrics.jsonl", "samples.jsonl"])
def test_a_run_with_a_damaged_file_is_not_gone_on_with(run, capsys, name, damage):
    DAMAGES[damage](run / name)
    before = content_of(run)
    refused(capsys, on(run), str(run), name)
    assert content_of(run) == before


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_model_of_a_run_is_not_used(run, tmp_path, capsys, name, damage):
    DAMAGES[damage](run / name)
    flags = f"{run} --data toy --samples 2 --limit 2 --max-new-tokens 8 --out {tmp_path / 'out'}"
    refused(capsys, flags, str(run), program=evaluation)
    assert not (tmp_path / "out").exists()


def test_whoever_changes_a_model_on_purpose_deletes_its_checksums(run):
    flip(run / "model.safetensors", 0.99)
    with pytest.raises(BadInput, match="delete checksums.json"):
        load_model(str(run))
    (run / "checksums.json").unlink()
    load_model(str(run))


def test_a_base_model_that_was_damaged_is_not_taken(tmp_path):
    class Saved:
        def save_pretrained(self, path):
            path.mkdir(exist_ok=True)
            (path / "weights").write_text("1 2 3")

    target = made_once(tmp_path, "m", [1], [], lambda: (Saved(), Saved()))
    assert made_once(tmp_path, "m", [1], [], None) == target
    (target / "weights").write_text("1 2 4")
    with pytest.raises(BadInput, match="weights is not as it was written; delete the folder"):
        made_once(tmp_path, "m", [1], [], None)


def test_a_run_does_not_go_on_from_other_problems_or_another_model(base, problems, tmp_path, capsys):
    run, data, model = tmp_path / "run", tmp_path / "own.jsonl", tmp_path / "model"
    shutil.copy(problems, data)
    shutil.copytree(base, model)
    flags = f"--model {model} --data {data} --run {run} --max-new-tokens 12 --eval-samples 0 --steps 1"
    assert train.main([*flags.split(), "--prompts-per-step", "2", "--rollouts-per-prompt", "2"]) == 0
    text = data.read_text()
    data.write_text(text.replace('"answer": "', '"answer": "1', 1))
    refused(capsys, on(run), "--data", str(run))
    data.write_text(text)
    policy = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        policy.model.norm.weight.mul_(2)
    policy.save_pretrained(model)
    refused(capsys, on(run), "--model", str(run))


def state_of(run: Path) -> dict:
    return torch.load(run / "state.pt", weights_only=True)


def put_state(run: Path, state) -> None:
    """Save a state, with the checksum that belongs to it."""
    torch.save(state, run / "state.pt")
    (run / "state.sha256").write_text(saving.checksum(run / "state.pt"))


def test_a_state_that_does_not_fit_the_model_is_refused_even_with_its_checksum(run, capsys):
    state = state_of(run)
    narrow = [[weight[:1] for weight in weights] for weights in state["weights"]]  # would be broadcast
    fewer = [weights[:-1] for weights in state["weights"]]
    for changed in ({"steps": -3}, {"steps": 0}, {"weights": narrow}, {"weights": fewer}):
        put_state(run, state | changed)
        before = content_of(run)
        refused(capsys, on(run), "does not fit")
        assert content_of(run) == before
    put_state(run, {"steps": 2})
    refused(capsys, on(run), "another version")
    put_state(run, state)
    assert train.main(on(run).split()) == 0


def test_a_kill_between_a_state_and_its_checksum_loses_neither(run, monkeypatch):
    # The checksum of the new state is noted before the state takes its place; and again, and again.
    def killed(source, target):
        if Path(target).name == "state.pt":
            raise KeyboardInterrupt
        return replace(source, target)

    replace = os.replace
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                train.main(on(run).split())
    known = (run / "state.sha256").read_text().split()
    assert len(known) == 4  # the old state's, and that of each which did not get to its place
    assert saving.checksum(run / "state.pt") == known[0]
    assert train.main(on(run).split()) == 0


# --- what is deleted ------------------------------------------------------------------------------------------------


def test_overwrite_takes_a_run_and_nothing_that_a_run_did_not_write(run, capsys):
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings_of(run).items())
    for foreign in ("notes.txt", "parts/notes.txt", "checkpoint-1/data.csv", "state", "report.html.bak"):
        (run / foreign).parent.mkdir(exist_ok=True)
        (run / foreign).write_text("mine")
        before = content_of(run)
        refused(capsys, f"{flags} --overwrite", "--overwrite", Path(foreign).name)
        assert content_of(run) == before
        (run / foreign).unlink()
    for leftover in ("config.json.new", "state.new", "metrics.jsonl.new", "learning.png.new", "saving/config.json"):
        (run / leftover).parent.mkdir(exist_ok=True)
        (run / leftover).write_text("cut off by a kill")
    assert train.main([*flags.split(), "--overwrite"]) == 0
    assert not list(run.glob("*.new"))


def settings_of(run: Path) -> dict:
    """The flags of the small run."""
    held = json.loads((run / "config.json").read_text())["minreason"]
    names = "model data max_new_tokens eval_samples prompts_per_step rollouts_per_prompt lr"
    return {name: held[name] for name in names.split()} | {"steps": 1, "run": run}


def test_a_folder_that_only_says_minreason_is_no_run(run, tmp_path, capsys):
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings_of(run).items())
    for text in (
        '"minreason"',
        '{"minreason": {}}',
        '{"minreason": 1}',
        '{"minreason": {"steps": 3}}',
        "minreason",
        "[" * 9999,
    ):
        (run / "config.json").write_text(text)
        before = content_of(run)
        refused(capsys, f"{flags} --overwrite", str(run))
        assert content_of(run) == before
    # killed before its first file was complete: there is nothing to lose
    for path in run.iterdir():
        path.unlink()
    (run / "config.json.new").write_text("{")
    assert train.main(flags.split()) == 0


# --- a disk that is full or forbids ---------------------------------------------------------------------------------


@pytest.fixture
def full_at():
    """A function that lets no file grow beyond so many bytes, as a full disk would; without one: any size again."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails, as on a full disk
    yield lambda size=before[0]: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])  # of the largest file, the state
def test_a_full_disk_is_said_in_a_line_and_loses_nothing(run, tmp_path, capsys, full_at, share):
    shutil.copytree(run, tmp_path / "undisturbed")
    assert train.main(on(tmp_path / "undisturbed").split()) == 0
    steps = (run / "state.pt").read_bytes()
    capsys.readouterr()
    full_at(int(share * len(steps)))
    assert train.main(on(run).split()) == 2
    full_at()
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"train.py: --run {run}: cannot write")
    assert "--resume" in error
    assert (run / "state.pt").read_bytes() == steps
    assert not (run / "state.new").exists()
    assert train.main(on(run).split()) == 0
    for name in ("model.safetensors", "samples.jsonl"):
        assert (run / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()


def test_what_forbids_to_write_is_said_in_a_line(tmp_path):
    said = pytest.raises(BadInput, match=r"^--run x: cannot write .*nosuch.* \(No such file or directory\); make room$")
    with said, writes_into("--run x", "make room"):
        (tmp_path / "nosuch" / "file").write_text("")
    with pytest.raises(RuntimeError, match="a bug"), writes_into("--run x", "make room"):
        raise RuntimeError("a bug")  # no disk's fault: with its traceback


def test_a_run_folder_that_is_a_file_or_has_too_long_a_name_is_refused(run, tmp_path, capsys):
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings_of(run).items())
    (tmp_path / "file").write_text("mine")
    refused(capsys, f"{flags} --run {tmp_path / 'file'}", "--run", "file")
    assert (tmp_path / "file").read_text() == "mine"
    refused(capsys, f"{flags} --run {tmp_path / ('x' * 300)}", "--run", "too long")


def test_the_lock_ends_with_the_process(tmp_path):
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        with alone(tmp_path / "run", "--run"):
            (tmp_path / "run" / "file").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    with alone(tmp_path / "run", "--run"):
        pass


# --- files that would run code --------------------------------------------------------------------------------------


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb))])
def test_no_file_runs_code(run, base, tmp_path, capsys, write):
    mark = tmp_path / "mark"
    write({"steps": 2, "weights": Bomb(mark)}, run / "state.pt")
    refused(capsys, on(run), "state.pt")
    (run / "state.sha256").write_text(saving.checksum(run / "state.pt"))
    refused(capsys, on(run), "state.pt")
    model = tmp_path / "model"
    shutil.copytree(base, model)
    (model / "model.safetensors").unlink()
    write({"lm_head.weight": Bomb(mark)}, model / "pytorch_model.bin")
    with pytest.raises(BadInput, match=f"--model {model}: .*safetensors"):
        load_model(str(model))
    with pytest.raises(BadInput, match=f"--reward-model {model}: .*safetensors"):
        load_reward_model(str(model))
    write(Bomb(mark), model / "model.safetensors")
    with pytest.raises(BadInput, match=f"--model {model}"):
        load_model(str(model))
    assert not mark.exists()
    os.system(f"touch {mark}")  # it would have left one
    assert mark.exists()


@pytest.mark.parametrize("kind", ["no-such-kind", "qwen2"])
def test_code_beside_a_model_is_not_run(base, tmp_path, monkeypatch, kind):
    model, mark = tmp_path / "model", tmp_path / "mark"
    shutil.copytree(base, model)
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": kind, "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass Own: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # transformers would ask
    if kind == "qwen2":  # a kind that transformers has: then its own code is taken
        load_model(str(model))
    else:
        with pytest.raises(BadInput, match=f"--model {model}"):
            load_model(str(model))
    assert not mark.exists()


# --- models that do not fit -----------------------------------------------------------------------------------------


def changed(base: Path, folder: Path, **config) -> Path:
    """A copy of a model with another config.json."""
    shutil.copytree(base, folder)
    held = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(held | config))
    return folder


@pytest.mark.parametrize("layers", [1, 3])
def test_weights_that_do_not_fit_the_config_are_refused(base, tmp_path, layers):
    kinds = {"num_hidden_layers": layers, "layer_types": ["full_attention"] * layers, "max_window_layers": layers}
    with pytest.raises(BadInput, match="its weights do not fit"):
        load_model(str(changed(base, tmp_path / "deeper", **kinds)))
    with pytest.raises(BadInput, match="its weights do not fit"):
        load_model(str(changed(base, tmp_path / "wider", intermediate_size=129)))


def test_a_language_model_is_no_reward_model(base):
    with pytest.raises(BadInput, match=r"--reward-model .*weights do not fit.*score"):  # a head drawn at random
        load_reward_model(str(base))


def test_weights_that_are_no_numbers_and_tokenizers_that_are_none_are_refused(base, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(base, model)
    policy = AutoModelForCausalLM.from_pretrained(base)
    policy.model.layers[1].mlp.up_proj.weight.data[3, 4] = float("nan")
    policy.save_pretrained(model)
    with pytest.raises(BadInput, match=r"layers.1.mlp.up_proj.weight holds numbers that are none"):
        load_model(str(model))
    shutil.rmtree(model)
    for name in ("tokenizer.json", "config.json", "model.safetensors"):
        shutil.copytree(base, model)
        (model / name).unlink()
        with pytest.raises(BadInput, match=f"--model {model}: .*{name.replace('model', '')}"):
            load_model(str(model))
        shutil.rmtree(model)


def test_a_model_without_an_end_token_and_one_of_another_vocabulary_are_refused(base, problems, tmp_path, capsys):
    policy, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    policy.resize_token_embeddings(8)
    policy.save_pretrained(tmp_path / "small")
    tokenizer.save_pretrained(tmp_path / "small")
    flags = f"--data {problems} --prompts-per-step 2 --run {tmp_path / 'run'} --eval-samples 0"
    refused(capsys, f"{flags} --model {base}", "--max-new-tokens 512", "context holds 512")
    flags += " --max-new-tokens 12"
    refused(capsys, f"{flags} --model {tmp_path / 'small'}", "--model", "knows 8")
    endless = changed(base, tmp_path / "endless", eos_token_id=None)
    for name in ("tokenizer_config.json", "generation_config.json"):
        held = json.loads((endless / name).read_text())
        (endless / name).write_text(json.dumps({k: v for k, v in held.items() if not k.startswith("eos")}))
    refused(capsys, f"{flags} --model {endless}", "no end token")
    assert not (tmp_path / "run").exists()


def test_a_run_whose_numbers_leave_the_numbers_stops_and_keeps_its_state(run, capsys, monkeypatch):
    step = train.step

    def broken(*arguments):
        graded, rewards, advantages, measured = step(*arguments)
        return graded, rewards, advantages, measured | {"grad_norm": float("nan")}

    before = (run / "state.pt").read_bytes()
    monkeypatch.setattr(train, "step", broken)
    assert train.main(on(run).split()) == 2
    assert "--lr" in capsys.readouterr().err.splitlines()[-1]
    assert (run / "state.pt").read_bytes() == before


# --- a model to share -----------------------------------------------------------------------------------------------


def test_an_exported_model_loads_anywhere_in_bfloat16_with_a_card_and_without_our_paths(run, tmp_path, capsys):
    folder, architecture = tmp_path / "shared", json.loads((run / "config.json").read_text())
    code = {"minreason_code": {"mine.py:f": "0123"}}  # what a reward of one's own adds
    write_config(run, {name: v for name, v in architecture.items() if name != "minreason_checksum"}, code)
    (run / "checksums.json").unlink()
    assert train.main(f"--run {run} --export {folder}".split()) == 0
    model = AutoModelForCausalLM.from_pretrained(folder)
    trained = AutoModelForCausalLM.from_pretrained(run)
    assert AutoConfig.from_pretrained(folder).dtype == torch.bfloat16
    for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours.bfloat16(), theirs.bfloat16())
    assert AutoTokenizer.from_pretrained(folder)("7+8=") == AutoTokenizer.from_pretrained(run)("7+8=")
    card = (folder / "README.md").read_text()
    for told in ("library_name: transformers", "reward: `correct`", "seed: `0`", "Accuracy on the problems"):
        assert told in card
    names = {path.name for path in folder.iterdir()}
    assert not {"state.pt", "metrics.jsonl"} & names
    for path in folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
        assert path.name == "README.md" or b"minreason" not in path.read_bytes()
    before = content_of(folder)
    refused(capsys, f"--run {run} --export {folder}", "--export", "there already")
    assert content_of(folder) == before
    assert train.main(["--run", str(run), "--export"]) == 0
    assert (tmp_path / "run-export" / "README.md").exists()


def test_what_is_no_finished_run_is_not_exported(run, tmp_path, capsys):
    refused(capsys, f"--run {tmp_path / 'nosuch'} --export {tmp_path / 'shared'}", "--export")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "model_type"}))
    refused(capsys, f"--run {run} --export {tmp_path / 'shared'}", "--export")
    assert not (tmp_path / "shared").exists()
