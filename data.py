"""data.py: what is a problem, where do problems come from, and what does the model see?

A problem is a prompt, an answer and a kind; the kind names the checker in verify/. Problems come from the toy worlds,
from running/arithmetic.py, from the hub (`gsm8k`, `math`, OWNER/NAME) or from a file. A template turns a problem into
the tokens that the model continues; a prompt that is a list of chat messages is continued as it is. Templates follow
the papers word for word, misprints included, because a base model's score depends on them: on MATH-500, Qwen2.5-7B
solves 61 % with `qwen-boxed` (an independent repetition of "Does Reinforcement Learning Really Incentivize...",
2504.13837), but 35 % with that paper's own think/answer prompt (its Table 2), which is not here. `r1-zero` is a third
prompt, with which the noisy-reward paper starts at 5 % (2505.22653).

Differs from the papers: a MATH solution that ends in two boxes ("$\\boxed{1}$ and $\\boxed{9}$") has an answer of two
parts, and its last box holds only one of them. We drop and count such problems; the papers train on the wrong gold.
"""

import warnings
from dataclasses import dataclass, field
from random import Random

import jinja2

import toy
import verify
from running import arithmetic
from running.files import BadInput, in_a_line
from running.rows import HUB, NEEDED, Unfit, read_row, rows_of


@dataclass(frozen=True)
class Problem:
    """One problem of any source."""

    prompt: str  # the text of the problem, without any template; of a chat, the contents of its messages
    answer: str | None  # the gold answer, as verify.is_correct takes it; None: nobody knows it
    kind: str = "math"  # one of verify.CHECKERS
    chat: tuple[tuple[str, str], ...] = ()  # (role, content) of the messages, if the prompt is a chat
    row: dict | None = field(default=None, compare=False, repr=False)  # all columns, where somebody asks for them

    @property
    def given(self) -> str | list[dict]:
        """The prompt as the data have it: a text, or the messages of a chat."""
        return [{"role": role, "content": text} for role, text in self.chat] if self.chat else self.prompt


class NoAnswers(BadInput):
    """None of the problems has an answer, and answers are needed."""


# --- problems -------------------------------------------------------------------------------------------------------


def load_problems(
    name_or_path: str,
    split: str = "train",
    limit: int | None = None,
    flag: str = "--data",
    answers: bool = True,
    rows: bool = False,
) -> list[Problem]:
    """Problems by name (toy.WORLDS, `arithmetic`, HUB, `reasoning-gym:TASK`, OWNER/NAME of the hub) or from a file.

    At most `limit` of them. running/rows.py says which columns a file may have; `split` does not apply to a file. Rows
    without a usable gold are dropped with a warning that counts them; they are never scored as wrong. answers: whether
    each problem needs one; otherwise those that have none at all stay, with None. rows: keep each row. flag: whom to
    blame. Raises BadInput, and NoAnswers where that is what is missing.
    """
    if name_or_path in toy.WORLDS:
        world = toy.WORLDS[name_or_path]
        return [Problem(*pair, world.kind) for pair in world.make_problems(split, limit or world.number[split])]
    if name_or_path == "arithmetic":
        # There are few products, so that a longer list would be of sums alone.
        size = {"train": 400, "test": arithmetic.TEST_PROBLEMS}[split]
        return [Problem(*pair, kind="number") for pair in arithmetic.make_problems(split, min(limit or size, size))]

    problems, dropped, unanswered, said = [], 0, 0, f"{flag} {name_or_path}"
    rows_there = rows_of(name_or_path, split, flag)
    if rows_there is None:
        known = ", ".join([*toy.WORLDS, "arithmetic", *HUB])
        name = in_a_line(ValueError(name_or_path)) if name_or_path.strip() else repr(name_or_path)
        raise BadInput(f"{flag} {name}: no such file, and not one of {known} or a data set of the hub, OWNER/NAME")
    for place, row in rows_there:  # one at a time: with a limit, the rest is not read
        prompt, answer, kind, chat = checked_row(row, f"{said}, {place}")
        usable = bool(prompt) and (not answers if answer is None else answer != "")
        if usable:
            problems.append(Problem(prompt, answer, kind, chat, row if rows else None))
        dropped, unanswered = dropped + (not usable), unanswered + (answer is None)
        if len(problems) == limit:  # never, if it is None
            break
    if dropped and problems:
        share = f"{dropped} of {dropped + len(problems)} rows dropped"
        warnings.warn(f"{name_or_path}: {share}: no usable gold answer", stacklevel=2)
    if not problems and dropped and unanswered == dropped:
        raise NoAnswers(
            f"{said}: no row has an answer (in answer, solution or tests); --reward self_certainty needs none"
        )
    if not problems:
        raise BadInput(f"{said}: no usable problem in it; {NEEDED}")
    return problems


