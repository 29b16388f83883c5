"""What shells complete, what help pages say, and what colours and widths a terminal or a pipe gets."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from experiments_on_disk import SPEC, plan_of, whole, write
from typer.core import TyperCommand

from orchestrator.cli import main
from orchestrator.cli.app import app
from orchestrator.cli.pages import EXIT_CODES, PAGES, VARIABLES
from orchestrator.cli.terminal import Screen
from orchestrator.store.home import Home

PROGRAM = [sys.executable, "-m", "orchestrator"]
FLSW = {"set": {"distillation.temperature": {"method": "flsw"}}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spec, another program's YAML, and a home with two experiments."""
    folder = tmp_path_factory.mktemp("place")
    home = Home(folder / "home")
    tiny = plan_of(search__variants={"la-ps+dtd-flsw": FLSW, "kd": {}})
    for plan in (tiny, plan_of(name="later", training__epochs=6)):
        journal = write(home, plan, whole(plan)).journal
        os.utime(journal.path, (0, 0) if plan is tiny else None)
    (folder / "specs" / "paper").mkdir(parents=True)
    for name in ("mine.yaml", "specs/one.yaml", "specs/paper/two.yml"):
        (folder / name).write_text(yaml.safe_dump(SPEC))
    (folder / "compose.yaml").write_text("services: {}\n")
    (folder / "exported").mkdir()
    (folder / "exported" / "model.onnx").touch()
    return folder


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "ORCHESTRATOR_HOME")}
    return {**kept, "TERM": "xterm-256color", **more}


# Completion


