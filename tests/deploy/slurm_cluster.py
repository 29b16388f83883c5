"""Slurm of its own for tests: munge, the controller and a daemon for each virtual node, all on this machine."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
PROGRAMS = (*DAEMONS, "sbatch", "srun", "scontrol", "sinfo", "scancel")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

CONF = """\
ClusterName=tests
SlurmctldHost={host}
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SlurmdParameters=config_overrides
MpiDefault=none
CompleteWait=0
FirstJobId={first_job}
ReturnToService=2
KillWait=15
# Its limits are for machines with nothing else to do: past them it gives a launch up, or takes a node away.
MessageTimeout=60
TCPTimeout=30
BatchStartTimeout=60
UnkillableStepTimeout=180
# Seconds until a job that has ended is forgotten.
MinJobAge=86400
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4000 Gres=gpu:{number}"
GPUS = "NodeName={name} Name=gpu File=/dev/tty[{first}-{last}]"
"""Node n1 has one, n2 two, and so on; what is behind the files does not matter."""


def missing() -> list[str]:
    """The programs that Slurm's tests need and this machine lacks, or that do not run here."""
    return [name for name in PROGRAMS if not _runs(name)]


def _runs(name: str) -> bool:
    program = shutil.which(name, path=PATH)
    if program is None:
        return False
    # The others do not even tell their version where there is no configuration.
    asked = [program, "-V"]
    return name not in DAEMONS or subprocess.run(asked, capture_output=True, timeout=20, check=False).returncode == 0


class SlurmUnusableError(Exception):
    """A daemon that ended by itself: something that it needs is not installed."""


def wait_for(condition: Callable[[], bool], seconds: float, what: str, log: Path | None = None) -> None:
    end = time.monotonic() + seconds
    while not condition():
        told = log.read_text() if log and log.exists() else ""
        assert time.monotonic() < end, f"{what} did not happen within {seconds:.0f} s\n{told}"
        time.sleep(0.3)


def free_ports(count: int) -> list[int]:
    """Neighbouring ports, since Slurm takes the daemons' as a range."""
    for first in range(17000 + os.getpid() % 1000, 19900, count):
        probes = [socket.socket() for _ in range(count)]
        try:
            for number, probe in enumerate(probes):
                probe.bind(("", first + number))
            return list(range(first, first + count))
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
    raise AssertionError("no free ports")


class SlurmCluster:
    """Virtual nodes n1, n2, ... of two cores each."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.folder = folder
        self.nodes = [f"n{number + 1}" for number in range(nodes)]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "RAY_"))},
            "PATH": PATH,
            "SLURM_CONF": str(folder / "slurm.conf"),
        }
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        for name in ("state", *(f"spool-{node}" for node in self.nodes)):
            (self.folder / name).mkdir()
        controller, *ports = free_ports(1 + len(self.nodes))
        host = socket.gethostname().partition(".")[0]
        nodes, gpus = [], []
        for number, (name, port) in enumerate(zip(self.nodes, ports, strict=True), 1):
            nodes.append(NODE.format(name=name, host=host, port=port, number=number))
            gpus.append(GPUS.format(name=name, first=10 * number + 1, last=11 * number))
        (self.folder / "gres.conf").write_text("\n".join(gpus) + "\n")
        (self.folder / "slurm.conf").write_text(
            CONF.format(
                host=host,
                controller=controller,
                user=getpass.getuser(),
                folder=self.folder,
                # Jobs of another test run on this machine have other numbers.
                first_job=1000 + os.getpid() % 50000,
                nodes="\n".join(nodes),
            )
        )
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        here = {name: str(self.folder / f"munge.{name}") for name in ("socket", "log", "pid", "seed")}
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={here['socket']}",
            f"--log-file={here['log']}", f"--pid-file={here['pid']}", f"--seed-file={here['seed']}",
        )  # fmt: skip
        wait_for(lambda: Path(here["socket"]).exists() or self._has_ended(), 15, "munge's start")
        self._daemon("slurmctld", "-D")
        for node in self.nodes:
            self._daemon("slurmd", "-D", "-N", node)
        wait_for(lambda: self._are_idle() or self._has_ended(), 60, f"idle nodes in {self.folder}")

    def _are_idle(self) -> bool:
        return self.call("sinfo", "-h", "-o", "%t %D").split() == ["idle", str(len(self.nodes))]

    def _has_ended(self) -> bool:
        """Never true: raises `SlurmUnusableError` where a daemon has."""
        for process in self._daemons:
            if process.poll() is not None:
                raise SlurmUnusableError(f"{process.args} ended with {process.returncode}; see {self.folder}")
        return False

    def _daemon(self, *command: str) -> None:
        with (self.folder / f"{command[0]}-{command[-1]}.log".replace("/", "_")[-100:]).open("wb") as log:
            self._daemons.append(
                subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)
            )

    def call(self, *command: str | Path) -> str:
        """What a command of Slurm prints; empty where it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def submit(self, script: Path, arguments: Sequence[str | Path], options: Sequence[str], folder: Path) -> str:
        """The id of a job; what it prints goes to `folder`/ID.log."""
        done = subprocess.run(
            ["sbatch", "--parsable", f"--output={folder}/%j.log", f"--chdir={folder}", *options, script, *arguments],
            env=self.environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self, job: str) -> dict[str, str]:
        """What the controller says of a job."""
        told = self.call("scontrol", "show", "job", job)
        assert told, f"the controller tells nothing of job {job}"
        return dict(part.split("=", 1) for part in told.split() if "=" in part)

    def stop(self) -> None:
        """End the daemons, the last one first; with the controller gone none of its nodes' jobs is left."""
        self.call("scancel", "--full", "--signal=KILL", "--state=RUNNING")
        for process in reversed(self._daemons):
            process.terminate()
        for process in self._daemons:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
