"""report: one page of an experiment, whatever has become of it; and what a browser makes of it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from experiments_on_disk import failed, plan_of, search, teacher, whole, write

from orchestrator.cli import main
from orchestrator.search.plan import Plan
from orchestrator.search.trials import Record, Status
from orchestrator.store.home import ExperimentFolder, Home

TESTS = {"alone": [80.0, 81.0, 83.0], "kd": [84.1, 85.0, 87.2]}
ASKED = "Does <b>a teacher</b> help?"
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "disable-sync",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "remote-debugging-port=0",
)


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
    folder = finished(home, plan_of(description=ASKED, tracking__uri="http://me:secret@host"))
    code, out, _ = run("tiny")
    path = Path(f"{folder.id}.html")
    assert (code, out.split()[0]) == (0, str(path))
    page = path.read_text()
    assert len(page) < 3_000_000
    assert "secret" not in page
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
        ({"search__metric": ["val/loss", "val/acc1"], "search__mode": ["min", "max"]}, None, "Validation accuracy"),
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


def test_what_cannot_be_written_is_told(run: Any, home: Home) -> None:
    finished(home, plan_of())
    code, _, err = run("tiny", "--format", "md", "--output", "missing/page.md")
    assert code == 1
    assert "cannot write missing/page.md: No such file or directory" in err
    assert run("other")[0] == 2


class Browser:
    """One page of headless Chromium, driven by its debugging protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._asked = 0
        self.troubles: list[str] = []

    async def call(self, method: str, **params: Any) -> Any:
        self._asked += 1
        await self._socket.send_json({"id": self._asked, "method": method, "params": params})
        async for message in self._socket:
            answer = json.loads(message.data)
            if answer.get("id") == self._asked:
                assert "error" not in answer, answer
                return answer["result"]
            if answer["method"] in ("Runtime.exceptionThrown", "Network.requestWillBeSent"):
                self.troubles.append(message.data)
        raise AssertionError("the browser has gone")

    async def value(self, expression: str) -> Any:
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    async def opened(self, page: Path, width: int, scheme: str) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        await self.call("Page.navigate", url=page.as_uri())
        for _ in range(600):
            if await self.value("document.documentElement.dataset.drawn") is not None:
                return
            await asyncio.sleep(0.1)


SEEN = """(() => {
    const color = (element) => getComputedStyle(element).getPropertyValue("fill") || getComputedStyle(element).color;
    return {
        drawn: document.documentElement.dataset.drawn,
        charts: document.querySelectorAll(".chart .main-svg").length > 0
            && [...document.querySelectorAll(".chart")].every((place) => place.querySelector(".main-svg")),
        wide: document.documentElement.scrollWidth > innerWidth,
        paper: getComputedStyle(document.body).backgroundColor,
        tick: color(document.querySelector(".chart .xtick text")),
    };
})()"""


async def looked_at(page: Path, profile: Path) -> tuple[dict[str, Any], list[str]]:
    command = [CHROMIUM or "", *(f"--{flag}" for flag in FLAGS), f"--user-data-dir={profile}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        address = next(line for line in process.stderr if "DevTools listening on" in line).split()[-1]
        port = address.split(":")[2].split("/")[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as listed:
                tabs = await listed.json(content_type=None)
            target = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            async with session.ws_connect(target, max_msg_size=0) as socket:
                browser = Browser(socket)
                for domain in ("Page", "Runtime"):
                    await browser.call(f"{domain}.enable")
                seen = {}
                for width, scheme in ((1200, "light"), (1200, "dark"), (390, "light")):
                    await browser.opened(page, width, scheme)
                    seen[f"{scheme} {width}"] = await browser.value(SEEN)
                await browser.value("document.querySelector('[data-toggle=kd]').click()")
                seen["shown"] = await browser.value(
                    "document.querySelector('[data-chart=accuracy]').data.filter((t) => t.visible !== false)"
                    ".map((t) => t.legendgroup)"
                )
                await browser.value("dispatchEvent(new Event('beforeprint'))")
                seen["printed"] = await browser.value(
                    "[...document.querySelectorAll('.chart .main-svg')].map((svg) => svg.clientWidth)"
                )
                return seen, browser.troubles
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_draws_it_in_any_light_and_width(run: Any, home: Home, tmp_path: Path) -> None:
    finished(home, plan_of(description=ASKED))
    assert run("tiny", "--output", "page.html")[0] == 0
    seen, troubles = asyncio.run(looked_at(tmp_path / "page.html", tmp_path / "profile"))
    assert troubles == []
    views = [seen[view] for view in ("light 1200", "dark 1200", "light 390")]
    for view in views:
        assert (view["drawn"], view["charts"], view["wide"]) == ("yes", True, False)
    light, dark = views[0], views[1]
    assert light["paper"] == "rgb(255, 255, 255)"
    assert dark["paper"] != light["paper"]
    assert dark["tick"] != light["tick"]
    assert set(seen["shown"]) == {"alone"}
    assert max(seen["printed"]) <= 684
