"""data.py: what is a problem, where do problems come from, and what does the model see?

A problem is a prompt, an answer and a kind (the kind names the checker in verify.py). Problems come from the toy world,
from the hub (`gsm8k`, `math`, `math500`) or from a file of JSON lines; a template turns one into the tokens that a
model continues. Templates follow the papers word for word, their slips of the pen included, because a base model's
score depends on them: Qwen2.5-7B solves 61 % of MATH-500 with `qwen-boxed` and 35 % with `r1-zero` ("Does Reinforcement
Learning Really Incentivize...", 2504.13837, Table 2, and an independent repetition).

Differs from the papers: a MATH solution that ends in two boxes ("$\\boxed{1}$ and $\\boxed{9}$") has a two-part answer,
of which "the last box" is half. Such problems are dropped and counted; the papers train on the wrong gold.
"""

import json
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub

import toy
import verify
from running.files import BadInput, read_jsonl


@dataclass(frozen=True)
class Problem:
    """One problem of any source."""

    prompt: str  # the text of the problem, without any template
    answer: str  # the gold answer, as verify.is_correct takes it
    kind: str = "math"


# name -> (hub id, configuration); `problem_of` knows their columns
HUB = {
    "gsm8k": ("openai/gsm8k", "main"),
    "math": ("DigitalLearningGmbH/MATH-lighteval", "default"),  # Intuitor trains on its 7,500
    "math500": ("HuggingFaceH4/MATH-500", "default"),  # a test set only
    "mmlu-pro": ("TIGER-Lab/MMLU-Pro", "default"),  # a test set
    "code_contests": ("deepmind/code_contests", "default"),  # Intuitor's "Codeforces"
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


def problem_of(row: dict) -> Problem | None:
    """A row of any data set that we know as a problem, or None. Its answer is "" if the row has no usable gold.

    problem | question | prompt, and answer | solution      math, or the row's `kind` if it names one
    the same, and tests (a text or a list of asserts)       code; MBPP's text and test_list, HumanEval's test too
    description, public_tests                               code that reads its input and prints (code_contests)
    question, options, answer (a letter)                    choice (MMLU-Pro)
    code, input, output                                     literal (CRUXEval, output prediction)
    target, nums                                            countdown
    """
    columns = ("problem", "question", "prompt", *(["text"] if "test_list" in row else []))
    texts = [row[column] for column in columns if isinstance(row.get(column), str)]
    text = texts[0].strip("\n") if texts else ""
    if {"target", "nums"} <= row.keys():
        numbers = ", ".join(map(str, row["nums"]))
        text = f"Use each of the numbers {numbers} exactly once, with + - * / and parentheses, to make {row['target']}."
        return Problem(text, json.dumps({"target": row["target"], "nums": row["nums"]}), "countdown")
    if {"code", "input", "output"} <= row.keys():
        call = f"assert f({row['input']}) == "
        return Problem(f"{row['code']}\n\n{call}??\n\nWhat value makes this true?", str(row["output"]), "literal")
    if {"prompt", "test", "entry_point"} <= row.keys():
        gold = {"prompt": row["prompt"], "entry_point": row["entry_point"]}
        gold["tests"] = f"{row['test']}\ncheck({row['entry_point']})"
        return Problem(row["prompt"], json.dumps(gold), "code")
    if "public_tests" in row:
        gold = [list(pair) for pair in zip(row["public_tests"]["input"], row["public_tests"]["output"], strict=True)]
        return Problem(row["description"].strip(), json.dumps({"printed": gold}) if gold else "", "code")
    if text and ("test_list" in row or "tests" in row):
        tests = row.get("tests", row.get("test_list"))
        tests = tests if isinstance(tests, str) else "\n".join(tests)
        setup = row.get("test_setup_code") or ""
        text = f"{text}\nYour code should pass these tests:\n{tests}"
        return Problem(text, json.dumps({"tests": f"{setup}\n{tests}"}) if tests else "", "code")
    if text and isinstance(row.get("options"), list):
        options = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCDEFGHIJ", row["options"], strict=False))
        return Problem(f"{text.strip()}\n{options}", str(row.get("answer") or "").strip(), "choice")
    if texts and ("answer" in row or "solution" in row):
        return Problem(text.strip(), gold_answer(row), row.get("kind") or "math")
    return None


def load_problems(name_or_path: str, split: str = "train", limit: int | None = None) -> list[Problem]:
    """Problems by name (`toy`, or one of HUB) or from a .jsonl / .jsonl.gz file, at most `limit` of them.

    A file has rows as `problem_of` knows them; `split` does not apply to it. Rows without a usable gold are dropped
    with a counted warning, never scored. Raises BadInput.
    """
    if name_or_path == "toy":
        number = limit or {"train": 640, "test": 180}[split]  # 160 of each 1..4, 30 of each 1..6 operations
        return [Problem(*pair, kind="number") for pair in toy.make_problems(split, number)]
    if name_or_path in HUB:
        rows = hub_rows(name_or_path, split)
    elif Path(name_or_path).is_file():
        if not name_or_path.endswith((".jsonl", ".jsonl.gz")):
            raise BadInput(f"--data {name_or_path}: not .jsonl or .jsonl.gz; convert it to one JSON object a line")
        rows = read_jsonl(Path(name_or_path), "--data")
    else:
        raise BadInput(f"--data {name_or_path}: no such file, and not one of toy, {', '.join(HUB)}")

    problems, dropped = [], 0
    for row in rows:
        try:
            problem = problem_of(row)
            known = problem is None or problem.kind in verify.CHECKERS
            usable = problem is not None and known and verify.usable(problem.answer, problem.kind)
        except (TypeError, KeyError, ValueError, AttributeError):  # the columns are there, but hold something else
            problem = None
        if problem is None:
            raise BadInput(
                f"--data {name_or_path}: a row has the columns {', '.join(row)}; "
                "needed are texts in problem, question or prompt, and in answer, solution or tests"
            )
        if not known:
            raise BadInput(f"--data {name_or_path}: kind {problem.kind!r}; there is {', '.join(verify.CHECKERS)}")
        if usable and problem.prompt:
            problems.append(problem)
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


def check_code_execution(problems: list[Problem], allowed: bool) -> None:
    """Raise BadInput if grading these problems runs what a model wrote, and nobody has said that it may."""
    if not allowed and any(problem.kind == "code" for problem in problems):
        raise BadInput(
            "--data: its problems are graded by running what the model writes: read sandbox.py, then give "
            "--allow-code-execution"
        )


def hub_rows(name: str, split: str) -> Iterable[dict]:
    """The rows of a data set of the hub."""
    import datasets  # here, not above: the toy and local files do without its second of import time

    hub_id, configuration = HUB[name]
    huggingface_hub.utils.logging.set_verbosity_error()  # one line of ours says it, not one for each retry
    try:
        return datasets.load_dataset(hub_id, configuration, split=split)
    except (ConnectionError, OSError, ValueError) as error:  # no network; no such data set; no such split
        raise BadInput(f"--data {name}: cannot load {hub_id} ({split}) from the hub: {type(error).__name__}") from None


# --- templates ------------------------------------------------------------------------------------------------------

INTUITOR = (  # "designed to provided" is Intuitor's (2505.19590 v2, appendix B.1, and its released settings)
    "You are a helpful AI Assistant, designed to provided well-reasoned and detailed responses. You FIRST think about "
    "the reasoning process step by step and then provide the user with the answer. Please enclose your final answer in "
    "the box: \\boxed{Your Answer}."
)
INTUITOR_LARGE = (
    "You are a helpful AI Assistant, designed to provided well-reasoned and detailed responses. Please provide a "
    "step-by-step solution to the following problem."
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
    "intuitor-step-by-step": [  # Intuitor, 7B and 14B: no word of a box
        ("system", INTUITOR_LARGE),
        ("user", "{problem}"),
    ],
    "intuitor-code": [  # Intuitor, code: its script takes one of four requests at random; this is the fourth
        ("system", "You are an AI designed to help solve competitive programming problems by generating Python code."),
        (
            "user",
            "{problem}\n\nProvide a Python program that solves the above problem. Output only the code, nothing "
            "else:\n```python\n# Your code here\n```",
        ),
    ],
    "code": [("user", "{problem}\n\nAnswer with the complete Python program between ```python and ```.")],
    "r1-zero": R1_ZERO,
}


def default_template(tokenizer, kind: str = "math") -> str:
    """`qwen-boxed` (`code` for programs) for a tokenizer that has a chat template, else `plain`."""
    if not getattr(tokenizer, "chat_template", None):
        return "plain"
    return "code" if kind == "code" else "qwen-boxed"


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
