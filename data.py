"""data.py: what is a problem, where do problems and models come from, and what does the model see?

A problem is a prompt, an answer and a kind (the kind names the checker in verify.py). Problems come from the toy world,
from the hub (`gsm8k`, `math`, `math500`) or from a file of JSON lines; a template turns one into the tokens that a
model continues. Templates follow the papers word for word, their slips of the pen included, because a base model's
score depends on them: Qwen2.5-7B solves 61 % of MATH-500 with `qwen-boxed` and 35 % with `r1-zero` ("Does Reinforcement
Learning Really Incentivize...", 2504.13837, Table 2, and an independent repetition).

Differs from the papers: a MATH solution that ends in two boxes ("$\\boxed{1}$ and $\\boxed{9}$") has a two-part answer,
of which "the last box" is half. Such problems are dropped and counted; the papers train on the wrong gold.
"""

import gzip
import json
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import torch
import transformers

import toy


class BadInput(ValueError):
    """What the user gave cannot be used. The message is one line that names the flag or file and the way out."""


@dataclass(frozen=True)
class Problem:
    """One problem of any source."""

    prompt: str  # the text of the problem, without any template
    answer: str  # the gold answer, as verify.is_correct takes it
    kind: str = "math"


# name -> (hub id, configuration, columns of problem and answer)
HUB = {
    "gsm8k": ("openai/gsm8k", "main", "question", "answer"),
    "math": ("DigitalLearningGmbH/MATH-lighteval", "default", "problem", "solution"),  # Intuitor trains on its 7,500
    "math500": ("HuggingFaceH4/MATH-500", "default", "problem", "answer"),  # a test set only
}


# --- problems -------------------------------------------------------------------------------------------------------


def gold_answer(row: dict) -> str:
    """The gold of one row, or "" if the row has none that can be graded against.

    GSM8K writes its answer behind `####`, MATH in the last box of its solution; other rows have an `answer` column.
    """
    solution = str(row.get("solution") or "")
    if re.search(r"\\boxed\s*\{[^$]*\}\s*\$\s*and\s*\$\s*\\boxed", solution):
        return ""  # "$\boxed{1}$ and $\boxed{9}$": the last box is half of the answer
    if row.get("answer") is not None:
        return str(row["answer"]).rpartition("####")[2].strip()
    _, box, tail = solution.rpartition("\\boxed")
    if not box:
        return ""
    if not tail.lstrip().startswith("{"):
        return tail.partition("$")[0].strip()  # "$\boxed 2$", twice in MATH
    depth = 0
    for i, character in enumerate(tail):
        depth += (character == "{") - (character == "}")
        if character == "}" and depth == 0:
            return tail[tail.index("{") + 1 : i].strip()
    return ""


def read_rows(path: Path) -> Iterable[dict]:
    """The objects of a .jsonl or .jsonl.gz file. Raises BadInput, with the number of the line."""
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                number += 1
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"a {type(row).__name__}, not an object")
                    yield row
    except (ValueError, EOFError, OSError) as error:  # not JSON, not UTF-8, not gzip, cut off
        raise BadInput(f"--data {path}, line {number}: {error}; give one JSON object a line, in UTF-8") from None


