"""docs/papers.md, the map from the papers to the code: all that it names is there, and it leaves nothing out."""

import importlib
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

import distill
import eval as evaluation
import train
from study import reproduce

DOCS = Path(__file__).parent.parent / "docs"
MAP = (DOCS / "papers.md").read_text(encoding="utf-8")
PAPERS = dict(zip("123", re.split(r"^## \d\. .*$", MAP, flags=re.MULTILINE)[1:], strict=True))
LINKS = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", MAP)
COMMANDS = re.findall(r"`python ([^`]+)`", MAP)
EXPERIMENTS = [flags.split()[2] for flags in COMMANDS if flags.startswith("-m study.reproduce ")]
VERDICTS = r"(agrees|agrees in part|differs|not tried|cannot be had here|nothing to compute|TODO\(.*?\))(?=$|[,:;])"


def numbered(kind: str, first: int, last: int) -> list[str]:
    return [f"{kind} {i}" for i in range(first, last + 1)]


# What the papers have, by their own numbers: 1 is Intuitor's version 2 (v3: new in version 3), 2 noisy rewards' version
# 1, 3 limit of RLVR's version 5.
NUMBERED = {
    "1": numbered("Equation", 1, 6)
    + numbered("Figure", 1, 12)
    + numbered("v3 Figure", 3, 4)
    + numbered("v3 Figure", 13, 16)
    + numbered("Table", 1, 7)
    + numbered("v3 Table", 7, 10),
    "2": numbered("Figure", 1, 22),
    "3": numbered("Equation", 1, 2) + numbered("Figure", 1, 29) + numbered("Table", 1, 6),
}
SECTIONS = {
    "1": "1, 2, 3.1, 3.2, 3.3, 4, 5.1, 5.2, 5.3, 5.4, 5.5, 6, 7, A.1, A.2, A.3, A.4, A.5, B.1, B.2, B.3, B.4, B.5, "
    "B.6, v3 B.4, v3 B.5, v3 B.6, v3 B.7, v3 B.8, v3 B.9, v3 B.10, v3 B.11",
    "2": "1, 2.1, 2.2, 3.1, 3.2, 3.3, 4, 5, A, B.1, B.2, C, D, E",
    "3": "1, 2.1, 2.2, 3, 3.1, 3.2, 3.3, 4.1, 4.2, 4.3, 4.4, 4.5, 4.6, 5, 6, 7, A.1, A.2, B, C.1, C.2, C.3, C.4, C.5, "
    "C.6, C.7, C.8, C.9, C.10, D, E",
}


def rows(text: str, title: str) -> list[list[str]]:
    """The cells of the rows of all tables whose first column has that title."""
    tables = re.findall(rf"^\| {title} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in row[1:-1].split("|")] for table in tables for row in table.splitlines()]


def labels(cell: str) -> list[str]:
    """'Figures 20, 21' names Figure 20 and Figure 21, and 'A.2, A.3' itself two sections."""
    kind = re.match(r"(?:v3 )?(?:Equation|Figure|Table)(?=s? )", cell)
    if not kind:
        return cell.split(", ")
    return [f"{kind[0]} {number}" for number in re.sub(r"^.*?s? (?=\d+(, |$))", "", cell).split(", ")]


def anchors(path: Path) -> set[str]:
    """Where a link into a page can lead, as GitHub names its headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("paper", PAPERS)
def test_every_figure_table_and_equation_of_the_papers_has_one_row(paper):
    equations = re.findall(r"^\*\*(Equations? [\d, ]+)\.\*\*", PAPERS[paper], re.MULTILINE)
    first_cells = [row[0] for row in rows(PAPERS[paper], "where")]
    assert Counter(label for cell in equations + first_cells for label in labels(cell)) == Counter(NUMBERED[paper])


@pytest.mark.parametrize("paper", PAPERS)
def test_every_section_of_the_papers_has_one_row(paper):
    found = [label for row in rows(PAPERS[paper], "section") for label in labels(row[0])]
    assert Counter(found) == Counter(SECTIONS[paper].split(", "))


def test_every_row_says_what_the_paper_says_and_ends_in_a_verdict():
    for row in rows(MAP, "where"):
        assert len(row) == 7, row
        *_, ours, verdict = row
        assert row[1], row
        assert re.match(VERDICTS, verdict), row
        assert ours or not verdict.startswith(("agrees", "differs")), f"{row}: with what?"
    assert all(len(row) == 3 and all(row) for row in rows(MAP, "section"))


def test_every_link_leads_somewhere():
    for label, target in LINKS:
        file, _, anchor = target.partition("#")
        if file.startswith("https:"):
            continue
        path = (DOCS / file).resolve() if file else DOCS / "papers.md"
        assert path.is_file(), f"[{label}]({target})"
        assert not anchor or anchor in anchors(path), f"[{label}]({target})"


def test_every_function_is_in_the_file_that_is_named():
    named = [(label, target) for label, target in LINKS if target.endswith(".py")]
    assert len(named) > 50
    for label, target in named:
        module, _, name = label.rpartition(".")
        assert target == f"../{module.replace('.', '/')}.py", label
        assert hasattr(importlib.import_module(module), name), label


def test_every_command_parses():
    programs = {"train.py": train, "eval.py": evaluation, "distill.py": distill, "-m study.reproduce": reproduce}
    for command in COMMANDS:
        program, flags = re.match(r"(-m \S+|\S+) ?(.*)", command).groups()
        programs[program].parse(shlex.split(flags))


def test_the_map_and_reproduce_have_the_same_experiments():
    assert set(reproduce.EXPERIMENTS) <= set(EXPERIMENTS) <= set(reproduce.NAMES)


@pytest.mark.parametrize("paper", PAPERS)
def test_an_experiment_answers_to_every_figure_whose_row_names_it(paper):
    title = {"1": "intuitor", "2": "noisy", "3": "limit"}[paper]
    for where, _, _, command, *_ in rows(PAPERS[paper], "where"):
        named = re.findall(r"study.reproduce ([\w-]+)", command)
        answers = {answer for name in named for answer in reproduce.EXPERIMENTS[reproduce.NAMES[name]].answers_to}
        if named:
            assert {f"{title}-{label.lower().replace(' ', '-')}" for label in labels(where)} <= answers, where


def test_every_results_file_that_is_named_exists():
    names = re.findall(r"`(results/[^`]+)`", MAP)
    assert len(names) > 20
    for name in names:
        assert list(DOCS.parent.glob(name)), name


def test_every_note_is_there_and_is_referred_to():
    written = re.findall(r"^\* \*\*Note (\d+)\.\*\*", MAP, re.MULTILINE)
    referred = re.findall(r"(?<=note )\d+|(?<=notes )\d+(?:, \d+)*", MAP)
    assert written == [str(i + 1) for i in range(len(written))]
    assert {number for numbers in referred for number in numbers.split(", ")} == set(written)


def test_every_equation_is_whole_and_stands_once():
    blocks = re.findall(r"^```math\n(.*)\n```$", MAP, re.MULTILINE)
    assert len(blocks) == MAP.count("```math") == MAP.count("```") / 2
    assert len(set(blocks)) == len(blocks)
    for block in blocks:
        bare = re.sub(r"\\[{}]", "", block)
        assert bare.count("{") == bare.count("}"), block
        assert len(re.findall(r"\\left\b", block)) == len(re.findall(r"\\right\b", block)), block
        assert block.count("\\begin") == block.count("\\end"), block


def test_nothing_is_left_to_be_filled_in():
    assert not re.findall(r"TODO.{0,30}", MAP)
