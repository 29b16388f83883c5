"""The spec: Pydantic models of one experiment, and their loading from YAML."""

from orchestrator.spec.experiment import ExperimentSpec, RunSpec
from orchestrator.spec.loading import load_spec

__all__ = ["ExperimentSpec", "RunSpec", "load_spec"]
