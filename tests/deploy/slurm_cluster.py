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

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
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
FirstJobId={first_job}
ReturnToService=2
KillWait=15
NodeName={names} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """The programs that Slurm's tests need and this machine lacks."""
    return [name for name in PROGRAMS if not shutil.which(name, path=PATH)]


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
        (self.folder / "slurm.conf").write_text(
            CONF.format(
                host=socket.gethostname().partition(".")[0],
                controller=controller,
                user=getpass.getuser(),
                folder=self.folder,
                # Jobs of another test run on this machine have other numbers.
                first_job=1000 + os.getpid() % 50000,
                names=",".join(self.nodes),
                ports=",".join(map(str, ports)),
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
        wait_for(Path(here["socket"]).exists, 15, "munge's start")
        self._daemon("slurmctld", "-D")
        for node in self.nodes:
            self._daemon("slurmd", "-D", "-N", node)
        states = ["idle", str(len(self.nodes))]
        wait_for(lambda: self.call("sinfo", "-h", "-o", "%t %D").split() == states, 60, f"idle nodes in {self.folder}")

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
        return dict(part.split("=", 1) for part in self.call("scontrol", "show", "job", job).split() if "=" in part)

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
