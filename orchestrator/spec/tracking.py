"""`tracking`: where runs are recorded."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from orchestrator.passwords import holds_password
from orchestrator.registry import nearest
from orchestrator.spec.base import Section

_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9.-]*)(?:\+[A-Za-z0-9_]+)?:(?P<rest>.*)", re.DOTALL)


def without_password(uri: str) -> str:
    """Refuse a password that stands in the URI: specs are kept with their experiments, and shown with their runs."""
    if not holds_password(uri):
        return uri
    scheme = uri.partition(":")[0]
    remedy = (
        "leave user and password out, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        if scheme.startswith("http")
        else "write ${env:NAME} for it, such as postgresql://user:${env:PGPASSWORD}@host/db, and set that variable"
    )
    raise _refused(scheme, f"holds a password, which everyone would see who sees the experiment: {remedy}")


def _tracking_uri(uri: str) -> str:
    """Take what MLflow can connect to; where the scheme is in the environment, it is MLflow that tells."""
    match = _URI.fullmatch(uri)
    scheme, rest = (match["scheme"], match["rest"]) if match else ("", "")
    if uri == "databricks" or uri.startswith("${env:"):
        return uri
    if scheme == "sqlite" and not rest.startswith("///"):
        raise _refused(scheme, "must be sqlite:///FILE, of three slashes and of four before a path from the root")
    if scheme in _SCHEMES and not re.match("//.", rest):
        raise _refused(scheme, f"must be {scheme}://, followed by where it is")
    if scheme in _SCHEMES or (scheme and metadata.entry_points(group="mlflow.tracking_store", name=scheme)):
        return uri
    if scheme in ("", "file"):
        raise _refused(scheme, "MLflow does not record in plain folders any more; use sqlite:///FILE or a server")
    if re.match(r"[0-9]+(/|$)", rest):
        raise _refused(scheme, f"has no scheme; did you mean 'http://{uri}'?")
    close = nearest(scheme.lower(), _SCHEMES)
    hint = f"did you mean {close!r}? " if close else ""
    raise _refused(scheme, f"is not a scheme that MLflow knows; {hint}known: {', '.join(_SCHEMES)}")


def _refused(scheme: str, rule: str) -> PydanticCustomError:
    """The error tells the scheme alone, as the rest may hold a password."""
    return PydanticCustomError("rule", "{rule}", {"rule": rule, "value": scheme or None})


class TrackingSpec(Section):
    """MLflow's location."""

    uri: Annotated[str, AfterValidator(_tracking_uri), AfterValidator(without_password)] | None = Field(
        None,
        description="MLflow tracking URI, such as sqlite:///mlflow.db or http://host:5000; may use ${env:NAME}. "
        "Unset: MLFLOW_TRACKING_URI, else sqlite in the home folder.",
    )
    experiment: str | None = Field(None, description="MLflow experiment; unset: the spec's name.")
    register_models: bool = Field(
        True,
        description="Log each variant's best student as an MLflow model, and register it; false uploads no weights.",
    )
