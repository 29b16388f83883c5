"""The site: it is built without a warning, asks the network for nothing, and has every page, field and command."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from orchestrator.cli.app import app
from orchestrator.spec import ExperimentSpec

ROOT = Path(__file__).parents[1]
GENERATE = ROOT / "docs" / "generate"
pytestmark = pytest.mark.xdist_group("site")
"""It is built once where tests run side by side."""
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--strict", "--quiet", "--config-file", str(GENERATE / "mkdocs.yml"), "--site-dir", str(folder)]
    command = [sys.executable, "-m", "mkdocs", "build", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def generators() -> None:
    """Lets what makes the site be imported."""
    sys.path.insert(0, str(GENERATE))


def text_of(site: Path, pattern: str) -> str:
    """What the pages say, without their marks."""
    pages = "".join(path.read_text() for path in sorted(site.glob(pattern)))
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", pages)))


def test_every_page_is_in_the_navigation(site: Path) -> None:
    made = {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"404.html"}
    front = (site / "index.html").read_text()
    linked = set(re.findall(r'<a href="([^"#:]+\.html)"[^>]*class="md-nav__link', front))
    assert made - linked == {"index.html"} - linked
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} <= made
    assert {"reference/commands.html", "reference/spec/search.html", "deploy/slurm.html", "contributing.html"} <= made


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?(?:https?:)?//|<link[^>]*stylesheet[^>]*//""")
    assert [path for path in site.rglob("*.html") if loaded.search(path.read_text())] == []
    styles = re.compile(r"""(?:@import\s*|url\()\s*["']?(?:https?:)?//""")
    assert [path for path in site.rglob("*.css") if styles.search(path.read_text())] == []


def test_every_field_of_a_spec_is_explained(site: Path) -> None:
    shown = text_of(site, "reference/spec/*.html")
    schema = ExperimentSpec.model_json_schema()
    described = [node for section in schema["$defs"].values() for node in section.get("properties", {}).items()]
    for name, node in [*schema["properties"].items(), *described]:
        assert "const" in node or f" {name} " in shown, name
        assert "const" in node or re.sub(r"\s+", " ", node.get("description", "").replace("`", "")) in shown, name


def test_a_field_has_its_type_default_and_range(site: Path) -> None:
    page = text_of(site, "reference/spec/distillation.html")
    assert "gamma Power of the disagreement; 0 gives standard KD. number 1 ≥ 0; ≤ 16 " in page
    assert "to unit length, or to probabilities. l2, softmax l2 " in page
    assert "spread evenly over all classes. number 0.1 ≥ 0; ≤ 1 " in page


def test_every_command_and_option_is_explained(site: Path) -> None:
    shown = text_of(site, "reference/commands.html")
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"orchestrator {name}" in shown
        for option in (text for parameter in command.params for text in parameter.opts if text.startswith("--")):
            assert option in shown, f"{name} {option}"


def test_a_page_that_the_navigation_does_not_name_is_at_its_end(generators: None) -> None:
    import hook

    nav: list = ["index.md", {"Reference": [{"Fields": ["spec/index.md"]}, {"Other": "other.md"}]}]
    hook.complete(nav, ["index.md", "other.md", "new.md", "spec/index.md", "spec/data.md"])
    assert nav[1]["Reference"][0]["Fields"] == ["spec/index.md", "spec/data.md"]
    assert nav[2:] == [{"More": ["new.md"]}]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("[a](losses.md)", "[a](losses.md)"),
        ("[a](../CONTRIBUTING.md#figures)", "[a](contributing.md#figures)"),
        ("[`b.yaml`](../specs/quickstart.yaml)", "[`b.yaml`](reference/specs.md#specsquickstartyaml)"),
        ("[a](notebooks/walkthrough.ipynb)", "[a](notebooks/walkthrough.md)"),
        ("[the script](../bench/gpu.py) and more", "the script and more"),
        ("```text\n[a](../bench/gpu.py)\n```", "```text\n[a](../bench/gpu.py)\n```"),
    ],
)
def test_links_lead_to_where_the_site_has_what_they_name(here: str, there: str, generators: None) -> None:
    import hook

    assert hook.relinked(here, "study.md") == there


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "docs" / "figures").glob("*.svg")))
def test_the_pictures_are_what_the_functions_give(name: str, generators: None) -> None:
    import figures

    committed, drawn = (ROOT / "docs" / "figures" / f"{name}.svg").read_text(), figures.svg(name)
    assert NUMBER.sub("#", drawn) == NUMBER.sub("#", committed), "draw them anew: python docs/generate/figures.py"
    ours, theirs = map(float, NUMBER.findall(drawn)), map(float, NUMBER.findall(committed))
    # Processors differ in the last digits of a float32.
    assert list(ours) == pytest.approx(list(theirs), abs=0.05)


def test_every_picture_is_shown_with_words_for_it(generators: None) -> None:
    import figures

    assert {path.stem for path in (ROOT / "docs" / "figures").iterdir()} == set(figures.FIGURES)
    page = (ROOT / "docs" / "la-and-dtd.md").read_text()
    words = dict(re.findall(r"!\[([^\]]+)\]\(figures/([\w-]+)\.svg\)", page))
    assert set(words.values()) == set(figures.FIGURES)
    assert all(len(text) > 60 for text in words)
