"""What the machine is found to offer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import machine
from orchestrator.machine import Machine, this_machine


@pytest.mark.parametrize(
    ("cores", "quota", "cpus"),
    [(8, None, 8), (8, 4.0, 4), (8, 2.9, 2), (8, 0.5, 1), (2, 16.0, 2), (1, None, 1)],
)
def test_cpus_are_those_of_the_process_within_the_containers_quota(
    monkeypatch, cores: int, quota: float | None, cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr(machine, "_cgroup_quota", lambda: quota)
    assert this_machine().cpus == cpus


@pytest.mark.parametrize(
    ("text", "quota"),
    [("max 100000\n", None), ("150000 100000\n", 1.5), ("", None), ("a b\n", None), (None, None)],
)
def test_the_containers_quota(monkeypatch, text: str | None, quota: float | None) -> None:
    def read(path: Path) -> str:
        assert str(path) == "/sys/fs/cgroup/cpu.max"
        if text is None:
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(Path, "read_text", read)
    assert machine._cgroup_quota() == quota


@pytest.mark.parametrize(
    ("visible", "gpus"), [("", 0), ("-1", 0), ("0", 1), ("0,1", 2), ("0, 3", 2), ("GPU-1a,GPU-2b,GPU-3c", 3)]
)
def test_visible_gpus(monkeypatch, visible: str, gpus: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert this_machine().gpus == gpus


def test_without_a_choice_the_drivers_gpus_count(monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    devices = Path("/proc/driver/nvidia/gpus")
    assert this_machine().gpus == (len(list(devices.iterdir())) if devices.is_dir() else 0)


def test_a_machine_is_found_without_torch() -> None:
    code = "import sys, orchestrator.machine as m; m.this_machine(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_machine_has_no_gpus_unless_told() -> None:
    assert Machine(4) == Machine(cpus=4, gpus=0)


@pytest.mark.parametrize(
    ("machine", "cpus", "gpus", "places"),
    [
        (Machine(4), 1, 0, 4),
        (Machine(5), 2, 0, 2),
        (Machine.cluster([Machine(3), Machine(3)]), 2, 0, 2),
        (Machine.cluster([Machine(1), Machine(1)]), 2, 0, 0),
        (Machine.cluster([Machine(0), Machine(8, 2), Machine(8, 1)]), 1, 1, 3),
        (Machine.cluster([Machine(8, 2), Machine(1, 4)]), 1, 1, 3),
        (Machine(16, 1), 1, 0.1, 10),
        # A worker's share cannot lie on two GPUs.
        (Machine(16, 2), 1, 0.6, 2),
        (Machine(16, 3), 1, 2.0, 1),
    ],
)
def test_a_worker_needs_a_place_on_one_node(machine: Machine, cpus: float, gpus: float, places: int) -> None:
    assert machine.workers(cpus, gpus) == places


def test_a_cluster_is_the_sum_of_its_nodes() -> None:
    cluster = Machine.cluster([Machine(2), Machine(4, 1)])
    assert (cluster.cpus, cluster.gpus) == (6, 1)
