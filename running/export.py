"""export.py: the model of a finished run, as one shares it.

A run folder is no folder to upload: its state.pt has 12 bytes a parameter, its weights are float32, and its settings
name paths of the machine. `export` writes the weights in bfloat16 as safetensors, the tokenizer, and a model card that
says what the model is, how it was made, and what was measured.
"""

import json
from pathlib import Path

import torch

from running.files import BadInput, read_log, save_whole, writes_into
from running.folder import read_config
from running.models import load_model
from running.processes import once

ABOUT = {  # settings that the card tells in any case; the others where they are not the defaults
    "model": "base model",
    "teacher": "learned from",
    "data": "problems",
    "recipe": "recipe",
    "reward": "reward",
    "steps": "steps",
    "template": "prompt",
    "seed": "seed",
}


@once
def export(run: str, folder: str) -> None:
    """Write the model of a run into a new folder, which is there as a whole or not at all; auto: RUN-export. Raises
    BadInput."""
    run, folder = Path(run), Path(f"{run}-export" if folder == "auto" else folder)
    config = read_config(run)
    if "minreason" not in config or "model_type" not in config:
        raise BadInput(f"--export: {run} holds no trained model; train first, or go on by --resume")
    if folder.exists():
        raise BadInput(f"--export {folder}: is there already; give a new folder")
    policy, tokenizer = load_model(str(run), dtype=torch.bfloat16)
    for name in [name for name in vars(policy.config) if name.startswith("minreason")]:
        delattr(policy.config, name)
    with writes_into(f"--export {folder}", "make room, or give another folder"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        save_whole(folder, policy, tokenizer, {"README.md": model_card(run, config, folder.name)})
    print(f"In {folder}: the model in bfloat16 and README.md, its model card. Read that before you share them.")


def model_card(run: Path, config: dict, name: str) -> str:
    """The README.md of the model of a run: front matter as the hub reads it, then how it was made and what it does."""
    held = {key: public(value) for key, value in config["minreason"].items()}
    base = held.get("model")
    front = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": "[reinforcement-learning]"}
    if base and base.count("/") == 1 and not Path(config["minreason"]["model"]).exists():
        front["base_model"] = base
    made = [f"* {text}: `{held[key]}`" for key, text in ABOUT.items() if held.get(key) is not None]
    differing = {key: held[key] for key in config.get("minreason_defaults", {}) if key not in {*ABOUT, "run"}}
    flags = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in sorted(differing.items()))
    lines = ["---", *(f"{key}: {value}" for key, value in front.items()), "---", "", f"# {name}", ""]
    lines += [f"`{base}`, trained with minreason.", "", "## How it was made", "", *made]
    lines += [f"* other flags: `{flags}`"] if flags else []
    lines += ["", "## What was measured", "", *figures(run)]
    lines += ["", "## Use", "", "```python", "from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    lines += [f'model = AutoModelForCausalLM.from_pretrained("{name}")']
    lines += [f'tokenizer = AutoTokenizer.from_pretrained("{name}")', "```", "", "Weights are in bfloat16."]
    return "\n".join(lines) + "\n"


def public(value):
    """A setting without the folders of the machine in it: of a path the last part."""
    return Path(value).name if isinstance(value, str) and Path(value).exists() else value


def figures(run: Path) -> list[str]:
    """What was measured of a run: pass@k of both models on held-out problems, or the accuracy in training."""
    if not (run / "report.json").is_file():
        rows = [row["accuracy"] for row in read_log(run / "metrics.jsonl") if row.get("accuracy") is not None]
        ends = f"{rows[0]:.2f} in the first step, {rows[-1]:.2f} in the last" if rows else "not measured"
        return [f"Accuracy on the problems of training: {ends}."]
    content = json.loads((run / "report.json").read_text())
    problems = f"{content['problems']} held-out problems of `{public(content['data'])}`"
    table = [["", *(f"pass@{k}" for k in content["k"])], ["---"] * (len(content["k"]) + 1)]
    for label, result in content["models"].items():
        table.append([f"`{public(label)}`", *(f"{value:.3f}" for value in result["pass_at_k_correct"])])
    drawn = f"{content['samples']} samples of each, temperature {content['temperature']:g}, in {content['dtype']}"
    return [f"{problems}, {drawn}:", "", *(f"| {' | '.join(row)} |" for row in table)]
