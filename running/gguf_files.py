"""gguf_files.py: how does a .gguf file become a model that can be trained?

llama.cpp and what is built on it keep a whole model, weights of a few bits and tokenizer, in one such file.
transformers turns the weights back into float32. That takes a few seconds and cannot be saved as it is, so it is done
once, into a folder that loads like any other.

A model of 4-bit weights is not the model that was rounded: what is measured on it is true of the rounded one.
"""

import hashlib
import importlib.util
from functools import partial
from pathlib import Path

import transformers

from running.files import BadInput, made_once


def unpacked(file: Path, folder: str | Path = "runs") -> Path:
    """The folder of the model in a .gguf file, made at the first call. Its name carries a hash of what is in the file.

    Raises BadInput: no such file, a package missing, or a file that no language model can be read from.
    """
    if not file.is_file():
        raise BadInput(f"--model {file}: no such file; check the path")
    digest = hashlib.sha256()
    with open(file, "rb") as content:  # a piece at a time: such files can be larger than memory
        while piece := content.read(2**24):
            digest.update(piece)
    make = partial(read_gguf, file)
    return made_once(folder, file.stem, [digest.hexdigest()], [Path(__file__)], make)


def read_gguf(file: Path) -> tuple:
    """(model, tokenizer) of a .gguf file, in float32, without a trace of where they came from. Raises BadInput."""
    if missing := [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]:
        raise BadInput(f"--model {file}: reading it needs the package {missing[0]}: pip install gguf accelerate")
    place = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name, "local_files_only": True}
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # it lists what it did not need, such as the licence
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
        read = transformers.AutoModelForCausalLM.from_pretrained(**place, dtype="float32")
    except Exception as error:  # not GGUF, cut off, a kind of model that transformers does not know
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise BadInput(f"--model {file}: no language model can be read from it ({reason}); get it again") from None
    finally:
        transformers.utils.logging.set_verbosity(level)
    # What was read counts as quantised and refuses to be saved. A fresh model with the same weights does not.
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    model = type(read)(read.config)
    model.load_state_dict(read.state_dict())
    return model.eval(), tokenizer
