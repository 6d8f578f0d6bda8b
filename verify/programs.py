"""programs.py: which program does a response hold, and how does its data set mean it to be run?

Nothing is run here, and nothing that a model wrote is parsed by Python: that happens in the sandbox.
"""

import builtins
import json
import re

# A block of code: a fence of ``` or ~~~, which may be indented, and the same fence again, or the end of the text.
BLOCK = re.compile(r"^([ \t]*)(`{3,}|~{3,})([^\n`]*)\n(.*?)(?:^\1\2|\Z)", re.DOTALL | re.MULTILINE)
DEFINING = r"^(?:async +def|def|class) +"
READING = re.compile(r"\binput\b|\bstdin\b|open\(0|read\(0|fileinput")
FUTURE = re.compile(r"^from __future__ import (?:\([^()]*\)|[^\n;]*)", re.MULTILINE)


def program_of(response: str, gold: str = "") -> str | None:
    """The program in a response: a block of code, or all of it if there is none.

    It is the last block that defines what the gold's tests call, or that reads its input where the gold is about a
    script. Without such a block, one that defines something goes before one that is only marked as Python, and that one
    before any other: what follows the program is often its output, a test or an example of its use.
    """
    everything, python = [], []
    for indent, _, tag, code in BLOCK.findall(response):
        if indent and code.lstrip("\n").startswith(indent):  # the whole block is indented, in a list for example
            code = re.sub(rf"^[ \t]{{1,{len(indent)}}}", "", code, flags=re.MULTILINE)
        everything.append(code)
        if "py" in tag.lower():
            python.append(code)
    solution = solving(gold)
    best = [code for code in everything if solution.search(code)] if solution else []
    if solution and not best and '"prompt"' in gold:  # the body that completes the prompt
        best = [code for code in everything if re.match(r"\n*[ \t]", code)]
    best = best or [code for code in everything if re.search(DEFINING, code, re.MULTILINE)]
    best = best or python or everything or [response]
    return best[-1].strip("\n") or None


def solving(gold: str) -> re.Pattern | None:
    """What a solution must hold, as an expression to search for. None if the gold does not say."""
    try:
        problem = json.loads(gold)
    except ValueError:
        return None
    if "printed" in problem:
        return READING
    if problem.get("entry_point"):
        return defining({problem["entry_point"]})
    # All that the tests call, but for what Python has and what they define themselves
    tests = problem.get("tests") or ""
    names = set(re.findall(r"(?<![.\w])\w+(?=\()", tests)) - set(dir(builtins))
    names -= set(re.findall(rf"{DEFINING}(\w+)", tests, re.MULTILINE))
    return defining(names) if names else None


def defining(names: set[str]) -> re.Pattern:
    """An expression that finds where one of these names gets its value, in the first column."""
    name = "|".join(map(re.escape, sorted(names)))
    return re.compile(rf"{DEFINING}(?:{name})\b|^(?:{name}) *(?::[^\n=]*)?=(?!=)", re.MULTILINE)


def with_tests(answer: str, gold: str) -> tuple[str, str | list]:
    """(program, tests) for sandbox.passes, from an extracted program and its gold. The gold is JSON, one of

    {"tests": asserts}                                              MBPP
    {"tests": asserts, "prompt": code, "entry_point": its name}     HumanEval: the prompt is the program's beginning
    {"printed": [[what it reads, what it must print], ...]}         code_contests: compared word by word
    """
    problem = json.loads(gold)
    if "printed" in problem:
        return answer, problem["printed"]
    prompt, name = problem.get("prompt", ""), problem.get("entry_point", "")
    if not prompt:
        return answer, problem["tests"]
    if defining({name}).search(answer):
        # A whole function. The prompt goes before it, for its imports and helpers; `pass` completes the prompt's own.
        # An import from __future__ must stay the first.
        first = "\n".join(FUTURE.findall(answer))
        return f"{first}\n{prompt}\n    pass\n\n{FUTURE.sub('pass', answer)}", problem["tests"]
    # The body that the prompt lacks.
    ends = [match.start() for match in re.finditer(r"\n(?=[^\s#])", answer)][:50] + [len(answer)]
    return BODY.format(prompt=prompt, answer=answer, ends=ends), problem["tests"]


# A body ends before the first line that is neither indented nor a comment, unless that line is inside of brackets or of
# a text: so it is the shortest beginning that Python can read.
BODY = """
for end in {ends}:
    try:
        code = compile({prompt!r} + {answer!r}[:end], "program", "exec")
    except SyntaxError:
        continue
    break
exec(code)
"""
