"""report: one page of an experiment, whatever has become of it; and what a browser makes of it."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from experiments_on_disk import failed, plan_of, search, teacher, whole, write

from orchestrator.cli import main
from orchestrator.search.plan import Plan
from orchestrator.search.trials import Record, Status
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home

TESTS = {"alone": [80.0, 81.0, 83.0], "kd": [84.1, 85.0, 87.2]}
ASKED = "Does <b>a teacher</b> help?"


def logged(folder: ExperimentFolder, records: Iterable[Record]) -> None:
    """What trials leave in their own folders."""
    for record in records:
        trial = folder.trial(record.trial.id)
        trial.artifacts.mkdir(parents=True)
        for epoch in range(1, record.epochs + 1):
            distils = record.trial.variant == "kd"
            temperatures = {"temperature/p10": 1.5, "temperature/p50": 4.0, "temperature/p90": 6.0} if distils else {}
            mistakes = {"adjustment/wrong": 9.0, "adjustment/adjusted": 9.0} if distils else {}
            trial.add_metrics(epoch, {"val/acc1": 70.0 + epoch, "train/loss": 1 / epoch} | temperatures | mistakes)
            if distils:
                trial.add_temperatures(epoch, [1, 2, 3, 4], (1.0, 9.0))
        if record.trial.variant == "kd":
            (trial.artifacts / "mistakes.csv").write_text("class,repaired,taken_for,times\ncat,9,dog,6\n")
        (trial.artifacts / "classes.csv").write_text("class,images,correct,acc1\ncat,5,4,80.00\ndog,5,5,100.00\n")


def finished(home: Home, plan: Plan) -> ExperimentFolder:
    records = whole(plan, tests=TESTS)
    for record in records:
        record.seconds = 30.0
        record.described = {"student.parameters": 5000}
    folder = write(home, plan, records)
    logged(folder, records)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.chdir(tmp_path)
    return Home(tmp_path / "home")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], home: Home) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["report", *arguments, "--home", str(home.path)])
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return run


class Reader(HTMLParser):
    """What a page consists of, and whether its elements are closed."""

    VOID = ("meta", "path", "br", "link")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += text

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_holds_everything(run: Any, home: Home) -> None:
    folder = finished(home, plan_of(description=ASKED))
    code, out, _ = run("tiny")
    path = Path(f"{folder.id}.html")
    assert (code, out.split()[0]) == (0, str(path))
    page = path.read_text()
    assert len(page) < 3_000_000
    read = Reader(page)
    for said in (
        ASKED,
        "alone is worse than kd",
        "81.33 ± 1.53",
        "Run it again",
        "orchestrator run tiny.yaml",
        "No trial failed",
    ):
        assert said in read.text, said
    assert "max-width" in page
    elsewhere = [e for tag in ("script", "link", "img", "iframe") for e in read.all(tag) if e.keys() & {"src", "href"}]
    assert elsewhere == []
    charts = [element for element in read.all("div") if "data-chart" in element]
    assert {element["data-chart"] for element in charts} == set(json.loads(figures(page)))
    assert all(element["role"] == "img" and len(element["aria-label"] or "") > 40 for element in charts)
    assert {a["href"] for a in read.all("a")} <= {f"#{element['id']}" for element in read.all("section")}


def figures(page: str) -> str:
    found = re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)
    assert found
    return found[1]


def test_markdown_has_the_text_and_the_tables(run: Any, home: Home) -> None:
    finished(home, plan_of(description=ASKED))
    code, out, _ = run("tiny", "--format", "md", "--output", "-", "--reference", "alone")
    assert code == 0
    assert out.startswith(f"# tiny\n\n*{ASKED}*\n\nkd is better than alone by 4.10 points")
    headings = re.findall(r"^## (.*)$", out, re.MULTILINE)
    assert headings[:4] == ["Variants", "Learning curves", "Temperatures", "The teacher's mistakes"]
    assert "| kd | 9 | 9 | 100 % |" in out
    assert "**Validation accuracy in %**\n\n| epoch | alone | kd |\n" in out


def unfinished(plan: Plan) -> list[Record]:
    return [teacher(plan, val_acc1=90.0), search(plan, "kd", 0, Status.RUNNING)]


def all_failed(plan: Plan) -> list[Record]:
    arms = [(arm.name, number) for arm in plan.arms for number in range(arm.count)]
    return [failed(search(plan, *arm), "the loss is <nan> & more") for arm in arms]


@pytest.mark.parametrize(
    ("changes", "records", "said"),
    [
        ({}, lambda plan: [], "There is no answer yet"),
        ({}, unfinished, "There is no answer yet"),
        ({}, all_failed, "the loss is <nan> & more"),
        ({"search__final_seeds": 0}, whole, "Nothing was tested"),
        ({"search__variants": {}}, lambda plan: whole(plan)[1:], "no other variant"),
        (
            {"search__metric": ["val/loss", "val/acc1"], "search__mode": ["min", "max"]},
            None,
            "On the front of val/loss",
        ),
        ({"search__space": {}, "search__num_samples": None}, whole, "No difference shown"),
    ],
)
def test_any_experiment_has_a_page(run: Any, home: Home, changes: dict[str, Any], records: Any, said: str) -> None:
    plan = plan_of(**changes)
    made = (records or whole)(plan)
    for record in made:
        if record.metrics and records is None:
            record.metrics["val/loss"] = 0.5
    logged(write(home, plan, made), made)
    for format in ("html", "md"):
        code, _, err = run("--output", f"page.{format}", "--format", format)
        assert (code, err) == (0, "")
    assert said in Reader(Path("page.html").read_text()).text
    assert said in Path("page.md").read_text()


def test_programs_are_told_what_was_written(run: Any, home: Home) -> None:
    folder = finished(home, plan_of())
    told = json.loads(run("tiny", "--format", "md", "--json")[1])
    written = Path(f"{folder.id}.md")
    assert told == {
        "id": folder.id,
        "format": "md",
        "path": written.name,
        "bytes": written.stat().st_size,
        "state": "complete",
        "reference": None,
    }
    assert run("tiny", "--format", "md", "--quiet")[1] == f"{written}\n"
    assert run("tiny", "--json", "--output", "-")[0] == 2


def test_what_cannot_be_written_is_told(run: Any, home: Home) -> None:
    finished(home, plan_of())
    code, _, err = run("tiny", "--format", "md", "--output", "missing/page.md")
    assert code == 1
    assert "cannot write missing/page.md: No such file or directory" in err
    assert run("other")[0] == 2


SEEN = """(() => ({
    drawn: document.documentElement.dataset.drawn,
    charts: [...document.querySelectorAll(".chart")].map((place) => place.querySelector(".main-svg") !== null),
    wide: document.documentElement.scrollWidth > innerWidth,
    paper: getComputedStyle(document.body).backgroundColor,
    ticks: getComputedStyle(document.querySelector(".chart .xtick text")).fill,
    loaded: performance.getEntriesByType("resource").map((entry) => entry.name),
}))()"""
SHOWN = (
    "document.querySelector('[data-chart=accuracy]').data.filter((t) => t.visible !== false).map((t) => t.legendgroup)"
)
PRINTED = "[...document.querySelectorAll('.chart .main-svg')].map((svg) => svg.clientWidth)"


@pytest.fixture(scope="module")
def chromium() -> Any:
    """What starts the browser of the benchmarks."""
    source = Path(__file__).parents[2] / "bench" / "browser.py"
    spec = importlib.util.spec_from_file_location("browser", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.CHROMIUM is None:
        pytest.skip("needs Chromium")
    return module.Browser


def test_a_browser_draws_it_in_any_light_and_width(run: Any, home: Home, tmp_path: Path, chromium: Any) -> None:
    finished(home, plan_of(description=ASKED))
    assert run("tiny", "--output", "page.html")[0] == 0
    seen = []
    with chromium() as browser:
        for width, scheme in ((1200, "dark"), (390, "light"), (1200, "light")):
            browser.look_as(width, scheme)
            browser.open((tmp_path / "page.html").as_uri())
            browser.wait_for("document.documentElement.dataset.drawn")
            seen.append(browser.evaluate(SEEN))
        browser.evaluate("document.querySelector('[data-toggle=kd]').click()")
        shown = set(browser.evaluate(SHOWN))
        browser.evaluate("dispatchEvent(new Event('beforeprint'))")
        widest = max(browser.evaluate(PRINTED))
        assert browser.problems == []
    for view in seen:
        assert (view["drawn"], view["wide"], view["loaded"]) == ("yes", False, [])
        assert set(view["charts"]) == {True}
    dark, _, light = seen
    assert light["paper"] == "rgb(255, 255, 255)" != dark["paper"]
    assert light["ticks"] != dark["ticks"]
    assert shown == {"alone"}
    assert widest <= 684
