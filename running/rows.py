"""rows.py: the columns of the data sets that we know, and the rows of those on the hub and in reasoning-gym."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator

import huggingface_hub

import verify
from running.files import BadInput

# name -> (id on the hub, configuration)
HUB = {
    "gsm8k": ("openai/gsm8k", "main"),  # 7,473 to train on, 1,319 to test
    "math": ("DigitalLearningGmbH/MATH-lighteval", "default"),  # Intuitor trains on its 7,500
    "math500": ("HuggingFaceH4/MATH-500", "default"),  # a test set only
    "mmlu-pro": ("TIGER-Lab/MMLU-Pro", "default"),  # a test set
    "code_contests": ("deepmind/code_contests", "default"),  # Intuitor's "Codeforces"
}


def gold_answer(row: dict) -> str:
    """The gold of a row: behind `####` in GSM8K, in the last box of the solution in MATH, else the `answer` column.

    "" if there is none, or if the last box is only half of the answer.
    """
    solution = str(row.get("solution") or "")
    if re.search(r"\\boxed\s*\{[^$]*\}\s*\$\s*and\s*\$\s*\\boxed", solution):
        return ""  # "$\boxed{1}$ and $\boxed{9}$"
    if row.get("answer") is not None:
        return str(row["answer"]).rpartition("####")[2].strip()
    _, box, tail = solution.rpartition("\\boxed")
    return (verify.boxed(box + tail) or "").strip()


def read_row(row: dict) -> tuple[str, str, str]:
    """(prompt, answer, kind) of a row of any data set that we know; the answer is "" if the row has no usable gold.

    problem | question | prompt, and answer | solution      math, or the row's `kind` if it has one
    the same, and tests (a text, or a list of asserts)      code; MBPP: text, test_list. HumanEval: test, entry_point
    description, public_tests                               code that reads its input and prints (code_contests)
    question, options, answer (a letter)                    choice (MMLU-Pro)
    code, input, output                                     literal (CRUXEval: predict the output)
    target, nums                                            countdown

    Raises ValueError if it is none of these, and TypeError, KeyError or AttributeError if a column holds a wrong type.
    """
    if {"target", "nums"} <= row.keys():
        numbers = ", ".join(map(str, row["nums"]))
        text = f"Use each of the numbers {numbers} exactly once, with + - * / and parentheses, to make {row['target']}."
        return text, json.dumps({"target": row["target"], "nums": row["nums"]}), "countdown"
    if {"code", "input", "output"} <= row.keys():
        text = f"{row['code']}\n\nassert f({row['input']}) == ??\n\nWhat value makes this true?"
        return text, str(row["output"]), "literal"
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
    if text and ("tests" in row or "test_list" in row):
        tests = row.get("tests", row.get("test_list"))
        tests = tests if isinstance(tests, str) else "\n".join(tests)
        # The setup code is not shown to the model: in MBPP it defines names that only the tests use.
        gold = json.dumps({"tests": f"{row.get('test_setup_code') or ''}\n{tests}"}) if tests else ""
        return f"{text}\nYour code should pass these tests:\n{tests}", gold, "code"
    if text and isinstance(row.get("options"), list):  # up to ten of them
        options = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCDEFGHIJ", row["options"], strict=False))
        return f"{text.strip()}\n{options}", str(row.get("answer") or "").strip(), "choice"
    if text is not None and ("answer" in row or "solution" in row):
        return text.strip(), gold_answer(row), row.get("kind") or "math"
    raise ValueError("not a row of a data set that we know")


def hub_rows(name: str, split: str) -> Iterable[dict]:
    """The rows of a data set of the hub, downloaded on first use. Raises BadInput."""
    import datasets  # here, not above: it takes a second to import, and the toy and local files do without it

    hub_id, configuration = HUB[name]
    huggingface_hub.utils.logging.set_verbosity_error()  # our one line says it; the hub would say it for each retry
    try:
        return datasets.load_dataset(hub_id, configuration, split=split)
    except (ConnectionError, OSError, ValueError) as error:  # no network; no such data set; no such split
        raise BadInput(f"--data {name}: cannot load {hub_id} ({split}) from the hub: {type(error).__name__}") from None


GYM = "reasoning-gym:"  # before the name of one of its tasks


def gym_rows(name: str, split: str) -> Iterator[dict]:
    """The rows of a task of the package reasoning-gym, such as `reasoning-gym:chain_sum`: 1,000 of its problems.

    Seed 0 makes them, and a hash of the question says which split one belongs to; one in five is for the test. Their
    difficulty is the task's default. They are graded against the answer that the package gives, and not by its own
    scorer: tasks with many right answers do not fit. Raises BadInput.
    """
    try:
        import reasoning_gym
    except ImportError:
        raise BadInput(f"--data {name} needs the package reasoning-gym: pip install reasoning-gym") from None
    try:
        tasks = reasoning_gym.create_dataset(name.removeprefix(GYM), size=1000, seed=0)
    except ValueError:
        raise BadInput(f"--data {name}: reasoning-gym has no such task; try {GYM}chain_sum") from None
    seen = set()
    for task in tasks:
        question = task["question"]
        in_test = hashlib.sha256(question.encode()).digest()[0] % 5 == 0
        if question not in seen and in_test == (split == "test"):
            seen.add(question)
            yield {"question": question, "answer": task["answer"]}
