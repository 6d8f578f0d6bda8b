"""data.py: what is a problem, where do problems come from, and what does the model see?

A problem is a prompt, an answer and a kind; the kind names the checker in verify/. Problems come from the toy worlds,
from running/arithmetic.py, from the hub (`gsm8k`, `math`, ...) or from a file of JSON lines. A template turns a problem
into the tokens that the model continues. Templates follow the papers word for word, misprints included, because a base
model's score depends on them: on MATH-500, Qwen2.5-7B solves 61 % with `qwen-boxed` (an independent repetition of "Does
Reinforcement Learning Really Incentivize...", 2504.13837), but 35 % with that paper's own think/answer prompt (its
Table 2), which is not here. `r1-zero` is a third prompt, with which the noisy-reward paper starts at 5 % (2505.22653).

Differs from the papers: a MATH solution that ends in two boxes ("$\\boxed{1}$ and $\\boxed{9}$") has an answer of two
parts, and its last box holds only one of them. We drop and count such problems; the papers train on the wrong gold.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import toy
import verify
from running import arithmetic
from running.files import BadInput, read_jsonl
from running.rows import GYM, HUB, gym_rows, hub_rows, read_row


@dataclass(frozen=True)
class Problem:
    """One problem of any source."""

    prompt: str  # the text of the problem, without any template
    answer: str  # the gold answer, as verify.is_correct takes it
    kind: str = "math"  # one of verify.CHECKERS


# --- problems -------------------------------------------------------------------------------------------------------


def load_problems(name_or_path: str, split: str = "train", limit: int | None = None) -> list[Problem]:
    """Problems by name (toy.WORLDS, `arithmetic`, HUB, `reasoning-gym:TASK`) or from a .jsonl / .jsonl.gz file.

    At most `limit` of them. running/rows.py says which columns a file may have; `split` does not apply to a file. Rows
    without a usable gold are dropped with a warning that counts them; they are never scored as wrong. Raises BadInput.
    """
    if name_or_path in toy.WORLDS:
        world = toy.WORLDS[name_or_path]
        return [Problem(*pair, world.kind) for pair in world.make_problems(split, limit or world.number[split])]
    if name_or_path == "arithmetic":
        # There are few products, so that a longer list would be of sums alone.
        size = {"train": 400, "test": arithmetic.TEST_PROBLEMS}[split]
        return [Problem(*pair, kind="number") for pair in arithmetic.make_problems(split, min(limit or size, size))]
    if name_or_path in HUB:
        rows = hub_rows(name_or_path, split)
    elif name_or_path.startswith(GYM):
        rows = gym_rows(name_or_path, split)
    elif not Path(name_or_path).is_file():
        known = ", ".join([*toy.WORLDS, "arithmetic", *HUB])
        raise BadInput(f"--data {name_or_path}: no such file, and not one of {known}")
    elif not name_or_path.endswith((".jsonl", ".jsonl.gz")):
        raise BadInput(f"--data {name_or_path}: not .jsonl or .jsonl.gz; convert it to one JSON object a line")
    else:
        rows = read_jsonl(Path(name_or_path), "--data")  # one at a time: with a limit, the rest is not read

    problems, dropped = [], 0
    for row in rows:
        try:
            problem = Problem(*read_row(row))
            known = problem.kind in verify.CHECKERS
            usable = known and verify.usable(problem.answer, problem.kind)
        except (TypeError, KeyError, ValueError, AttributeError):  # other columns, or other things in them
            raise BadInput(
                f"--data {name_or_path}: a row has the columns {', '.join(row)}; "
                "needed are texts in problem, question or prompt, and in answer, solution or tests"
            ) from None
        if not known:
            raise BadInput(f"--data {name_or_path}: kind {problem.kind!r}; choose from {', '.join(verify.CHECKERS)}")
        if usable and problem.prompt:
            problems.append(problem)
        else:
            dropped += 1
        if len(problems) == limit:  # never, if it is None
            break
    if dropped:
        share = f"{dropped} of {dropped + len(problems)} rows dropped"
        warnings.warn(f"{name_or_path}: {share}: no usable gold answer", stacklevel=2)
    if not problems:
        raise BadInput(f"--data {name_or_path}: no usable problem in it")
    return problems


def check_code_execution(problems: list[Problem], allowed: bool) -> None:
    """Raise BadInput if grading these problems runs code that a model wrote, and the user has not allowed it."""
    if not allowed and any(problem.kind == "code" for problem in problems):
        raise BadInput(
            "--data: its problems are graded by running what the model writes: read verify/sandbox.py, then give "
            "--allow-code-execution"
        )


# --- templates ------------------------------------------------------------------------------------------------------

# Intuitor's own words (2505.19590 v2, appendix B.1, and its released settings): "to provided", "outputing"
INTUITOR = (
    "You are a helpful AI Assistant, designed to provided well-reasoned and detailed responses. You FIRST think about "
    "the reasoning process step by step and then provide the user with the answer. Please enclose your final answer in "
    "the box: \\boxed{Your Answer}."
)
INTUITOR_STOP = INTUITOR + " Please stop generation immediately after outputing the box."
INTUITOR_LARGE = (
    "You are a helpful AI Assistant, designed to provided well-reasoned and detailed responses. Please provide a "
    "step-by-step solution to the following problem."
)
INTUITOR_CODE = "You are an AI designed to help solve competitive programming problems by generating Python code."
CODE_REQUEST = (  # Intuitor's script takes one of four requests at random; this is the fourth
    "{problem}\n\nProvide a Python program that solves the above problem. Output only the code, nothing else:\n"
    "```python\n# Your code here\n```"
)
# The noisy-reward paper's (2505.22653, Figure 2), which is Open-Reasoner-Zero's: the model starts inside <think>. Its
# release stores this as a user's turn, but its math script trains on the text alone, without a chat template; so do we.
R1_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
    "first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> "
    "reasoning process here </think> <answer> answer here </answer>. User: You must put your answer inside <answer> "
    "</answer> tags, i.e., <answer> answer here </answer>. And your final answer will be extracted automatically by "
    "the \\boxed{} tag. {problem} Assistant: <think>"
)

# name -> a text with {problem} in it, or a list of chat messages for the tokenizer's own chat template
TEMPLATES = {
    "plain": "{problem}",
    "qa": "Q: {problem}\nA:",  # no paper's: what SmolLM2 is warmed up with
    "r1-zero": R1_ZERO,
    # the evaluation of the limit of RLVR (2504.13837), after SimpleRL-Zoo: Qwen's chat, instruction after the question
    "qwen-boxed": [
        ("system", "You are a helpful assistant."),
        ("user", "{problem}\nPlease reason step by step, and put your final answer within \\boxed{}."),
    ],
    "intuitor": [("system", INTUITOR), ("user", "{problem}")],  # 1.5B
    "intuitor-boxed-stop": [("system", INTUITOR_STOP), ("user", "{problem}")],  # 3B
    "intuitor-step-by-step": [("system", INTUITOR_LARGE), ("user", "{problem}")],  # 7B and 14B: a box is not mentioned
    "intuitor-code": [("system", INTUITOR_CODE), ("user", CODE_REQUEST)],
    "code": [("user", "{problem}\n\nAnswer with the complete Python program between ```python and ```.")],
}

TEMPLATE_OF = {"arithmetic": "qa"}  # what --template is for these data, if it is not given


def default_template(tokenizer, kind: str = "math") -> str:
    """`qwen-boxed` (`code` for programs) for a tokenizer that has a chat template, else `plain`."""
    if not getattr(tokenizer, "chat_template", None):
        return "plain"
    return "code" if kind == "code" else "qwen-boxed"


def encode_prompt(problem: Problem, tokenizer, template: str) -> list[int]:
    """The token ids that the model continues. Raises BadInput for a template that does not exist or does not fit.

    They begin with exactly the special tokens that the model expects, and end where its own text starts: behind the
    header of the assistant.
    """
    if template not in TEMPLATES:
        raise BadInput(f"--template {template}: unknown; choose from {', '.join(TEMPLATES)}")
    pattern = TEMPLATES[template]
    if isinstance(pattern, str):  # plain text: the tokenizer adds what it always adds
        return tokenizer(pattern.replace("{problem}", problem.prompt))["input_ids"]
    if not getattr(tokenizer, "chat_template", None):
        raise BadInput(f"--template {template} needs a model whose tokenizer has a chat template; use plain or r1-zero")
    messages = [{"role": role, "content": text.replace("{problem}", problem.prompt)} for role, text in pattern]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    # The chat template has written the beginning-of-sequence token; the tokenizer must not add a second one.
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_prompts(problems: list[Problem], tokenizer, template: str, room: int) -> list[list[int]]:
    """encode_prompt for each problem. Raises BadInput if a prompt is empty or longer than `room` tokens."""
    prompts = [encode_prompt(problem, tokenizer, template) for problem in problems]
    for problem, prompt in zip(problems, prompts, strict=True):
        start = f"{problem.prompt[:60]!r}"
        if not prompt:  # the toy's tokenizer drops every character that it does not know
            raise BadInput(f"--data: the tokenizer makes no token of {start}; does --model fit the data?")
        if len(prompt) > room:
            raise BadInput(
                f"--data: a prompt has {len(prompt)} tokens, but the model's context leaves {room} beside "
                f"--max-new-tokens; lower that or leave the problem out ({start}...)"
            )
    return prompts
