"""Every shell script of the repository, looked through by shellcheck; and what the small ones do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from linters import shellcheck

ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / ".ci" / "run", *sorted(path for end in ("sh", "sbatch") for path in ROOT.glob(f"deploy/**/*.{end}"))]
WITH_SECRETS = ROOT / "deploy" / "secrets-from-files.sh"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    assert shellcheck(script) == ""


def test_scripts_can_be_run() -> None:
    assert [path.name for path in SCRIPTS if path.suffix == ".sh" and not os.access(path, os.X_OK)] == []


def test_secrets_come_from_files(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret with 'quotes' $HOME\n")
    environment = {**os.environ, "PGPASSWORD_FILE": str(secret)}
    show = [sys.executable, "-c", "import os; print(os.environ['PGPASSWORD'], 'PGPASSWORD_FILE' in os.environ)"]
    done = subprocess.run([WITH_SECRETS, *show], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "s3cret with 'quotes' $HOME False\n"


def test_a_secret_that_cannot_be_read_ends_it(tmp_path: Path) -> None:
    environment = {**os.environ, "PGPASSWORD_FILE": str(tmp_path / "nowhere")}
    done = subprocess.run([WITH_SECRETS, "echo", "started"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"error: PGPASSWORD_FILE: {tmp_path / 'nowhere'} cannot be read\n"


def test_secrets_are_made_once_and_for_their_owner(tmp_path: Path) -> None:
    script = shutil.copy(ROOT / "deploy" / "docker" / "make-secrets.sh", tmp_path)
    subprocess.run([script], check=True, stdout=subprocess.PIPE)
    folder = tmp_path / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert all(len(value) >= 20 for value in made.values())
    assert len(set(made.values())) == len(made)
    (identity,) = json.loads(made["s3-identities.json"])["identities"]
    assert identity["credentials"] == [{"accessKey": made["s3-access-key"], "secretKey": made["s3-secret-key"]}]

    (folder / "s3-access-key").unlink()
    subprocess.run([script], check=True, stdout=subprocess.PIPE)
    again = {path.name: path.read_text() for path in folder.iterdir()}
    assert {name for name in made if again[name] != made[name]} == {"s3-access-key", "s3-identities.json"}
    assert again["s3-access-key"] in again["s3-identities.json"]
