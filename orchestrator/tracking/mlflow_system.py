"""MLflow's system metrics of the driver's machine: processors, memory, disk, network and GPUs."""

from __future__ import annotations

import logging
import time

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from orchestrator import names


class SystemMetrics:
    """Samples of one machine, taken with MLflow's own monitors where they are asked for, so without a thread.

    MLflow's variables hold: MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false switches them off, and
    MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL is how many seconds lie between two (10). A run that has samples gets more.
    """

    def __init__(self, run_id: str, uri: str, client: MlflowClient) -> None:
        self._monitor: SystemMetricsMonitor | None = None
        if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get() or not MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.is_set():
            # It would tell everybody without a GPU that there is none.
            logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
            self._monitor = SystemMetricsMonitor(run_id, tracking_uri=uri)
        earlier = client.get_metric_history(run_id, f"{names.SYSTEM}/cpu_utilization_percentage")
        self._step = max((metric.step for metric in earlier), default=-1) + 1
        self._sampled_at = time.monotonic()

    def due(self) -> list[Metric]:
        """The machine's state, where the last one was told long enough ago."""
        now = time.monotonic()
        if self._monitor is None or now - self._sampled_at < self._monitor.sampling_interval:
            return []
        self._sampled_at = now
        self._monitor.collect_metrics()
        seen = self._monitor.aggregate_metrics()
        for monitor in self._monitor.monitors:
            monitor.clear_metrics()
        self._step += 1
        told_at = int(time.time() * 1000)
        return [Metric(f"{names.SYSTEM}/{name}", float(value), told_at, self._step - 1) for name, value in seen.items()]
