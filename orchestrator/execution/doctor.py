"""Everything that can be looked at without running an experiment: this installation, or a cluster's nodes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

import orchestrator
from orchestrator.environment import owner, version_of
from orchestrator.errors import OrchestratorError
from orchestrator.execution.checks import Finding, Request, State, examine, guarded, of_node, versions
from orchestrator.execution.cluster import ray_session
from orchestrator.execution.package import DISTRIBUTION
from orchestrator.execution.preflight import examine_nodes, request_for, tracked_by
from orchestrator.execution.runner import artifacts_of, tracking_uri
from orchestrator.machine import Machine, this_machine
from orchestrator.passwords import redacted
from orchestrator.search.plan import make_plan
from orchestrator.spec.base import expand_environment
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.store.home import Home

HERE = "this machine"


def diagnose(home: Home, log: Path, spec: ExperimentSpec | None = None, address: str | None = None) -> list[Finding]:
    """Look at this machine, or at every node of the Ray cluster at `address`; with a spec at what it needs, too.

    Ray's own output goes to `log`.
    """
    request = request_for(make_plan(spec), home) if spec else Request(str(home), versions(), tracked=tracked_by(None))
    request = replace(request, everything=True)
    findings = [
        *guarded("installation", _installation),
        *guarded("MLflow", lambda: _tracking(home, spec)),
        *(guarded("variables", lambda: _variables(spec)) if spec else []),
    ]
    if address is None:
        return [*findings, *examine(replace(request, tracked=None)), *guarded("Ray", lambda: _ray(log))]
    nodes = guarded("Ray", lambda: _cluster(address, request, home, log))
    return [*of_node(findings, HERE), *nodes]


def _cluster(address: str, request: Request, home: Home, log: Path) -> Iterator[Finding]:
    with ray_session(address, this_machine(), log) as cluster:
        yield Finding("Ray", State.OK, f"joined at {address}: {_nodes(cluster)}", node=HERE)
        yield from _nodes_of(request, home)


def _nodes_of(request: Request, home: Home) -> list[Finding]:
    if request.tracked is not None:
        from orchestrator.tracking.mlflow_store import place_to_try

        # Where there is no such place, what was found on this machine says why.
        with suppress(OrchestratorError):
            if server := request.tracked.server:
                with place_to_try(server, owner()) as place:
                    return examine_nodes(replace(request, tracked=replace(request.tracked, experiment=place)), home)
    return examine_nodes(replace(request, tracked=None), home)


def _nodes(cluster: Machine) -> str:
    count = len(cluster.nodes)
    return f"{count} node{'s' if count != 1 else ''}, {cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs"


def _installation() -> Iterable[Finding]:
    """Whether what this package needs is there, in a version that it can use and, in a checkout, was tested with."""
    try:
        needed = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        yield Finding("installation", State.WARNING, "not installed as a package, so that versions are not known")
        return
    tested = _tested_versions()
    missing, other = [], []
    for requirement in needed:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = version_of(requirement.name)
        if version == "not installed" or not requirement.specifier.contains(version, prereleases=True):
            missing.append(f"{requirement.name} is {version}, needed is {requirement.specifier or 'any'}")
        elif version != tested.get(requirement.name, version):
            other.append(f"{requirement.name} {version} (tested: {tested[requirement.name]})")
    if missing:
        yield Finding("installation", State.BROKEN, "; ".join(missing), "run `make setup`, or pip install them")
    elif other:
        advice = "run `make setup` for the tested ones"
        yield Finding("installation", State.WARNING, f"other versions than tested: {', '.join(other)}", advice)
    else:
        told = "in the tested versions" if tested else "in versions that will do"
        yield Finding("installation", State.OK, f"orchestrator {orchestrator.__version__}, and what it needs {told}")


def _tested_versions() -> dict[str, str]:
    """Of a checkout's constraints; none for an installed package."""
    file = Path(orchestrator.__file__).parents[1] / "constraints.txt"
    if not file.is_file():
        return {}
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", file.read_text(), re.MULTILINE))


def _variables(spec: ExperimentSpec) -> Iterator[Finding]:
    from orchestrator.execution.portable import needed_variables

    names = needed_variables(spec)
    for name in names:
        expand_environment(f"${{env:{name}}}", "the spec")
    if names:
        yield Finding("variables", State.OK, f"{', '.join(names)} are set")


def _tracking(home: Home, spec: ExperimentSpec | None) -> Iterator[Finding]:
    """Whether MLflow keeps a run, its metric and an artifact."""
    from orchestrator.tracking.mlflow_store import place_to_try, try_out

    uri, local = tracking_uri(spec, home)
    begin = time.monotonic()
    if local and not home.database.exists():
        with TemporaryDirectory(prefix="orchestrator-") as folder:
            new = Home(folder)
            with place_to_try(new.tracking_uri, owner(), new.artifacts) as experiment:
                try_out(new.tracking_uri, experiment)
        where = f"a new store; {redacted(uri)} will be made by the first run"
    else:
        with place_to_try(uri, owner(), artifacts_of(uri, home)) as experiment:
            try_out(uri, experiment)
        where = redacted(uri)
    yield Finding("MLflow", State.OK, f"written and read back in {time.monotonic() - begin:.1f} s: {where}")


def _ray(log: Path) -> Iterator[Finding]:
    """Whether a Ray of our own starts and runs something."""
    begin = time.monotonic()
    with ray_session(None, this_machine(), log) as machine:
        import ray

        started = time.monotonic() - begin
        ray.get(ray.remote(num_cpus=0)(_nothing).remote(), timeout=60)
    took = f"starts in {started:.1f} s, and a task took {time.monotonic() - begin - started:.1f} s"
    yield Finding("Ray", State.OK, f"{took}; {machine.cpus:g} CPUs, {machine.gpus:g} GPUs")


def _nothing() -> None:
    """What a task does that is to show that tasks run."""
