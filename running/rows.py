"""rows.py: which rows does a name stand for, and what do the columns of the data sets that we know mean?"""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import huggingface_hub

import verify
from running.data_files import file_rows, kind_of_path, loaded_rows
from running.files import BadInput, in_a_line

# name -> (id on the hub, configuration)
HUB = {
    "gsm8k": ("openai/gsm8k", "main"),  # 7,473 to train on, 1,319 to test
    "math": ("DigitalLearningGmbH/MATH-lighteval", "default"),  # Intuitor trains on its 7,500
    "math500": ("HuggingFaceH4/MATH-500", "default"),  # a test set only
    "mmlu-pro": ("TIGER-Lab/MMLU-Pro", "default"),  # a test set
    "code_contests": ("deepmind/code_contests", "default"),  # Intuitor's "Codeforces"
}


ID = re.compile(r"([\w-][\w.-]*/[\w.-]+)(?::([\w.+-]+))?(?:@([\w.-]+))?")  # OWNER/NAME[:CONFIGURATION][@SPLIT]
LETTERS = "ABCDEFGHIJ"  # of up to ten options
ROLES = ("system", "user", "assistant")
NEEDED = "needed are a text in problem, question or prompt, and the answer in answer, solution or tests"


class Unfit(ValueError):
    """A row holds something else than it should; the message says which column and what."""


def rows_of(name: str, split: str, flag: str) -> Iterator[tuple[str, dict]] | None:
    """(place, row) of what --data names, but for the embedded worlds; a place is "line 3". None if it names nothing.

    split: of the hub and of folders; a name that ends in @SPLIT has its own. A file has no splits. Raises BadInput.
    """
    kind = kind_of_path(name) if name.strip() else None
    if name in HUB:
        return hub_rows(name, split, flag)
    if name.startswith(GYM):
        return ((f"row {number}", row) for number, row in enumerate(gym_rows(name, split, flag), 1))
    if kind == "file":
        return file_rows(Path(name).expanduser(), flag)
    if kind == "folder":
        said = f"{flag} {name}: cannot load this folder"
        return loaded_rows(str(Path(name).expanduser()), None, split, said, "check the split, and that it holds data")
    if kind == "other":
        raise BadInput(f"{flag} {name}: is no regular file (a pipe or a device); write the rows to a file")
    if hub_id(name):
        return hub_rows(name, split, flag)
    return None


def hub_id(name: str) -> str | None:
    """The id on the hub of what --data names, without configuration and split; None for what is not there."""
    if name in HUB:
        return HUB[name][0]
    found = ID.fullmatch(name)
    is_file = name.lower().endswith((".jsonl", ".gz", ".json", ".csv", ".parquet"))  # one that does not exist
    return found[1] if found and not is_file and not kind_of_path(name) else None


def has_splits(name: str) -> bool:
    """Whether a name is that of a data set of the hub, or a folder in its form: what has splits."""
    return kind_of_path(name) == "folder" or hub_id(name) is not None


def hub_rows(name: str, split: str, flag: str) -> Iterator[tuple[str, dict]]:
    """The rows of a data set of the hub, downloaded on first use. Raises BadInput."""
    huggingface_hub.utils.logging.set_verbosity_error()  # our one line says it; the hub would say it for each retry
    where, configuration, own_split = (*HUB[name], None) if name in HUB else ID.fullmatch(name).groups()
    said = f"{flag} {name}: no file here, and cannot load {where} from the hub"
    return loaded_rows(where, configuration, own_split or split, said, "check the name, the split and the network")


# --- columns --------------------------------------------------------------------------------------------------------


def named(value) -> str:
    """What a wrong value is, for a message."""
    if value is None:
        return "null"
    return str(value) if isinstance(value, float) else f"of type {type(value).__name__}"  # nan, inf


def scalar(value, column: str) -> str:
    """A text or a number as text. Raises Unfit for anything else, and for what is no number (NaN)."""
    if isinstance(value, str | int | Decimal) or isinstance(value, float) and math.isfinite(value):
        return str(value)
    raise Unfit(f"{column} is {named(value)}; give a text or a number")