@pytest.fixture
def printed(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the program in this process, in the folder; gives what it printed."""
    monkeypatch.chdir(place)
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ORCHESTRATOR_HOME", "home")

    def run(words: list[str], **variables: str) -> str:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as caught:
                main(words)
        captured = capsys.readouterr()
        assert (caught.value.code, captured.err) == (0, "")
        return captured.out

    return run


@pytest.fixture
def completed(printed: Callable[..., str]) -> Callable[[str], list[str]]:
    """What bash is given for the last word of a line."""

    def complete(line: str) -> list[str]:
        words = str(len(line.split(" ")) - 1)
        return printed([], COMP_WORDS=line, COMP_CWORD=words, _ORCHESTRATOR_COMPLETE="complete_bash").split()

    return complete


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("orchestrator pl", ["plan"]),
        ("orchestrator run --q", ["--quiet"]),
        ("orchestrator results ", ["later", "tiny"]),
        ("orchestrator results --home nowhere ", []),
        ("orchestrator --home s3://bucket/x results ", []),
        ("orchestrator logs tiny --trial kd-final-", ["kd-final-1", "kd-final-2", "kd-final-3"]),
        ("orchestrator results tiny --reference ", ["la-ps+dtd-flsw", "kd"]),
        ("orchestrator results --reference ", ["alone", "kd"]),
        ("orchestrator compare tiny later --reference la", ["later/alone", "later/kd"]),
        ("orchestrator export tiny --variant kd --seed ", ["1", "2", "3"]),
        ("orchestrator export tiny --variant kd --trial ", ["kd-final-1", "kd-final-2", "kd-final-3"]),
        ("orchestrator predict tiny/kd --trial ", ["kd-final-1", "kd-final-2", "kd-final-3"]),
        ("orchestrator predict la", ["later"]),
        ("orchestrator predict ti", ["tiny"]),
        ("orchestrator predict tiny/", ["tiny/la-ps+dtd-flsw", "tiny/kd"]),
        ("orchestrator predict ex", ["exported"]),
        ("orchestrator predict mi", []),
        ("orchestrator run ", ["mine.yaml", "specs/one.yaml", "specs/paper/two.yml"]),
        ("orchestrator run ./sp", ["./specs/one.yaml", "./specs/paper/two.yml"]),
        ("orchestrator run compose", []),
    ],
)
def test_bash_completes_what_there_is(completed: Any, line: str, offered: list[str]) -> None:
    assert completed(line) == offered


def test_ids_are_offered_where_one_is_begun(completed: Any, place: Path) -> None:
    (whole_id,) = (path.name for path in (place / "home" / "experiments").glob("tiny-*"))
    assert completed("orchestrator status tiny-") == [whole_id]


def test_what_is_offered_as_a_reference_is_taken(completed: Any, printed: Any, place: Path) -> None:
    (whole_id,) = (path.name for path in (place / "home" / "experiments").glob("tiny-*"))
    for begun, offered in (("", "tiny/kd"), (f"{whole_id}/", f"{whole_id}/kd")):
        assert offered in completed(f"orchestrator compare {whole_id} later --reference {begun}")
        told = json.loads(printed(["compare", whole_id, "later", "--reference", offered, "--format", "json"]))
        assert {comparison["reference"] for comparison in told["comparisons"]} == {"tiny/kd"}


@pytest.mark.parametrize(
    ("name", "usage"),
    [("results", "[NAME]"), ("stop", "NAME"), ("compare", "NAME..."), ("predict", "MODEL [IMAGES...]")],
)
def test_usage_lines_are_as_a_manual_has_them(name: str, usage: str) -> None:
    context = typer.Context(COMMANDS[name], info_name=name)  # type: ignore[arg-type]
    assert COMMANDS[name].get_usage(context) == f"Usage: {name} [OPTIONS] {usage}"


def test_completion_loads_nothing_heavy(place: Path) -> None:
    probe = (
        "import sys; from orchestrator.cli import main\n"
        "try: main([])\n"
        "finally: print(*sorted({'torch', 'ray', 'mlflow', 'numpy', 'pyarrow'} & {*sys.modules}), 'loaded')"
    )
    asked = {"COMP_WORDS": "orchestrator stop ", "COMP_CWORD": "2", "_ORCHESTRATOR_COMPLETE": "complete_bash"}
    command = [sys.executable, "-c", probe]
    variables = environment(**asked, ORCHESTRATOR_HOME="home")
    done = subprocess.run(command, env=variables, cwd=place, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["later", "tiny", "loaded"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(printed: Any, shell: str) -> None:
    script = printed(["--show-completion", shell], _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert f"_ORCHESTRATOR_COMPLETE=complete_{shell}" in script


# Help

COMMANDS: dict[str, TyperCommand] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
EXAMPLES = [line for page in PAGES.values() for line in page.examples]


def test_every_command_has_a_page_and_no_page_is_of_nothing() -> None:
    assert [*PAGES] == [*COMMANDS]
    assert {name for page in PAGES.values() for name in page.variables} <= {*VARIABLES}


@pytest.mark.parametrize("line", EXAMPLES)
def test_every_example_can_be_typed(line: str) -> None:
    program, name, *words = shlex.split(re.split(r" [>|] ", line)[0])
    assert program == "orchestrator"
    COMMANDS[name].make_context(name, words)


@pytest.mark.parametrize("name", [*PAGES])
def test_a_page_fits_a_terminal_and_has_what_a_manual_has(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = COMMANDS[name].get_help(typer.Context(COMMANDS[name], info_name=name))  # type: ignore[arg-type]
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert not re.search(r"<(?!=)|{|\[\[", text), "a type, or brackets of Typer's own"
    for title in ("Options:", "Examples:", "Exit codes:", "Environment:"):
        assert title in lines
    assert set(PAGES[name].examples) <= {line.strip() for line in lines}
    assert [line.split()[0] for line in lines if re.match(r"  \d+  ", line)] == [*EXIT_CODES]


# Colours and widths

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])m")


def in_a_terminal(place: Path, words: list[str], width: int = 80, **variables: str) -> str:
    """What a command writes to a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    command = [*PROGRAM, "--home", "home", *words]
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, cwd=place, env=environment(**variables)
    )
    os.close(slave)
    seen = b""
    try:
        while part := os.read(master, 1 << 16):
            seen += part
    except OSError:
        # A terminal that nobody writes to any more.
        pass
    finally:
        process.wait()
        os.close(master)
    return seen.decode().replace("\r", "")


def test_colours_are_for_terminals_unless_somebody_says_otherwise(printed: Any, place: Path) -> None:
    words = ["results", "tiny"]
    assert COLOUR.search(in_a_terminal(place, words))
    assert not COLOUR.search(in_a_terminal(place, words, NO_COLOR="1"))
    assert not ESCAPE.search(printed(words))
    assert COLOUR.search(printed(words, FORCE_COLOR="1"))


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize(
    "words", [["results", "tiny"], ["compare", "tiny", "later"], ["list"], ["plan", "mine.yaml"]], ids=lambda w: w[0]
)
def test_tables_keep_their_figures_at_every_width(printed: Any, words: list[str], width: int) -> None:
    text = printed(words, COLUMNS=str(width))
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in text
    for figure in {"list": ["11/11"], "plan": ["loguniform 0.01 to 0.2"]}.get(words[0], ["81.00 ± 1.00"]):
        assert figure in text
    # Where names are broken into lines, enough of them stays together to be read.
    if words[0] in ("results", "compare"):
        names = [line.split("  ")[0].strip() for line in lines if line.startswith(("tiny/", "later/", "la-ps"))]
        assert min(map(len, names)) >= 7


def test_nothing_is_drawn_over_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not Screen(io.StringIO()).draws
