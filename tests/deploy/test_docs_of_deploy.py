"""What holds for all of deploy/: each folder is explained, nothing secret and no place of one machine is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "deploy").rglob("*") if path.is_file() and "secrets" not in path.parts)
FOLDERS = sorted(path for path in (ROOT / "deploy").iterdir() if path.is_dir())


def test_there_is_a_folder_for_each_way() -> None:
    assert [folder.name for folder in FOLDERS] == ["docker", "kuberay", "mlflow", "ray-cluster", "slurm"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_each_folder_explains_its_files(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert [
        path.name for path in FILES if path.parent == folder and path.name not in text and path.name != "README.md"
    ] == []
    assert "## What is tested" in text
    assert f"deploy/{folder.name}" in (ROOT / "docs" / "deploy.md").read_text()


@pytest.mark.parametrize("page", [path for path in FILES if path.suffix == ".md"], ids=lambda path: path.parent.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_secret_is_written_down(path: Path) -> None:
    for line in path.read_text().splitlines():
        # A long run of hexadecimal digits, or a password with its value.
        assert not re.search(r"\b[0-9a-f]{32,}\b", line), line
        assert not re.search(
            r"(?i)(password|token|secret[-_]?key)\"?\s*[:=]\s*[\"']?[a-z0-9+/]{12,}[\"']?\s*$", line
        ), line