def blank(value) -> bool:
    """Whether a column says nothing."""
    return value is None or isinstance(value, str) and not value.strip()


def gold_answer(row: dict) -> str | None:
    """The gold of a row: behind `####` in GSM8K, in the last box of the solution in MATH, else the `answer` column, or
    verl's `reward_model: {"ground_truth": ...}`.

    None if the row has none, "" if it cannot be used: the last box is only half of the answer, say.
    """
    solution = "" if blank(row.get("solution")) else scalar(row["solution"], "solution")
    if re.search(r"\\boxed\s*\{[^$]*\}\s*\$\s*and\s*\$\s*\\boxed", solution):
        return ""  # "$\boxed{1}$ and $\boxed{9}$"
    answer = row.get("answer")
    if blank(answer) and isinstance(row.get("reward_model"), dict):
        answer = row["reward_model"].get("ground_truth")
    if not blank(answer):
        return scalar(answer, "answer").rpartition("####")[2].strip()
    if not solution:
        return None
    _, box, tail = solution.rpartition("\\boxed")
    return (verify.boxed(box + tail) or "").strip()


def messages(prompt: list) -> tuple[tuple[str, str], ...]:
    """A chat-style prompt, [{"role": ..., "content": ...}, ...], as (role, content) pairs. Raises Unfit."""
    pairs = []
    for number, message in enumerate(prompt, 1):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise Unfit(f"message {number} of prompt is {named(message)}, without role and content")
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise Unfit(
                f"message {number} of prompt has the role {in_a_line(ValueError(repr(role)))}, not {', '.join(ROLES)}"
            )
        if not isinstance(content, str):
            raise Unfit(f"message {number} of prompt has a content {named(content)}, not a text")
        pairs.append((role, content))
    if not pairs or pairs[-1][0] != "user":
        raise Unfit("prompt is a list of messages, and the last one is not the user's")
    return tuple(pairs)


def puzzle(row: dict) -> str:
    """The gold of a countdown row. Raises Unfit for what cannot be one."""
    for value in (*(row["nums"] if isinstance(row["nums"], list) and row["nums"] else [None]), row["target"]):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Unfit("target and nums are not a number and a list of numbers")
    return json.dumps({"target": row["target"], "nums": row["nums"]})


def choices(row: dict, text: str) -> tuple[str, str | None, str]:
    """(prompt, answer, kind) of a row with options. Raises Unfit for an answer that is none of them."""
    options = [scalar(option, "an option") for option in row["options"]]
    answer = None if blank(row.get("answer")) else scalar(row["answer"], "answer").strip()
    letter = LETTERS.find(answer.upper()) if answer and len(answer) == 1 else -1  # -1: dropped later, as no letter
    if not options or letter >= len(options):
        raise Unfit(f"answer is {answer}, and there are {len(options)} options")
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{text}\n{listed}", answer, "choice"


def read_row(row: dict) -> tuple[str, str | None, str, tuple]:
    """(prompt, answer, kind, chat) of a row of any data set that we know.

    The answer is None if the row has none, and "" if it cannot be used. chat: the messages of a chat-style prompt, else
    (); the prompt then is their contents, one below the other.

    problem | question | prompt, and answer | solution      math, or the row's `kind` if it has one
    prompt as a list of messages                            the same, as TRL and verl have it
    the same, and tests (a text, or a list of asserts)      code; MBPP: text, test_list. HumanEval: test, entry_point
    description, public_tests                               code that reads its input and prints (code_contests)
    question, options, answer (a letter)                    choice (MMLU-Pro)
    code, input, output                                     literal (CRUXEval: predict the output)
    target, nums                                            countdown

    Raises ValueError if it is none of these, Unfit (a ValueError) where it can say more, and TypeError, KeyError or
    AttributeError if a column holds a wrong type.
    """
    if isinstance(row.get("prompt"), list):
        chat = messages(row["prompt"])
        text = "\n\n".join(content for _, content in chat)
        rest = {name: value for name, value in row.items() if name not in ("problem", "question")}
        _, answer, kind, _ = read_row({**rest, "prompt": text})
        return text.strip(), answer, kind, chat
    return *read_text(row), ()