def checked_row(row: dict, said: str) -> tuple[str, str | None, str, tuple]:
    """What read_row gives, with "" for a gold that no answer could meet. said: the start of a message; BadInput."""
    try:
        prompt, answer, kind, chat = read_row(row)
        if not isinstance(prompt, str):
            raise Unfit("the prompt is no text")
        if kind not in verify.CHECKERS:
            raise Unfit(f"kind {in_a_line(ValueError(repr(kind)))}: choose from {', '.join(verify.CHECKERS)}")
        if answer and not verify.usable(answer, kind):
            answer = ""
        f"{prompt}{answer}".encode()
    except UnicodeEncodeError:  # no tokenizer and no file takes it
        raise BadInput(f"{said}: holds half of a surrogate pair; write the text again, in UTF-8") from None
    except Unfit as error:
        raise BadInput(f"{said}: {error}") from None
    except (TypeError, KeyError, ValueError, AttributeError, RecursionError):  # other columns, or other things in them
        columns = in_a_line(ValueError(", ".join(map(str, row))))
        raise BadInput(f"{said}: a row has the columns {columns}; {NEEDED}") from None
    return prompt, answer, kind, chat


def hold_out(problems: list[Problem], share: float, seed: int) -> tuple[list[Problem], list[Problem]]:
    """(problems to train on, held-out ones): that share of the different prompts, drawn by the seed alone.

    A prompt that comes twice stays on one side, or what is held out would be trained on. Raises BadInput if either
    side is empty.
    """
    prompts = sorted({problem.prompt for problem in problems})
    Random(f"held-out-{seed}").shuffle(prompts)
    held = set(prompts[: round(share * len(prompts))])
    if not 0 < len(held) < len(prompts):
        number = f"{len(held)} of {len(prompts)} different problems"
        raise BadInput(f"--eval-split {share:g}: holds out {number}; some must be held out, and some must be left")
    return [p for p in problems if p.prompt not in held], [p for p in problems if p.prompt in held]


def check_code_execution(problems: list[Problem], allowed: bool) -> None:
    """Raise BadInput if grading these problems runs code that a model wrote, and the user has not allowed it, or this
    system cannot."""
    if not any(problem.kind == "code" for problem in problems):
        return
    if not verify.sandbox.AVAILABLE:
        raise BadInput(
            "--data: its problems are graded by running what the model writes, which needs Linux or another Unix"
        )
    if not allowed:
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
    "chat": [("user", "{problem}")],  # the tokenizer's own chat; all that prompts which are chats already can take
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


def default_template(tokenizer, kind: str = "math", chat: bool = False) -> str:
    """`qwen-boxed` (`code` for programs, `chat` for prompts that are chats) for a tokenizer that has a chat template,
    else `plain`."""
    if not getattr(tokenizer, "chat_template", None):
        return "plain"
    return "chat" if chat else "code" if kind == "code" else "qwen-boxed"


def encode_prompt(problem: Problem, tokenizer, template: str, flag: str = "--data") -> list[int]:
    """The token ids that the model continues. Raises BadInput for a template that does not exist or does not fit.

    They begin with exactly the special tokens that the model expects, and end where its own text starts: behind the
    header of the assistant. A prompt that is a chat is given to the tokenizer's chat template as it is. It says itself
    what a template of ours would say, so any but `chat` is refused.
    """
    if template not in TEMPLATES:
        raise BadInput(f"--template {template}: unknown; choose from {', '.join(TEMPLATES)}")
    pattern, chats = TEMPLATES[template], bool(getattr(tokenizer, "chat_template", None))
    if problem.chat and not chats:
        raise BadInput(
            f"{flag}: a prompt is a list of messages, but --model has no chat template; give prompts as texts"
        )
    if problem.chat and template != "chat":
        raise BadInput(
            f"--template {template}: a prompt of {flag} is a chat, with words of its own; give --template chat"
        )
    if isinstance(pattern, str):  # plain text: the tokenizer adds what it always adds
        return tokenizer(pattern.replace("{problem}", problem.prompt))["input_ids"]
    if not chats:
        raise BadInput(f"--template {template} needs a model whose tokenizer has a chat template; use plain or r1-zero")
    turns = [{"role": role, "content": text.replace("{problem}", problem.prompt)} for role, text in pattern]
    try:
        text = tokenizer.apply_chat_template(
            problem.given if problem.chat else turns, tokenize=False, add_generation_prompt=True
        )
    except jinja2.TemplateError as error:  # two turns of the same role in a row, say; or a template that breaks out
        raise BadInput(
            f"{flag}: the chat template of --model refuses a prompt ({in_a_line(error)}); mend one"
        ) from None
    # The chat template has written the beginning-of-sequence token; the tokenizer must not add a second one.
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_prompts(
    problems: list[Problem], tokenizer, template: str, room: int, flag: str = "--data"
) -> list[list[int]]:
    """encode_prompt for each problem. Raises BadInput if a prompt is empty or longer than `room` tokens.

    flag: which names the problems, and is to blame.
    """
    prompts = [encode_prompt(problem, tokenizer, template, flag) for problem in problems]
    for problem, prompt in zip(problems, prompts, strict=True):
        start = f"{problem.prompt[:60]!r}"
        if not prompt:  # the toy's tokenizer drops every character that it does not know
            raise BadInput(f"{flag}: the tokenizer makes no token of {start}; does --model fit the data?")
        if len(prompt) > room:
            raise BadInput(
                f"{flag}: a prompt has {len(prompt)} tokens, but the model's context leaves {room} beside "
                f"--max-new-tokens; lower that or leave the problem out ({start}...)"
            )
    return prompts
