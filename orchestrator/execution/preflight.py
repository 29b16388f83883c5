"""Every node of a cluster, looked at by a task of its own before the first trial."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from orchestrator.errors import OrchestratorError, first_line
from orchestrator.execution.checks import DataPlace, Finding, Request, State, Tracked, examine, of_node, versions
from orchestrator.machine import Machine
from orchestrator.search.plan import Plan
from orchestrator.spec.experiment import ExperimentSpec
from orchestrator.store.home import Home

PATIENCE_S = 120.0
"""Within which a node has to answer: the first task on it starts a process and loads PyTorch."""


class PreflightError(OrchestratorError):
    """Nodes that cannot run the experiment; the message is a table of what is wrong where, warnings last."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = sorted(findings, key=lambda finding: finding.state is not State.BROKEN)
        nodes = len({finding.node for finding in findings if finding.state is State.BROKEN})
        rows = [("node", "what", "is wrong; what to do")]
        for finding in self.findings:
            told = "; ".join(filter(None, (finding.found, finding.advice)))
            rows.append((finding.node, finding.check, told if finding.state is State.BROKEN else f"warning: {told}"))
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        table = [f"  {node:<{widths[0]}}  {check:<{widths[1]}}  {what}" for node, check, what in rows]
        count = "1 node" if nodes == 1 else f"{nodes} nodes"
        super().__init__("\n".join([f"{count} of the cluster cannot run this experiment", *table]))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.findings,)


def request_for(plan: Plan, home: Home) -> Request:
    """What the trials of a plan need on a node."""
    runs = [arm.variant.run for arm in plan.arms] + [teacher.run for teacher in plan.teachers.values()]
    data = dict.fromkeys(DataPlace(run.data.dataset, run.data.root, run.data.download) for run in runs)
    gpus, tracked = plan.spec.resources.gpus_per_worker, tracked_by(plan.spec)
    return Request(str(home), versions(), tuple(data), gpus, tracked=tracked)


def tracked_by(spec: ExperimentSpec | None) -> Tracked | None:
    """Where an experiment, or any that does not say, is tracked; None where that is the home folder's own store."""
    uri = spec.tracking.uri if spec else None
    if uri is None and os.environ.get("MLFLOW_TRACKING_URI"):
        uri = "${env:MLFLOW_TRACKING_URI}"
    return None if uri is None else Tracked(uri, spec.tracking.experiment or spec.name if spec else "")


def preflight(plan: Plan, home: Home, check: Callable[[], None]) -> list[Finding]:
    """Look at the nodes of the cluster that Ray has joined, and that have a place for a trial's worker.

    `check` is called now and then, and may raise. Returns what is worth a warning; raises `PreflightError`.
    """
    resources = plan.spec.resources
    need = resources.cpus_per_worker, resources.gpus_per_worker, resources.custom_resources
    findings = examine_nodes(request_for(plan, home), home, check, lambda node: node.workers(*need) > 0)
    wrong = [finding for finding in findings if finding.state in (State.BROKEN, State.WARNING)]
    if any(finding.state is State.BROKEN for finding in wrong):
        raise PreflightError(wrong)
    return wrong


def examine_nodes(
    request: Request,
    home: Home,
    check: Callable[[], None] = lambda: None,
    wanted: Callable[[Machine], bool] = lambda node: True,
) -> list[Finding]:
    """What every wanted node finds, all at the same time."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    mark = home.path / f".nodes-{uuid.uuid4().hex[:8]}"
    made = [folder for folder in mark.parents if not folder.exists()]
    if home.remote:
        home.remote.write(mark, b"")
    else:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text("")
    task = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(_examine_node)
    asked = replace(request, mark=mark.name)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"] and wanted(_machine(node))]
        tasks = {}
        for number, (node, name) in enumerate(zip(nodes, _names(nodes), strict=True)):
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            tasks[task.options(scheduling_strategy=there).remote(replace(asked, number=number))] = name
        end = time.monotonic() + PATIENCE_S
        waiting = list(tasks)
        while waiting and time.monotonic() < end:
            check()
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=0.5)
        findings = []
        late = f"has not answered within {PATIENCE_S:.0f} s"
        for answer, name in tasks.items():
            findings += of_node(_silent(late) if answer in waiting else _answer(answer), name)
    finally:
        if home.remote:
            home.remote.remove(mark)
        else:
            mark.unlink(missing_ok=True)
        for folder in made:
            # Something else may have come to need it.
            with suppress(OSError):
                folder.rmdir()
    return findings


def _examine_node(request: Request) -> list[Finding]:
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        # Ray hides GPUs from what has reserved none.
        del os.environ["CUDA_VISIBLE_DEVICES"]
    return examine(request)


def _answer(answer: Any) -> list[Finding]:
    import ray
    from ray.exceptions import RayError, RayTaskError, RuntimeEnvSetupError

    try:
        return list(ray.get(answer))
    except (RayTaskError, RuntimeEnvSetupError) as error:
        lines = [line for line in str(error).strip().splitlines() if "Error" in line] or [first_line(error)]
        advice = "install this package on the node, or use `orchestrator submit`, which sends it"
        return [Finding("package", State.BROKEN, lines[-1].strip(), advice)]
    except RayError as error:
        # The node or the process on it has gone.
        return _silent(first_line(error))


def _silent(found: str) -> list[Finding]:
    return [Finding("node", State.BROKEN, found, "look at its load, and at Ray's log on it")]


def _machine(node: dict[str, Any]) -> Machine:
    has = node["Resources"]
    return Machine(cpus=has.get("CPU", 0), gpus=has.get("GPU", 0), custom=has)


def _names(nodes: Sequence[dict[str, Any]]) -> list[str]:
    """Addresses; with the beginning of Ray's id where several nodes have one."""
    addresses = [node["NodeManagerAddress"] for node in nodes]
    return [
        address if addresses.count(address) == 1 else f"{address} ({node['NodeID'][:6]})"
        for address, node in zip(addresses, nodes, strict=True)
    ]
