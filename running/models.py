"""models.py: where do models come from, what do they run on, and how are they made ready to be trained?

A name is that of a toy base model (made on the spot, see toy.py), `smollm2` or `smollm2-warm` (running/smollm2.py), a
folder with a saved model, a .gguf file, or an id of the hub.
"""

import copy
import re
from contextlib import nullcontext
from pathlib import Path

import huggingface_hub
import torch
import transformers
from transformers.modeling_layers import GradientCheckpointingLayer

import data
import toy
from engine.packing import attention
from running import processes
from running.files import SUMS, BadInput, check_sums
from running.folder import config_is_whole, read_config
from running.gguf_files import unpacked


def resolve_device(device: str, dtype: str) -> tuple[str, torch.dtype]:
    """The flags --device and --dtype, `auto` decided: bfloat16 on CUDA, else float32. Raises BadInput.

    mps is Apple's GPU. Nobody has run it yet: bfloat16 is there on request only.
    """
    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}
    if device == "auto":
        device = next(name for name, is_there in there.items() if is_there())
    if device == "cuda" and processes.size() > 1:
        device = f"cuda:{processes.local_rank()}"
    if device not in (*there, *(f"cuda:{i}" for i in range(torch.cuda.device_count()))):
        raise BadInput(f"--device {device}: unknown; choose auto, cpu, mps, cuda or cuda:N")
    if device in there and not there[device]():
        raise BadInput(f"--device {device}: torch finds no such device on this machine; use --device cpu")
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # streams and graphs take the current one
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    names["auto"] = torch.bfloat16 if device.startswith("cuda") else torch.float32
    if dtype not in names:
        raise BadInput(f"--dtype {dtype}: choose from {', '.join(names)}")
    return device, names[dtype]


def hub_answers(name: str) -> bool:
    """Can the hub be asked about a model? If not, only the local cache is left, and nobody need wait for retries."""
    try:
        huggingface_hub.model_info(name, timeout=10)
    except huggingface_hub.errors.HfHubHTTPError:  # it answered, with "not found" or "not for you": let loading say so
        return True
    except Exception:  # the classes of connection errors belong to the HTTP library, which changes between versions
        return False
    return True


def model_path(name: str) -> str:
    """Where to load a model from: a folder, made if need be, or a hub id. Raises BadInput."""
    from running import smollm2  # here, not above: its warm-up trains, and what trains imports this file

    if toy.world_of(name):
        return str(toy.path_of(name))
    if name in smollm2.NAMES:
        return str(smollm2.base_model(name))
    if name.endswith(".gguf"):
        return str(unpacked(Path(name)))
    check_name(name)
    return name


def check_name(name: str) -> None:
    """Raise BadInput for the name of a model that neither is here nor can be on the hub. Nothing is loaded."""
    from running import smollm2  # as above

    if toy.world_of(name) or name in smollm2.NAMES or (name.endswith(".gguf") and Path(name).is_file()):
        return
    if reason := lacking(Path(name)):
        raise BadInput(f"--model {name}: {reason}; give a folder as save_pretrained writes it")
    if not Path(name).is_dir() and not re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
        raise BadInput(
            f"--model {name}: no such folder; give toy, smollm2, a folder with a saved model, a .gguf file, or a hub "
            "id (Qwen/Qwen2.5-0.5B)"
        )


def own_data(name: str) -> str | None:
    """The embedded problems that a model of ours was made for, as --data names them; None for any other model."""
    from running import smollm2  # as above

    return toy.world_of(name) or ("arithmetic" if name in smollm2.NAMES else None)