def load_problems(name_or_path: str, split: str = "train", limit: int | None = None) -> list[Problem]:
    """Problems by name (`toy`, `gsm8k`, `math`, `math500`) or from a .jsonl / .jsonl.gz file, at most `limit` of them.

    A file has the columns problem | question | prompt and answer (or solution); `split` does not apply to it.
    Rows without a usable gold are dropped with a counted warning, never scored. Raises BadInput.
    """
    if name_or_path == "toy":
        number = limit or {"train": 640, "test": 180}[split]  # 160 of each 1..4, 30 of each 1..6 operations
        return [Problem(*pair, kind="number") for pair in toy.make_problems(split, number)]
    if name_or_path in HUB:
        rows = hub_rows(name_or_path, split)
    elif Path(name_or_path).is_file():
        if not name_or_path.endswith((".jsonl", ".jsonl.gz")):
            raise BadInput(f"--data {name_or_path}: not .jsonl or .jsonl.gz; convert it to one JSON object a line")
        rows = read_rows(Path(name_or_path))
    else:
        raise BadInput(f"--data {name_or_path}: no such file, and not one of toy, {', '.join(HUB)}")

    problems, dropped = [], 0
    for row in rows:
        texts = [row[column] for column in ("problem", "question", "prompt") if isinstance(row.get(column), str)]
        prompt = texts[0] if texts else None
        if prompt is None or not ("answer" in row or "solution" in row):
            raise BadInput(
                f"--data {name_or_path}: a row has the columns {', '.join(row)}; "
                "needed are problem, question or prompt, and answer or solution"
            )
        answer = gold_answer(row)
        if answer and prompt.strip():
            problems.append(Problem(prompt.strip(), answer))
        else:
            dropped += 1
        if limit is not None and len(problems) == limit:
            break
    if dropped:
        warnings.warn(
            f"{name_or_path}: {dropped} of {dropped + len(problems)} rows dropped: no usable gold answer", stacklevel=2
        )
    if not problems:
        raise BadInput(f"--data {name_or_path}: no usable problem in it")
    return problems


def hub_rows(name: str, split: str) -> Iterable[dict]:
    """The rows of a data set of the hub, with our column names."""
    import datasets  # here, not above: the toy and local files do without its second of import time

    hub_id, configuration, problem, answer = HUB[name]
    huggingface_hub.utils.logging.set_verbosity_error()  # one line of ours says it, not one for each retry
    try:
        rows = datasets.load_dataset(hub_id, configuration, split=split)
    except (ConnectionError, OSError, ValueError) as error:  # no network; no such data set; no such split
        raise BadInput(f"--data {name}: cannot load {hub_id} ({split}) from the hub: {type(error).__name__}") from None
    return ({"problem": row[problem], ("solution" if answer == "solution" else "answer"): row[answer]} for row in rows)


# --- models ---------------------------------------------------------------------------------------------------------


