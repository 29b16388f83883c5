"""What README, CONTRIBUTING and docs show is true: specs load, Python compiles, commands and links exist.

A fenced ```yaml block is a spec. One without a `name` shows sections alone: they stand in the place of `BASE`'s.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.build import build_criterion
from orchestrator.cli import main
from orchestrator.errors import SpecError
from orchestrator.search.plan import Plan, make_plan
from orchestrator.spec import load_spec

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BASE: dict[str, Any] = {
    "name": "snippet",
    "data": {"dataset": "cifar100"},
    "teacher": {"model": "resnet56"},
    "student": {"model": "resnet20"},
}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_INDENTED = re.compile(r"(?:^|\n\n)((?: {4}.*\n)+)")


def blocks(language: str) -> list[Any]:
    """Every fenced block of a language, named by its page and line."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in _FENCE.finditer(text):
            line = text[: match.start()].count("\n") + 1
            if match[1] == language:
                found.append(pytest.param(match[2], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


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


@pytest.mark.parametrize("snippet", blocks("yaml"))
def test_a_spec_that_is_shown_loads(snippet: str, tmp_path: Path) -> None:
    assert planned(snippet, tmp_path).arms


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
    assert any(f"docs/{page}.md:" in block.id for block in blocks("yaml"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_spec_is_shown_outside_a_fence(page: Path) -> None:
    """Where no test would load it."""
    for block in _INDENTED.findall(_FENCE.sub("", page.read_text())):
        assert not re.match(r" {4}[a-z_]+:( |\n)", block), block


@pytest.mark.parametrize("code", blocks("python"))
def test_python_that_is_shown_compiles_and_imports(code: str) -> None:
    compile(code, "snippet", "exec")
    imports = [line for line in code.splitlines() if re.match(r"(from|import) ", line)]
    exec("\n".join(imports), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def code_of(page: Path) -> list[str]:
    """Inline code, and the lines of its blocks."""
    text = page.read_text()
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return [*re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)), *lines]


def test_commands_that_are_shown_exist(capsys) -> None:
    shown = {shlex.split(code)[1] for page in PAGES for code in code_of(page) if code.startswith("orchestrator ")}
    assert {"validate", "plan", "run", "results", "list", "status", "ui", "schema"} <= shown
    for command in shown:
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0, command
    capsys.readouterr()


def test_what_make_is_shown_to_make_exists() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = {code.split()[1] for page in PAGES for code in code_of(page) if code.startswith("make ")}
    assert {"run", "test"} <= shown <= set(targets)


def test_files_that_are_named_exist() -> None:
    for page in PAGES:
        for code in code_of(page):
            for name in re.findall(r"\b(?:specs|bench|docs|tests)/[\w./-]+\.(?:yaml|py|md)", code):
                assert (ROOT / name).is_file(), f"{page.name}: {name}"


def test_the_readme_names_every_example() -> None:
    readme = (ROOT / "README.md").read_text()
    top = (ROOT / "specs").glob("*")
    assert [path.name for path in top if f"`specs/{path.name}`" not in readme] == []


def test_the_errors_in_the_readme_are_what_is_printed(tmp_path: Path, monkeypatch, capsys) -> None:
    readme = (ROOT / "README.md").read_text()
    expected = next(match[2] for match in _FENCE.finditer(readme) if match[2].startswith("error: wrong.yaml"))
    monkeypatch.chdir(tmp_path)
    Path("wrong.yaml").write_text(
        "name: wrong\ndata: {dataset: digits}\nteacher: {model: resnet14}\nstudent: {model: resnet8}\ndistillation:\n"
        "  temprature: {method: flsw}\n  temperature: {method: flsw, base: 4, min: 5}\n"
        "  adjustment: {rule: probability_shft}\ntraining: {epochs: 0}\n"
    )
    with pytest.raises(SystemExit):
        main(["validate", "wrong.yaml"])
    assert capsys.readouterr().err == expected