def read_text(row: dict) -> tuple[str, str | None, str]:
    """(prompt, answer, kind) of a row whose prompt is a text; see read_row."""
    if {"target", "nums"} <= row.keys():
        gold, numbers = puzzle(row), ", ".join(map(str, row["nums"]))
        text = f"Use each of the numbers {numbers} exactly once, with + - * / and parentheses, to make {row['target']}."
        return text, gold, "countdown"
    if {"code", "input", "output"} <= row.keys():
        if not isinstance(row["code"], str):
            raise Unfit(f"code is {named(row['code'])}; give a text")
        text = f"{row['code']}\n\nassert f({row['input']}) == ??\n\nWhat value makes this true?"
        return text, None if blank(row["output"]) else scalar(row["output"], "output"), "literal"
    if {"prompt", "test", "entry_point"} <= row.keys():
        tests = f"{row['test']}\ncheck({row['entry_point']})"  # HumanEval's `test` defines check(candidate)
        gold = {"prompt": row["prompt"], "entry_point": row["entry_point"], "tests": tests}
        return row["prompt"], json.dumps(gold), "code"
    if "public_tests" in row:
        # [(what the program reads, what it must print), ...]
        pairs = list(zip(row["public_tests"]["input"], row["public_tests"]["output"], strict=True))
        return row["description"].strip(), json.dumps({"printed": pairs}) if pairs else "", "code"

    # A "text" beside anything else than tests is rarely a problem.
    columns = ("problem", "question", "prompt", "text") if "test_list" in row else ("problem", "question", "prompt")
    text = next((row[column].strip("\n") for column in columns if isinstance(row.get(column), str)), None)
    if text is None:
        if there := sorted((column for column in columns if column in row), key=lambda column: row[column] is None):
            raise Unfit(f"{there[0]} is {named(row[there[0]])}; give a text")
        raise ValueError("not a row of a data set that we know")
    if text and ("tests" in row or "test_list" in row):
        tests = row.get("tests", row.get("test_list"))
        if not isinstance(tests, str | list) or not all(isinstance(test, str) for test in tests):
            raise Unfit(f"tests is {named(tests)}, and not a text or a list of texts")
        tests = tests if isinstance(tests, str) else "\n".join(tests)
        # The setup code is not shown to the model: in MBPP it defines names that only the tests use.
        gold = json.dumps({"tests": f"{row.get('test_setup_code') or ''}\n{tests}"}) if tests else ""
        return f"{text}\nYour code should pass these tests:\n{tests}", gold, "code"
    if text and isinstance(row.get("options"), list):
        return choices(row, text.strip())
    answer, kind = gold_answer(row), row.get("kind") or "math"
    if not isinstance(kind, str):
        raise Unfit(f"kind is {named(kind)}; give a text")
    if kind in ("countdown", "search") and answer:
        puzzle(json.loads(answer))
    return text.strip(), answer, kind


GYM = "reasoning-gym:"  # before the name of one of its tasks


def gym_rows(name: str, split: str, flag: str) -> Iterator[dict]:
    """The rows of a task of the package reasoning-gym, such as `reasoning-gym:chain_sum`: 1,000 of its problems.

    Seed 0 makes them, and a hash of the question says which split one belongs to; one in five is for the test. Their
    difficulty is the task's default. They are graded against the answer that the package gives, and not by its own
    scorer: tasks with many right answers do not fit. Raises BadInput.
    """
    try:
        import reasoning_gym
    except ImportError:
        raise BadInput(f"{flag} {name} needs the package reasoning-gym: pip install reasoning-gym") from None
    try:
        tasks = reasoning_gym.create_dataset(name.removeprefix(GYM), size=1000, seed=0)
    except ValueError:
        raise BadInput(f"{flag} {name}: reasoning-gym has no such task; try {GYM}chain_sum") from None
    seen = set()
    for task in tasks:
        question = task["question"]
        in_test = hashlib.sha256(question.encode()).digest()[0] % 5 == 0
        if question not in seen and in_test == (split == "test"):
            seen.add(question)
            yield {"question": question, "answer": task["answer"]}
