"""Addresses of pages on MLflow's servers."""

from __future__ import annotations

from orchestrator.passwords import redacted


def experiment_page(server: str, experiment_id: str) -> str:
    """The address of an experiment's runs on an MLflow server, in its view of model training.

    Where an address does not say so, MLflow opens the kind of page that whoever looks has chosen last, at first that of
    prompts and traces; whatever kind the experiment has.
    """
    return f"{redacted(server).rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
