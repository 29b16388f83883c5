"""What can keep an experiment from running on a machine, looked at before anything is begun; runs on any node."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

from filelock import FileLock

from orchestrator.environment import version_of
from orchestrator.errors import DataError, OrchestratorError, first_line
from orchestrator.execution.package import code_digest
from orchestrator.machine import this_machine
from orchestrator.passwords import redacted
from orchestrator.spec.base import expand_environment, location
from orchestrator.store.data import files_at, remote_root
from orchestrator.store.home import MIN_FREE_BYTES, Home
from orchestrator.store.remote import Remote

SAME = ("torch", "torchvision", "ray")
"""Packages that all nodes must have in one version; where others differ, results may."""
ALIKE = ("numpy", "pydantic", "safetensors", "scikit-learn")
LOW_MEMORY, NO_MEMORY = 2 * 10**9, 5 * 10**8
"""Bytes that should be free for a trial: PyTorch alone takes half a GB."""
LOW_DISK = 5 * 10**9


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    ABSENT = "absent"
    """It is not there, and need not be."""
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One check's outcome."""

    check: str
    state: State
    found: str
    advice: str = ""
    node: str = ""

    def to_dict(self) -> dict[str, str]:
        """As JSON-like data."""
        return {key: str(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class DataPlace:
    """A data set that a spec names, and where."""

    dataset: str
    root: str | None
    download: bool = False


@dataclass(frozen=True)
class Tracked:
    """An experiment in MLflow that runs can be written to."""

    uri: str
    """Of the store, with its variables as a spec has them: each node has its own."""
    experiment: str

    @property
    def server(self) -> str | None:
        """The store's URI here; None for a file, which is the driver's alone."""
        uri = expand_environment(self.uri, "tracking.uri")
        return None if uri.startswith("sqlite:") else uri


@dataclass(frozen=True)
class Request:
    """What to look at, as plain data, which travels to nodes."""

    home: str
    versions: Mapping[str, str]
    """Of the machine that asks, by `versions`."""
    data: Sequence[DataPlace] = ()
    """Data sets that have to be there."""
    gpus: float = 0
    """Of one worker."""
    mark: str | None = None
    """Name of a file below the home folder that the machine that asks has written, and with which content."""
    tracked: Tracked | None = None
    """Where MLflow is written to, if not to the home folder's own file."""
    number: int = 0
    """Of the node, to tell those of one host apart."""
    everything: bool = False
    """Devices and all known data sets, too."""


def versions() -> dict[str, str]:
    """What has to be the same wherever an experiment runs."""
    packages = {name: version_of(name) for name in (*SAME, *ALIKE)}
    return {"the orchestrator's code": code_digest(), "Python": platform.python_version(), **packages}


def examine(request: Request) -> list[Finding]:
    """Look at this machine."""
    home = Home(request.home)
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("versions", lambda: _versions(request.versions)),
        ("home folder", lambda: _home(home, request.mark)),
        *([("MLflow", partial(_tracking, request.tracked, request.number))] if request.tracked else ()),
        ("memory", _memory),
        ("disk", lambda: _disk(home)),
        *((f"data {place.dataset}", partial(_data, place, home)) for place in request.data),
    ]
    if request.everything:
        checks.append(("data", lambda: _known_data(home, {place.dataset for place in request.data})))
    if request.everything or request.gpus:
        checks.append(("devices", lambda: _devices(request.gpus)))
    return [finding for name, check in checks for finding in guarded(name, check)]


def guarded(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """A check's findings; what it stumbles over is one."""
    try:
        return list(check())
    except OrchestratorError as error:
        return [Finding(name, State.BROKEN, error.message, error.hint or "")]
    except Exception as error:  # whatever a library raises: the other checks are worth knowing, too
        return [Finding(name, State.BROKEN, f"{type(error).__name__}: {first_line(error)}")]


def _versions(asked: Mapping[str, str]) -> Iterable[Finding]:
    here = versions()
    unlike = {
        name: f"{name} {here[name]} instead of {wanted}" for name, wanted in asked.items() if here[name] != wanted
    }
    if not unlike:
        yield Finding("versions", State.OK, f"torch {here['torch']}, ray {here['ray']}, Python {here['Python']}")
        return
    state = State.WARNING if set(unlike) <= set(ALIKE) else State.BROKEN
    advice = "install the same everywhere; `orchestrator submit` sends the orchestrator's code itself"
    yield Finding("versions", state, ", ".join(unlike.values()), advice)


def _home(home: Home, mark: str | None) -> Iterable[Finding]:
    """Whether what one machine writes another reads, and locks hold."""
    if home.remote:
        yield _store(home, home.remote, mark)
        return
    if mark is not None and not (home.path / mark).is_file():
        found = f"{home.path} is not the folder that the driver writes to: its mark is not there"
        yield Finding("home folder", State.BROKEN, found, "mount one folder on all nodes, and name it with --home")
        return
    before = home.path.exists()
    # Doctors leave nothing behind, not even an empty folder.
    place = home.path if before else next(path for path in home.path.parents if path.exists())
    text = uuid.uuid4().hex
    try:
        with tempfile.TemporaryDirectory(prefix=".check-", dir=place) as folder:
            file = Path(folder) / "written"
            file.write_text(text)
            with FileLock(Path(folder) / "lock", timeout=5):
                same = file.read_text() == text
    except OSError as error:
        found = f"cannot write to {place}: {error.strerror or error}"
        yield Finding("home folder", State.BROKEN, found, "choose another with --home or ORCHESTRATOR_HOME")
        return
    if not same:
        yield Finding("home folder", State.BROKEN, f"{place} does not give back what is written to it")
        return
    told = "written, locked and read back" if before else "will be made; the folder above it can be written to"
    yield Finding("home folder", State.OK, f"{home.path}: {told}")


def _store(home: Home, remote: Remote, mark: str | None) -> Finding:
    if mark is not None and remote.entry(home.path / mark) is None:
        advice = "see AWS_ENDPOINT_URL and AWS_PROFILE, which are to be the same everywhere"
        return Finding("home folder", State.BROKEN, f"{home}: what the driver has written is not there", advice)
    path, text = home.path / f".check-{uuid.uuid4().hex}", uuid.uuid4().bytes
    try:
        remote.write(path, text)
        same = remote.read(path) == text
    finally:
        remote.remove(path)
    if not same:
        return Finding("home folder", State.BROKEN, f"{home} does not give back what is written to it")
    return Finding("home folder", State.OK, f"{home}: written and read back")


def _tracking(tracked: Tracked, number: int) -> Iterable[Finding]:
    """Whether a server of MLflow keeps what is written from here."""
    begin = time.monotonic()
    try:
        uri = tracked.server
        if uri is None:
            return
        from orchestrator.tracking.mlflow_store import try_out

        try_out(uri, tracked.experiment, f"check from {platform.node()}, {number}")
    except OrchestratorError as error:
        advice = "trials run, as the driver alone records; but a driver could not go on here"
        yield Finding("MLflow", State.WARNING, error.message, "; ".join(filter(None, (error.hint, advice))))
        return
    told = f"written and read back in {time.monotonic() - begin:.1f} s: {redacted(uri)}"
    yield Finding("MLflow", State.OK, told)


def _memory() -> Iterable[Finding]:
    free = _free_memory()
    if free is None:
        return
    state = State.OK if free >= LOW_MEMORY else State.WARNING if free >= NO_MEMORY else State.BROKEN
    advice = "" if state is State.OK else "end what else runs, or lower resources.max_concurrent_trials"
    yield Finding("memory", state, f"{free / 1e9:.1f} GB are free", advice)


def _free_memory() -> int | None:
    """Bytes, within a container's limit; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        stat = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return free
    # Files that are cached count as used, and are dropped when memory is needed.
    return min(free or limit, limit - used + int(stat.get("inactive_file", 0)))


def _disk(home: Home) -> Iterable[Finding]:
    """Of the home folder, and of where Ray puts what does not fit into memory."""
    places = {"the home folder": home.path, "Ray's files": Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())}
    for name, path in places.items():
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        usage = shutil.disk_usage(there)
        state, advice = State.OK, ""
        if usage.free < LOW_DISK or usage.free < 0.05 * usage.total:
            state, advice = State.WARNING, "free some: Ray takes no more objects where a disk is 95 % full"
        if usage.free < MIN_FREE_BYTES:
            state = State.BROKEN
        yield Finding("disk", state, f"{usage.free / 1e9:.0f} GB are free for {name}, {path}", advice)


def _data(place: DataPlace, home: Home) -> Iterable[Finding]:
    """Whether a data set's files are there; reading them is left to the trials."""
    from orchestrator.data.finding import find_dataset

    name = f"data {place.dataset}"
    if (uri := remote_root(place.root)) is not None:
        yield Finding(name, State.OK, f"{len(files_at(uri))} files in {uri.partition('?')[0]}")
        return
    root = None if place.root is None else location(place.root, "data.root")
    try:
        found = find_dataset(place.dataset, root, home.cache)
    except DataError as error:
        if not place.download:
            raise
        yield Finding(name, State.OK, f"will be downloaded ({error.message})")
        return
    yield Finding(name, State.OK, str(found or "comes with a package"))


def _known_data(home: Home, besides: Iterable[str]) -> Iterable[Finding]:
    """Published data sets where a spec without data.root would look for them."""
    from orchestrator.data.finding import PUBLISHED_SETS, find_dataset

    absent = []
    for name in PUBLISHED_SETS:
        if name not in besides:
            try:
                yield Finding(f"data {name}", State.OK, str(find_dataset(name, None, home.cache)))
            except DataError:
                absent.append(name)
    if absent:
        advice = "a spec names their folder as data.root, or has them fetched by data.download; see docs/data.md"
        yield Finding("data", State.ABSENT, f"{', '.join(absent)}: not where they are usual", advice)


def _devices(gpus: float) -> Iterable[Finding]:
    """What computes, and in which precision; PyTorch is loaded for it."""
    machine = this_machine()
    import torch

    from orchestrator.models import LARGE
    from orchestrator.training.precision import resolve_precision

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cpus = f"{machine.cpus:g} CPUs"
    if count:
        names = ", ".join(dict.fromkeys(torch.cuda.get_device_name(number) for number in range(count)))
        yield Finding("devices", State.OK, f"{cpus}, {count} GPUs ({names})")
    elif machine.gpus or gpus:
        there = f"{machine.gpus:g} GPUs, and" if machine.gpus else "no GPU:"
        advice = "install NVIDIA's driver, and PyTorch's build for its version of CUDA"
        yield Finding("devices", State.BROKEN, f"{cpus}, {there} PyTorch {torch.__version__} sees none", advice)
    else:
        yield Finding("devices", State.OK, f"{cpus}, no GPU")
    device = torch.device("cuda" if count else "cpu")
    chosen: str
    chosen, why = resolve_precision("auto", device, torch.nn.Identity(), LARGE)
    if chosen == "bf16" and not count:
        chosen += f" for networks from {LARGE / 1e6:g} million multiply-adds an image"
    yield Finding("precision", State.OK, f"auto is {chosen}: {why.removeprefix('auto: ').partition(', and')[0]}")


def of_node(findings: Iterable[Finding], node: str) -> list[Finding]:
    """The findings, as a node's."""
    return [replace(finding, node=node) for finding in findings]
