"""report.py and pictures.py: what a reader sees, in a real browser where there is one."""

import base64
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request

import numpy as np
import pytest

import eval as evaluation
from data import Problem
from study import analysis, report

HOSTILE = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">{{DATA}} & \u2028"


@pytest.fixture(scope="session")
def finished(base, tmp_path_factory):
    """The folder of a small study of one model under two names."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(base, folder / "trained")
    flags = ["--samples", "4", "--limit", "12", "--perplexity", "2", "--out", str(folder / "out")]
    assert evaluation.main([str(base), str(folder / "trained"), *flags]) == 0
    return folder / "out"


def content_of(folder) -> dict:
    return json.loads((folder / "report.json").read_text())


def record(model, problem, sample, tokens=20, text="first, ", correct=True) -> dict:
    values = [-1.234] * tokens
    return {
        "model": model,
        "problem": problem,
        "sample": sample,
        "text": text,
        "correct": correct,
        "truncated": False,
    } | {
        "pieces": [text] * tokens,
        "logps": values,
        "certainty": values,
    }


# --- tables ---------------------------------------------------------------------------------------------------------


def hand_made(counts: dict[str, list[int]], n: int = 4) -> dict:
    """report.json of a study of models with these counts."""
    settings = evaluation.parse(["a", "--samples", str(n), "--template", "plain", "--data", "file.jsonl"])
    entries, found = [evaluation.Entry(model, model, 1.0) for model in counts], {}
    for model, right in counts.items():
        verdicts = {i: [True] * c + [False] * (n - c) for i, c in enumerate(right)}
        answers = {i: ["1" if yes else "2" for yes in verdict] for i, verdict in verdicts.items()}
        found[model] = {"answers": answers, "right": verdicts, "entropy": 2.0, "tokens": 4, "answered": 4}
        found[model]["counts"] = {"correct": np.array(right), "truncated": np.zeros(len(right), dtype=int)}
    problems = [Problem("1+1=", "1")] * len(right)
    return analysis.analysed(entries, found, problems, settings) | {"perplexity": []}


def test_every_question_has_a_table_with_the_right_numbers():
    content = hand_made({"base": [2, 1, 1, 0], "runs/trained": [4, 4, 0, 0]})
    found = {table.question: table for table in report.tables(content)}
    rows = found["What is solved in k tries?"].rows
    assert rows == [["base", "0.250", "0.458", "0.750"], ["trained", "0.500", "0.500", "0.500"]]
    table = found["Is the difference more than chance?"]
    assert [row[1].split()[0] for row in table.rows] == ["+0.250", "+0.042", "-0.250"]
    assert any(
        "base overtakes trained at k = 2.2 (95 % interval 1 or less to beyond 4)" in note for note in table.notes
    )
    rows = found["How often is a problem solved?"].rows
    assert {row[0]: row[1:] for row in rows if row[1:] != ["0", "0"]} == {
        "0": ["1", "2"],
        "(0.2, 0.3]": ["2", "0"],
        "(0.4, 0.5]": ["1", "0"],
        "1": ["0", "2"],
    }
    rows = found["Which problems can only one of them solve?"].rows
    assert rows == [["both", "2"], ["base only", "1"], ["trained only", "0"], ["neither", "1"]]
    assert found["How far is one try from the base's many?"].rows == [["trained", "0.750", "0.500", "25.0"]]
    assert found["And if nobody tells which answer is right?"].rows[1] == ["trained", "0.500", "0.500", "0.500"]
    assert found["How spread are the words?"].rows[0][2] == "0.500"
    text = report.as_text(list(found.values()))
    assert all(question in text for question in found)
    assert max(map(len, text.splitlines())) <= 110
    assert "template plain" in text


def test_one_model_and_one_problem_are_a_study_too():
    questions = [table.question for table in report.tables(hand_made({"base": [1]}))]
    assert questions[0] == "What is solved in k tries?"
    assert "Is the difference more than chance?" not in questions
    assert len(report.tables(hand_made({"base": [1], "other": [2]}))) == 6


def test_a_difference_that_rounds_to_zero_has_no_sign_of_its_own():
    assert [report.signed(value) for value in (-0.0001, 0.0, 0.25, -0.25)] == ["+0.000", "+0.000", "+0.250", "-0.250"]


def test_the_hardest_solved_problems_come_first_and_no_completion_ends_its_block():
    texts = {0: "easy", 1: "```\n# not a heading\n```", 3: "middling"}
    records = [record("m", i, j, text=texts[i], correct=j < 3) for i in texts for j in range(4)]
    counts = {"m": [3, 1, 0, 2]}
    text = report.review(2, counts, 4, [Problem(f"p{i}", f"a{i}") for i in range(4)], iter(records))
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## m, problem 1: 3 of 4 right",
        "## m, problem 3: 3 of 4 right",
    ]
    assert "easy" not in text
    assert text.count("``````\n```\n# not a heading\n```\n``````") == 3


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_is_one_file_that_asks_for_nothing(finished):
    page = (finished / "report.html").read_text()
    assert page.count('<img alt="') == page.count('src="data:image/png;base64,') == 4
    assert "default-src 'none'" in page
    # No address at all outside of the data and the pictures.
    rest = re.sub(r'<script type="application/json".*?</script>|data:image/png;base64,[^"]*', "", page, flags=re.S)
    assert not re.findall(r"(?:https?:)?//[a-z]", rest)
    assert "{{" not in page


def test_what_a_model_wrote_is_never_markup(finished):
    content = content_of(finished)
    model = next(iter(content["models"]))
    problems = [Problem(HOSTILE, HOSTILE)] * 12
    page = report.page(content, problems, [record(model, 0, 0, text=HOSTILE)], finished)
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img src=x" not in page
    coded = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1]
    assert json.loads(coded)["problems"][0]["samples"][0][3][0] == HOSTILE


def test_a_large_study_stays_under_five_megabytes_and_leaves_no_problem_out(finished):
    content = content_of(finished)
    models = list(content["models"])
    records = [record(m, i, j, tokens=60) for m in models for i in range(180) for j in range(64)]
    for result in content["models"].values():
        result["counts_correct"] = [1] * 180
    page = report.page(content, [Problem("1+1=", "2")] * 180, records, finished)
    assert 3_000_000 < len(page.encode()) < 5_000_000
    coded = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1]
    shown = json.loads(coded)["problems"]
    assert [problem["index"] for problem in shown] == list(range(180))
    numbers = [sum(entry[0] == m for entry in problem["samples"]) for problem in shown for m in models]
    assert max(numbers) - min(numbers) <= 1  # every problem and model has as many, up to the last round
    # Where not all fit, what is there of a problem is there of all models; what does not fit keeps no other out.
    long = [record(m, i, j, tokens=90 if i else 2_000) for m in models for i in range(3) for j in range(2)]
    found = report.in_rounds(long, 5_000, lambda r: 10 * len(r["pieces"]))
    assert [(r["problem"], r["model"], r["sample"]) for r in found] == [(i, m, 0) for i in (1, 2) for m in models]


# --- in a browser ---------------------------------------------------------------------------------------------------


class Browser:
    """A headless Chromium, asked through ChromeDriver's own protocol (W3C WebDriver)."""

    FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
    FLAGS += ("--disable-background-networking", "--disable-component-update")

    def __init__(self, profile):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self.driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.call("GET", "/status")
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        options = {"args": [*self.FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.address += f"/session/{session['sessionId']}"

    def call(self, method, path, body=None):
        coded = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.address + path, coded, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]

    def run(self, script):
        return self.call("POST", "/execute/sync", {"script": f"return {script}", "args": []})

    def press(self, *keys):
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def log(self, kind):
        return self.call("POST", "/se/log", {"type": kind})

    def close(self):
        self.call("DELETE", "")
        self.driver.kill()
        self.driver.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not shutil.which("chromedriver"):
        pytest.skip("needs chromedriver and chromium")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.mark.parametrize("width", [1366, 375])
def test_the_page_in_a_browser(browser, finished, tmp_path, width):
    size = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": size})
    # The trained model, which is the base under another name, is made to have solved one problem that the base has not.
    text, content = (finished / "report.html").read_text(), content_of(finished)
    before, coded, after = re.split(r'(?<=id="data">)(.*?)(?=</script>)', text, maxsplit=1, flags=re.S)
    shown = json.loads(coded)
    base, trained = (result["counts_correct"] for result in content["models"].values())
    only = base.index(0)
    for problem in shown["problems"]:
        problem["right"][1] = trained[problem["index"]] = 4 * (problem["index"] == only)
    page = tmp_path / "report.html"
    page.write_text(before + json.dumps(shown).replace("<", "\\u003c") + after)
    browser.log("browser"), browser.log("performance")
    browser.call("POST", "/url", {"url": f"file://{page}"})
    tab, right, left, down = "\ue004", "\ue014", "\ue012", "\ue015"

    def focused():
        return browser.run(
            "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
        )

    assert browser.run("document.documentElement.scrollWidth") <= width  # nothing sticks out sideways
    assert browser.run("[...document.images].map(i => i.complete && i.naturalWidth > 100)") == [True] * 4
    assert browser.run("[...document.images].every(i => i.alt.length > 10)")
    counts = [result["counts_correct"][0] for result in content["models"].values()]
    heads = browser.run("[...document.querySelectorAll('#shown h3')].map(h => h.textContent)")
    assert heads == [f"{model}: {c} of 4 right" for model, c in zip(content["models"], counts, strict=True)]

    # By keyboard alone: to the menu of problems, to the next problem, to a sample, through its tokens.
    for _ in range(40):
        browser.press(tab)
        if focused() == "problem":
            break
    assert focused() == "problem"
    browser.press(down)
    assert browser.run("document.getElementById('problem').selectedIndex") == 1
    assert browser.run("document.querySelector('#shown .text').textContent") == browser.run("data.problems[1].prompt")
    for _ in range(10):
        browser.press(tab)
        if focused().startswith("sample"):
            break
    assert focused().startswith("sample")
    browser.press(right, right, left, right)
    values = browser.run("[data.problems[1].samples[0][4][1], data.problems[1].samples[0][5][1]]")
    reading = browser.run("document.getElementById('reading').textContent")
    assert reading.startswith("token 2 of ")
    assert f"log-probability {values[1]:.2f}, self-certainty {values[0]:.2f} nats" in reading

    # The least sure token shown is the darkest one.
    shades = "[...document.querySelectorAll('.sample')]"
    shades += ".flatMap(box => box.spans.map((s, i) => [box.values[4][i], s.style.backgroundColor]))"
    strength = [
        (value, float(re.search(r"([\d.]+)\)$", color)[1]) if "rgba" in color else 1.0)
        for value, color in browser.run(shades)
    ]
    assert max(strength)[1] < min(strength)[1]
    assert len({s for _, s in strength}) > 2
    pick = "(document.getElementById('{0}').value = '{1}', "
    pick += "document.getElementById('{0}').dispatchEvent(new Event('change')))"
    browser.run(pick.format("shade", ""))
    assert set(browser.run("[...document.querySelectorAll('.text span')].map(s => s.style.backgroundColor)")) == {""}

    # Choosing who solved them leaves those problems alone.
    wanted = {1: [i for i in range(12) if base[i]], 2: [only], 3: [i for i in range(12) if not base[i] and i != only]}
    assert wanted[1]
    assert wanted[3]
    for choice, expected in wanted.items():
        browser.run(pick.format("solved", choice))
        assert browser.run("[...document.getElementById('problem').options].map(o => Number(o.value))") == expected
        assert (browser.run("document.getElementById('shown').textContent") == "No such problem.") == (not expected)

    assert browser.log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    urls = [r["request"]["url"] for r in asked if r["documentURL"] == f"file://{page}"]  # not the browser's own
    assert urls.count(f"file://{page}") == 1
    assert all(url == f"file://{page}" or url.startswith("data:") for url in urls)


def test_what_a_model_wrote_runs_nothing_in_a_browser(browser, finished, tmp_path):
    content = content_of(finished)
    model, problems = next(iter(content["models"])), [Problem(HOSTILE, HOSTILE)] * 12
    page = report.page(content, problems, [record(model, 0, 0, text=HOSTILE)], finished)
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    browser.call("POST", "/url", {"url": f"file://{tmp_path}/page.html"})
    assert browser.run("document.title") == "What did training teach?"
    assert browser.run("document.querySelector('.sample .text span').textContent") == HOSTILE
    assert browser.run("document.images.length") == 4
    shot = browser.call("GET", "/screenshot")
    assert len(base64.b64decode(shot)) > 5_000
