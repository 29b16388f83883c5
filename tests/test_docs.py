"""What README, CONTRIBUTING, docs and the folders of deploy show is true: specs load, commands, files and links exist.

A fenced block says by its language what it is. `yaml` is a spec; one without a `name` shows sections alone, which
stand in the place of `BASE`'s. `sh` and `python` run in test_docs_run.py, `console` cannot run in a test, `text` is
output.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from doc_blocks import DOCS, FENCE, PAGES, ROOT, Block, blocks
from typer.exceptions import TyperException

from orchestrator.build import build_criterion
from orchestrator.cli import main
from orchestrator.cli.app import app
from orchestrator.errors import SpecError
from orchestrator.search.plan import Plan, make_plan
from orchestrator.spec import load_spec

LANGUAGES = {"console", "python", "sh", "text", "toml", "yaml"}
BASE: dict[str, Any] = {
    "name": "snippet",
    "data": {"dataset": "cifar100"},
    "teacher": {"model": "resnet56"},
    "student": {"model": "resnet20"},
}
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_INDENTED = re.compile(r"(?:^|\n\n)((?: {4}.*\n)+)")
WITH_PLUGINS = "docs/extending.md"
"""Its spec names methods of the package that it shows; test_plugins.py runs both."""


def test_every_block_says_what_it_is() -> None:
    assert [str(block) for block in blocks() if block.language not in LANGUAGES] == []


def test_no_code_is_shown_outside_a_fence() -> None:
    """Where no test would see it."""
    assert {page.name: found for page in DOCS if (found := _INDENTED.findall(FENCE.sub("", page.read_text())))} == {}


def planned(snippet: str, folder: Path) -> Plan:
    """The plan of a snippet, whose losses have been built."""
    content = yaml.safe_load(snippet)
    path = folder / "snippet.yaml"
    if "name" not in content:
        rest = {name: section for name, section in BASE.items() if name not in content}
        snippet = f"{yaml.safe_dump(rest)}\n{snippet}"
    path.write_text(snippet)
    plan = make_plan(load_spec(path))
    for arm in plan.arms:
        build_criterion(arm.variant.run.distillation)
    return plan


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if block.page != WITH_PLUGINS], ids=str)
def test_a_spec_that_is_shown_loads(block: Block, tmp_path: Path) -> None:
    assert planned(block.text, tmp_path).arms


@pytest.mark.parametrize(
    ("snippet", "reason"),
    [
        ("distillation: {temprature: {base: 4}}\n", "did you mean 'temperature'"),
        ("distillation: {loss: {method: dkd, gamma: 1}}\n", "unknown key"),
        ("teacher: {model: resnet15}\n", "resnet14"),
        ("search: {space: {distillation.features.0.weight: {type: uniform, low: 1, high: 2}}}\n", "no field"),
    ],
)
def test_a_wrong_snippet_is_found(snippet: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=reason):
        planned(snippet, tmp_path)


@pytest.mark.parametrize(
    "page", ["losses", "schemes", "features", "augmentation", "data", "models", "search", "budgets"]
)
def test_the_pages_show_specs(page: str) -> None:
    assert any(block.page == f"docs/{page}.md" for block in blocks("yaml"))


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_that_is_shown_can_be_read(block: Block) -> None:
    assert tomllib.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("block", blocks("console", "sh"), ids=str)
def test_commands_take_the_options_that_are_shown(block: Block) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in block.commands:
        match words:
            case ["orchestrator", *arguments]:
                parse(arguments)
            case ["make", target, *_]:
                assert target in targets
            case ["python", script, *_] if not script.startswith("-"):
                assert (ROOT / script).is_file()


def parse(arguments: list[str]) -> None:
    """Reads a command as it is read when it runs; an unknown one, or an unknown option, is an error."""
    group: Any = typer.main.get_command(app)
    with group.make_context("orchestrator", arguments) as context:
        name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("arguments", [["result", "quickstart"], ["results", "quickstart", "--formt", "csv"], ["run"]])
def test_a_wrong_command_is_found(arguments: list[str]) -> None:
    with pytest.raises(TyperException):
        parse(arguments)


def named_inline() -> list[str]:
    """Code in the middle of a sentence."""
    return [code for page in PAGES for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))]


def test_commands_that_are_named_exist() -> None:
    shown = {match[1] for code in named_inline() if (match := re.match(r"orchestrator ([a-z]+)", code))}
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert {"validate", "plan", "run", "results", "schema"} <= shown <= known


def test_what_make_is_shown_to_make_exists() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = {code.split()[1] for code in named_inline() if code.startswith("make ")}
    assert {"run", "docs"} <= shown <= set(targets)


def test_files_that_are_named_exist() -> None:
    for code in [*named_inline(), *(block.text for block in blocks("console", "sh"))]:
        for name in re.findall(r"(?<![\w/])(?:specs|bench|docs|tests)/[\w./-]+\.(?:yaml|py|md)", code):
            assert (ROOT / name).is_file(), name


def test_every_benchmark_is_explained() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    scripts = [path for path in (ROOT / "bench").glob("*.py") if "__main__" in path.read_text()]
    assert [path.name for path in scripts if f"`bench/{path.name}`" not in page] == []


def test_every_page_is_linked_from_the_first() -> None:
    first = ROOT / "docs" / "index.md"
    linked = {first.name, *_LINK.findall(first.read_text())}
    assert {page.name for page in first.parent.glob("*.md")} <= linked


def test_the_readme_names_every_example() -> None:
    readme = (ROOT / "README.md").read_text()
    top = (ROOT / "specs").glob("*")
    assert [path.name for path in top if f"`specs/{path.name}`" not in readme] == []


def test_the_errors_in_the_readme_are_what_is_printed(tmp_path: Path, monkeypatch, capsys) -> None:
    expected = next(block.text for block in blocks("text") if block.text.startswith("error: wrong.yaml"))
    monkeypatch.chdir(tmp_path)
    Path("wrong.yaml").write_text(
        "name: wrong\ndata: {dataset: digits}\nteacher: {model: resnet14}\nstudent: {model: resnet8}\ndistillation:\n"
        "  temprature: {method: flsw}\n  temperature: {method: flsw, base: 4, min: 5}\n"
        "  adjustment: {rule: probability_shft}\ntraining: {epochs: 0}\n"
    )
    with pytest.raises(SystemExit):
        main(["validate", "wrong.yaml"])
    assert capsys.readouterr().err == expected
