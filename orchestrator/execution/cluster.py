"""Starting or joining Ray, with its own output kept off the screen."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import OrchestratorError, first_line
from orchestrator.execution.interrupt import handlers_kept
from orchestrator.machine import Machine

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the old output is the one that verbose=0 silences
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # MLflow and our own files record what these would
    "TUNE_RESULT_BUFFER_LENGTH": "1000",  # short epochs are reported together, at most this long after:
    "TUNE_RESULT_BUFFER_MIN_TIME_S": "0.3",
    "TUNE_RESULT_BUFFER_MAX_TIME_S": "0.3",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # our journal is what is continued from
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # see execution.interrupt
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a lost node costs no more than the unfinished epoch
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "3600",
}
"""Ray reads these once, when it is imported or started."""
PLENTY = 1_000_000.0
"""Of each custom resource on a Ray of our own: these are names of a cluster's nodes, which a laptop has not."""


def quiet_settings() -> None:
    """Set Ray's environment, leaving what the user has set; before ray is imported."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        # Whoever gives a token wants it sent; Ray asks to be told so, too.
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def keep_keys() -> None:
    """Have Tune leave the driver's keys for object stores where they are; before trials are started.

    It would make them part of what Ray logs and shows of each trial's actor. Nodes have keys of their own.
    """
    from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE as SENT

    SENT.difference_update([name for name in SENT if name.startswith("AWS_")])


@contextmanager
def ray_session(address: str | None, machine: Machine, log: Path, custom: Iterable[str] = ()) -> Iterator[Machine]:
    """Run with Ray: one that is already initialised, the cluster at `address`, or a new local one.

    A new one has plenty of the `custom` resources. Yields what the cluster offers. Ray's log goes to `log`; where the
    logger "orchestrator" is for debugging, to stderr with all that workers print. Only a Ray that was started or joined
    here is left again.
    """
    quiet_settings()
    import ray

    verbose = logging.getLogger("orchestrator").isEnabledFor(logging.DEBUG)
    level = "INFO" if verbose else "WARNING"
    handler = logging.StreamHandler(sys.stderr) if verbose else logging.FileHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("ray")
    kept = logger.handlers
    own = not ray.is_initialized()
    try:
        if own:
            try:
                with handlers_kept():
                    if address is None:
                        ray.init(
                            address="local",
                            num_cpus=int(machine.cpus),
                            resources=dict.fromkeys(custom, PLENTY),
                            include_dashboard=False,
                            logging_level=level,
                            log_to_driver=verbose,
                        )
                    else:
                        _check_reachable(address)
                        ray.init(address=address, logging_level=level, log_to_driver=verbose)
            except (ConnectionError, OSError, ValueError, RuntimeError) as error:
                raise OrchestratorError(
                    f"Ray cannot be {'started' if address is None else f'joined at {address}'}: {first_line(error)}",
                    hint=f"details are in {log}"
                    + ("" if address is None else "; a cluster with tokens needs RAY_AUTH_MODE=token and its token"),
                ) from error
        logger.handlers = [handler]
        there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield Machine.cluster(Machine(cpus=node.get("CPU", 0), gpus=node.get("GPU", 0), custom=node) for node in there)
    finally:
        logger.handlers = kept
        if own:
            ray.shutdown()
        handler.close()


def _check_reachable(address: str) -> None:
    """Fail in seconds where nothing listens at host:port; Ray itself keeps trying for minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():
        with socket.create_connection((host, int(port)), timeout=5):
            pass