def from_saved(auto_class, name: str, flag: str, dtype: torch.dtype):
    """(model, tokenizer) as transformers saved them, in a folder or on the hub. Raises BadInput; flag: for its message.

    Weights come from safetensors alone, code that lies beside them is never run, and weights that do not fit are
    refused: transformers would draw what is missing at random, and leave out what is too much.
    """
    folder, logging = Path(name), transformers.utils.logging
    if "minreason_checksum" in read_config(folder):  # a run; in other folders people change files as they like
        check_sums(folder, flag, f"copy the folder again (or delete {SUMS}, if you changed the file yourself)")
        if not config_is_whole(read_config(folder)):
            raise BadInput(f"{flag} {name}: config.json is not as it was written; copy the folder again")
    options = {"local_files_only": folder.is_dir() or not hub_answers(name), "trust_remote_code": False}
    checks = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    said = logging.get_verbosity()
    logging.set_verbosity_error()  # our one line says it
    logging.disable_progress_bar()  # for a second of loading
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
        model, report = auto_class.from_pretrained(name, dtype=dtype, **options, **checks)
    except Exception as error:  # no model, no network, another kind of model, no tokenizer, broken weights
        reason = lacking(folder) or f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        raise BadInput(
            f"{flag} {name}: no folder and no hub id that a model can be loaded from ({reason}); give a folder as "
            "save_pretrained writes it"
        ) from None
    finally:
        logging.set_verbosity(said)
    files = type(tokenizer).vocab_files_names.values()  # without them transformers makes one that knows nothing
    if folder.is_dir() and files and not any((folder / file).is_file() for file in files):
        raise BadInput(f"{flag} {name}: has no tokenizer, none of {', '.join(sorted(files))}; copy it there")
    # A model of texts has a head of its own, which one that scores them has no place for.
    headless = auto_class is not transformers.AutoModelForCausalLM
    unfit = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    unfit |= {key for key in report["unexpected_keys"] if not (headless and key.startswith("lm_head"))}
    if unfit:
        raise BadInput(f"{flag} {name}: its weights do not fit its config.json ({min(unfit)}); copy both again")
    if broken := [key for key, weight in model.named_parameters() if not weight.isfinite().all()]:
        raise BadInput(f"{flag} {name}: {broken[0]} holds numbers that are none (nan, inf); give another model")
    return model.eval(), tokenizer


def lacking(folder: Path) -> str | None:
    """What a folder lacks to be a saved model; None if it has all, or is no folder."""
    needed = {"config.json": "config.json", "*.safetensors": "weights, a .safetensors file"}
    missing = [text for pattern, text in needed.items() if not any(folder.glob(pattern))]
    return f"it has no {' and no '.join(missing)}" if folder.is_dir() and missing else None


def load_model(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32):
    """(policy, tokenizer) of a name as `model_path` takes it, dropout off. Raises BadInput.

    In bfloat16 it is for sampling, and for training with engine.masters.adamw, which keeps float32 masters.
    """
    policy, tokenizer = from_saved(transformers.AutoModelForCausalLM, model_path(name), "--model", dtype)
    policy.to(device)
    if min(end_tokens(policy, tokenizer), default=10**9) >= policy.get_output_embeddings().weight.shape[0]:
        raise BadInput(f"--model {name}: has no end token, so nothing would end; put eos_token_id into its config")
    # Sampling and training compute logits as head(hidden state). Some models do more to them (soft-capping, scaling).
    probe = torch.arange(8, device=device)[None] % policy.config.vocab_size
    with torch.no_grad():
        ours = policy.get_output_embeddings()(policy.base_model(input_ids=probe).last_hidden_state)
        if not torch.allclose(ours, policy(input_ids=probe).logits, atol=1e-4, rtol=1e-4):
            raise BadInput(
                f"--model {name}: {type(policy).__name__} does more to its logits than a linear "
                "head; use a model that does not, such as Qwen2"
            )
    return policy, tokenizer


def context_room(policy, max_new_tokens: int) -> int:
    """How many tokens a prompt may have beside its completion."""
    return getattr(policy.config, "max_position_embeddings", 10**9) - max_new_tokens


