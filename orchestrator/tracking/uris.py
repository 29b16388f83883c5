"""What is shown of tracking URIs: addresses of pages, and specs without passwords."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from orchestrator.passwords import holds_password, redacted


def experiment_page(server: str, experiment_id: str) -> str:
    """The address of an experiment's runs on an MLflow server, in its view of model training.

    Where an address does not say so, MLflow opens the kind of page that whoever looks has chosen last, at first that of
    prompts and traces; whatever kind the experiment has.
    """
    return f"{redacted(server).rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def without_passwords(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec's content as everyone may see it who sees its runs; a variable that it names is no secret."""
    content = copy.deepcopy(dict(spec))
    for section in (content.get("tracking"), content.get("search", {}).get("warm_start")):
        if section and section.get("uri") and holds_password(section["uri"]):
            section["uri"] = redacted(section["uri"])
    return content
