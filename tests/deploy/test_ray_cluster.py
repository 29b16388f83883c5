"""The files of Ray's cluster launcher, read by the launcher's own code."""

from __future__ import annotations

import copy
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from linters import shellcheck
from ray.autoscaler._private.command_runner import _with_interactive
from ray.autoscaler._private.util import prepare_config, validate_config
from ray_commands import started_in

FOLDER = Path(__file__).parents[2] / "deploy" / "ray-cluster"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(yaml.safe_load(request.param.read_text()))


def test_there_is_one_for_each_place() -> None:
    assert [path.stem for path in FILES] == ["aws", "on-premise"]


def test_the_launcher_accepts_it(config: dict[str, Any]) -> None:
    validate_config(prepare_config(config))


def test_an_unknown_field_would_be_found(config: dict[str, Any]) -> None:
    wrong = copy.deepcopy(config) | {"setup_comands": []}
    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validate_config(prepare_config(wrong))


def test_it_starts_with_a_node_that_fits_a_worker(config: dict[str, Any]) -> None:
    """Experiments use what is there, and ask for no more."""
    made = prepare_config(copy.deepcopy(config))
    workers = [kind for kind in made["available_node_types"].values() if kind["min_workers"]]
    # What is not said is as the machine has it.
    assert any(kind["resources"].get("CPU", 1) >= 1 for kind in workers)
    assert all(kind["min_workers"] == kind["max_workers"] for kind in workers)


def test_the_launcher_finds_ray_when_it_ends_the_cluster(config: dict[str, Any], tmp_path: Path) -> None:
    """It calls it by its name alone, in a shell of its own."""
    program = tmp_path / "orchestrator-env" / "bin" / "ray"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)

    def told(command: str) -> str:
        line, environment = " ".join(_with_interactive(command)), {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            ["bash", "-c", line], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            start_new_session=True, check=True,
        )  # fmt: skip
        return done.stdout

    (line,) = [line for line in config["setup_commands"] if ".bashrc" in line]
    # Whenever the cluster is brought up.
    for _ in range(2):
        told(line)
    assert told("command -v ray") == f"{program}\n"
    assert len((tmp_path / ".bashrc").read_text().splitlines()) == 1


def test_tokens_are_on_and_the_dashboard_is_on_loopback(config: dict[str, Any]) -> None:
    (head,) = [line for line in config["head_start_ray_commands"] if "ray start" in line]
    (worker,) = [line for line in config["worker_start_ray_commands"] if "ray start" in line]
    environment, options = started_in(head)
    assert environment["RAY_AUTH_MODE"] == "token"
    # Where experiments that are submitted are kept.
    assert environment["ORCHESTRATOR_HOME"].startswith("/shared/")
    assert options["head"]
    assert options["dashboard_host"] == "127.0.0.1"
    assert options["autoscaling_config"] == "~/ray_bootstrap_config.yaml"
    same, options = started_in(worker)
    assert same == environment
    assert options["address"].endswith(f":{started_in(head)[1]['port']}")
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_package_comes_from_a_wheel_and_storage_is_shared(config: dict[str, Any]) -> None:
    install = next(line for line in config["setup_commands"] if "pip install" in line)
    folder = next(remote for remote, local in config["file_mounts"].items() if local == "dist")
    assert f"{folder}/*.whl" in install
    assert f"--constraint {folder}/constraints.txt" in install
    assert any("mount -t nfs4" in line and " /shared" in line for line in config["initialization_commands"])


def test_its_commands_are_sound_shell(config: dict[str, Any], tmp_path: Path) -> None:
    lines = [line for name, section in config.items() if name.endswith("commands") for line in section]
    script = tmp_path / "commands.sh"
    script.write_text("\n".join(["#!/bin/bash", *lines, ""]))
    assert shellcheck(script) == ""


def test_an_option_that_ray_start_lacks_is_found() -> None:
    with pytest.raises(AssertionError, match="dashboard-hots"):
        started_in("ulimit -n 65536; ray start --head --dashboard-hots=127.0.0.1")
