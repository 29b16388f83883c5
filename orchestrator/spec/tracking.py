"""`tracking`: where runs are recorded."""

from __future__ import annotations

from pydantic import Field

from orchestrator.spec.base import Section


class TrackingSpec(Section):
    """MLflow's location."""

    uri: str | None = Field(
        None,
        description="MLflow tracking URI; may use ${env:NAME}. "
        "Unset: MLFLOW_TRACKING_URI, else sqlite in the home folder.",
    )
    experiment: str | None = Field(None, description="MLflow experiment; unset: the spec's name.")
