"""What is sent to a cluster, and what is not."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import orchestrator
from orchestrator.errors import OrchestratorError
from orchestrator.execution.package import build_package, code_digest

PACKAGE = Path(orchestrator.__file__).parent


def names(content: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(content)).namelist()


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A package's folder, with what lies about in one that is worked in."""
    folder = tmp_path / "orchestrator"
    for name in (
        "__init__.py",
        "inner/code.py",
        "inner/__pycache__/code.pyc",
        ".git/config",
        ".orchestrator/mlflow.db",
        ".env",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "images.bin").write_text("beside the package")
    return folder


def test_the_package_and_the_spec_are_sent_and_nothing_else() -> None:
    sent = names(build_package("name: a\n").content)
    own = {f"orchestrator/{path.relative_to(PACKAGE)}" for path in PACKAGE.rglob("*.py")}
    assert own <= set(sent)
    assert {"orchestrator/models/sizes.json", "orchestrator/py.typed", "spec.yaml"} <= set(sent)
    assert {name.partition("/")[0].partition("-")[0] for name in sent} == {
        "orchestrator",
        "spec.yaml",
        "distillation_orchestrator",
    }


def test_hidden_files_caches_and_neighbours_stay(code: Path) -> None:
    sent = [name for name in names(build_package(folder=code).content) if "dist-info" not in name]
    assert sent == ["orchestrator/__init__.py", "orchestrator/inner/code.py"]


def test_the_same_content_is_the_same_archive(code: Path) -> None:
    first = build_package("name: a\n", code).content
    for path in code.rglob("*.py"):
        path.touch()
    assert build_package("name: a\n", code).content == first
    assert build_package("name: b\n", code).content != first


def test_the_archive_runs_where_no_orchestrator_is_installed(tmp_path: Path) -> None:
    spec = "name: sent\ndata: {dataset: digits}\nstudent: {model: resnet8}\ndistillation: {kd_weight: 0}\n"
    zipfile.ZipFile(io.BytesIO(build_package(spec).content)).extractall(tmp_path)
    script = (
        "import orchestrator; from importlib.metadata import version;"
        "print(orchestrator.__file__, version('distillation-orchestrator'))"
    )
    runs = [["-m", "orchestrator", "validate", "spec.yaml"], ["-c", script]]
    done = [
        subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={"PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for arguments in runs
    ]
    assert done[0].startswith("spec.yaml: valid; experiment sent-")
    assert done[1].split() == [
        str(tmp_path / "orchestrator" / "__init__.py"),
        metadata.version("distillation-orchestrator"),
    ]


def test_what_is_too_large_is_named(code: Path) -> None:
    (code / "weights.bin").write_bytes(bytes(range(256)) * 4000)
    with pytest.raises(OrchestratorError, match=r"the largest: orchestrator/weights.bin 1.0 MB, .* more than the 3 kB"):
        build_package(folder=code, limit=3000)
    assert "weights.bin 1.0 MB" in str(build_package(folder=code))


def test_the_digest_is_that_of_the_code() -> None:
    assert code_digest() == code_digest()
    assert len(code_digest()) == 12