def resolve_device(device: str, dtype: str) -> tuple[str, torch.dtype]:
    """The flags --device and --dtype, `auto` decided: bfloat16 on a GPU, float32 on a CPU. Raises BadInput."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cpu" and device not in ("cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))):
        raise BadInput(f"--device {device}: unknown; choose auto, cpu, cuda or cuda:N")
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput(f"--device {device}: torch finds no CUDA device on this machine; use --device cpu")
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # streams and graphs take the current one
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    names["auto"] = torch.float32 if device == "cpu" else torch.bfloat16
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


def load_model(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32):
    """(policy, tokenizer) for `toy`, a folder or a hub id, dropout off. Raises BadInput.

    In bfloat16 it is for sampling and for grpo.adamw, which keeps float32 masters.
    """
    transformers.utils.logging.disable_progress_bar()  # for a second of loading
    path = str(toy.base_model()) if name == "toy" else name
    local = Path(path).is_dir()
    if not local and not re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
        raise BadInput(
            f"--model {name}: no such folder; give toy, a folder with a saved model, or a hub id (Qwen/Qwen2.5-0.5B)"
        )
    try:
        local = local or not hub_answers(name)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=local)
        policy = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=local)
    except (
        Exception
    ) as error:  # no such model, no network, no language model, no tokenizer, broken or unfitting weights
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise BadInput(f"--model {name}: no folder and no hub id that a model can be loaded from ({reason})") from None
    policy.eval().to(device)
    # generate.py and grpo.py compute logits as head(hidden state). Some models do more to them (soft-capping, scaling).
    probe = torch.arange(8, device=device)[None] % policy.config.vocab_size
    with torch.no_grad():
        ours = policy.get_output_embeddings()(policy.base_model(input_ids=probe).last_hidden_state)
        if not torch.allclose(ours, policy(input_ids=probe).logits, atol=1e-4, rtol=1e-4):
            raise BadInput(
                f"--model {name}: {type(policy).__name__} does more to its logits than a linear "
                "head; use a model that does not, such as Qwen2"
            )
    return policy, tokenizer


# --- templates ------------------------------------------------------------------------------------------------------

INTUITOR = (  # "designed to provided" is Intuitor's (2505.19590 v2, appendix B.1, and its released settings)
    "You are a helpful AI Assistant, designed to provided well-reasoned and detailed responses. You FIRST think about "
    "the reasoning process step by step and then provide the user with the answer. Please enclose your final answer in "
    "the box: \\boxed{Your Answer}."
)
R1_ZERO = (  # the noisy-reward paper (2505.22653, Figure 2), after Open-Reasoner-Zero; the model starts inside <think>
    "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. The Assistant "
    "first thinks about the reasoning process in the mind and then provides the User with the answer. The reasoning "
    "process is enclosed within <think> </think> and answer is enclosed within <answer> </answer> tags, respectively, "
    "i.e., <think> reasoning process here </think> <answer> answer here </answer>. User: You must put your answer "
    "inside <answer> </answer> tags, i.e., <answer> answer here </answer>. And your final answer will be extracted "
    "automatically by the \\boxed{} tag.\n"
    "{problem}\nAssistant: <think>"
)

# name -> a text with {problem} in it, or a list of chat messages for the tokenizer's own chat template
TEMPLATES = {
    "plain": "{problem}",
    # the limit-of-RLVR evaluation (2504.13837), after SimpleRL-Zoo: Qwen's chat, instruction behind the question
    "qwen-boxed": [
        ("system", "You are a helpful assistant."),
        ("user", "{problem}\nPlease reason step by step, and put your final answer within \\boxed{}."),
    ],
    "intuitor": [("system", INTUITOR), ("user", "{problem}")],  # Intuitor, 1.5B
    "intuitor-boxed-stop": [  # Intuitor, 3B ("outputing" is theirs)
        ("system", INTUITOR + " Please stop generation immediately after outputing the box."),
        ("user", "{problem}"),
    ],
    "r1-zero": R1_ZERO,
}


def context_room(policy, max_new_tokens: int) -> int:
    """How many tokens a prompt may have beside its completion."""
    return getattr(policy.config, "max_position_embeddings", 10**9) - max_new_tokens


def default_template(tokenizer) -> str:
    """`qwen-boxed` for a tokenizer that has a chat template, else `plain`."""
    return "qwen-boxed" if getattr(tokenizer, "chat_template", None) else "plain"


def encode_prompt(problem: Problem, tokenizer, template: str) -> list[int]:
    """The token ids that the model continues, with exactly the special tokens that the model expects in front.

    A chat template writes its own beginning-of-sequence token, so none is added to its text; to plain text the
    tokenizer adds what it always adds. The prompt ends where the model must start: behind the assistant's header.
    """
    if template not in TEMPLATES:
        raise BadInput(f"--template {template}: unknown; choose from {', '.join(TEMPLATES)}")
    pattern = TEMPLATES[template]
    if isinstance(pattern, str):
        return tokenizer(pattern.replace("{problem}", problem.prompt))["input_ids"]
    if not getattr(tokenizer, "chat_template", None):
        raise BadInput(f"--template {template} needs a model whose tokenizer has a chat template; use plain or r1-zero")
    messages = [{"role": role, "content": text.replace("{problem}", problem.prompt)} for role, text in pattern]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_prompts(problems: list[Problem], tokenizer, template: str, room: int) -> list[list[int]]:
    """encode_prompt for each problem. Raises BadInput for an empty prompt and for one longer than `room` tokens."""
    prompts = [encode_prompt(problem, tokenizer, template) for problem in problems]
    for problem, prompt in zip(problems, prompts, strict=True):
        if not prompt:
            raise BadInput(
                f"--data: the tokenizer makes no token of {problem.prompt[:60]!r}; does --model fit the data?"
            )
        if len(prompt) > room:
            raise BadInput(
                f"--data: a prompt has {len(prompt)} tokens, but the model's context leaves {room} beside "
                f"--max-new-tokens; lower that or leave the problem out ({problem.prompt[:60]!r}...)"
            )
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