def encoded(
    problems: list, policy, tokenizer, template: str, max_new_tokens: int, flag: str = "--data"
) -> list[list[int]]:
    """The prompts of problems, as tokens of this model. Raises BadInput for one that does not fit; flag: to blame."""
    if (room := context_room(policy, max_new_tokens)) < 1:
        holds = f"the model's context holds {room + max_new_tokens}, the prompt included"
        raise BadInput(f"--max-new-tokens {max_new_tokens}: {holds}; give less")
    prompts = data.encode_prompts(problems, tokenizer, template, room, flag)
    known = policy.get_input_embeddings().num_embeddings
    if (largest := max(map(max, prompts), default=-1)) >= known:
        raise BadInput(f"--model: its tokenizer makes token {largest}, and it knows {known}; they are not of one model")
    return prompts


def end_tokens(policy, tokenizer) -> list[int]:
    """Every id that ends a completion: the tokenizer's, the model's, and the end of a chat turn where there is one.

    Qwen2.5 has two (151643 and 151645); a sampler that knows only one of them runs on past the other.
    """
    ids = set()
    for source in (tokenizer.eos_token_id, policy.config.eos_token_id, policy.generation_config.eos_token_id):
        ids.update(source if isinstance(source, list) else [source])
    if getattr(tokenizer, "chat_template", None):
        ids.add(tokenizer.get_vocab().get("<|im_end|>"))
    return sorted(ids - {None})


# --- ready to be trained --------------------------------------------------------------------------------------------


def decoder_layers(policy) -> list[torch.nn.Module]:
    """The layers of a model of transformers, all alike."""
    return [module for module in policy.modules() if isinstance(module, GradientCheckpointingLayer)]


def add_lora(policy, rank: int, seed: int):
    """Put LoRA adapters (alpha twice the rank) into all linear layers but the head, and freeze the rest.

    Returns the peft model, whose merge_and_unload gives a plain model again. Raises BadInput without peft.
    """
    try:
        import peft
    except ImportError:
        raise BadInput("--lora needs the package peft: pip install peft") from None
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # peft draws the adapters from torch's own stream
        try:
            return peft.get_peft_model(policy, config)
        except ValueError as error:  # no linear layers that it knows
            raise BadInput(f"--lora {rank}: {str(error).splitlines()[0]}; leave it out") from None


def checkpoint_gradients(policy) -> None:
    """Let layers keep only their input for the backward pass, wherever a gradient is asked for. Raises BadInput.

    transformers lets a layer do that in training mode; what is inside the layer stays in eval mode, without dropout.
    """

    def contexts():  # of the first pass, which has its own, and of what is computed again
        return nullcontext(), attention(policy, "packed")

    # transformers has renamed it; the old name warns. Nothing random is in a layer, so no state of it is kept.
    enable = getattr(policy, "activation_checkpointing_enable", policy.gradient_checkpointing_enable)
    try:
        enable({"use_reentrant": False, "preserve_rng_state": False, "context_fn": contexts})
    except ValueError as error:  # not for this kind of model
        raise BadInput(f"--gradient-checkpointing: {str(error).splitlines()[0]}; leave it out") from None

    # A hook, so that sampling, which asks for no gradient, and training switch by themselves.
    def switch(body, arguments) -> None:
        for layer in decoder_layers(body):
            layer.training = torch.is_grad_enabled()

    probe = torch.arange(3, device=policy.device)[None]
    with torch.no_grad():
        plain = policy.base_model(input_ids=probe).last_hidden_state
    policy.base_model.register_forward_pre_hook(switch)
    if not torch.equal(policy.base_model(input_ids=probe).last_hidden_state, plain):
        raise BadInput("--gradient-checkpointing: would switch on this model's dropout; leave it out")


def frozen_copy(policy):
    """The starting model, which the KL penalty is measured from, and which is the offline annotator.

    It shares what is frozen anyway: with adapters it copies these alone, and they start as zero.
    """
    # deepcopy does not copy what is in its memo (id -> copy) already.
    shared = {id(p): p for p in policy.parameters() if not p.requires_grad}
    return copy.deepcopy(policy, shared).requires_grad_(False)
