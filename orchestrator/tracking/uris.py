"""Tracking URIs, and addresses of pages, without what must not be shown."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

_PARAMETER = re.compile(r"([?&]password=)([^&#]+)")
"""How databases take a password besides."""


def experiment_page(server: str, experiment_id: str) -> str:
    """The address of an experiment's runs on an MLflow server, in its view of model training.

    Where an address does not say so, MLflow opens the kind of page that whoever looks has chosen last, at first that of
    prompts and traces; whatever kind the experiment has.
    """
    return f"{redacted(server).rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def redacted(uri: str) -> str:
    """The URI without a user and password."""
    scheme, separator, rest = uri.partition("://")
    return _PARAMETER.sub(r"\1***", f"{scheme}{separator}{rest.removeprefix(_credentials(uri))}")


def holds_password(uri: str) -> bool:
    """Whether a password stands in the URI itself, and not in a variable that it names as ${env:NAME}."""
    given = re.sub(r"\$\{env:\w+\}", "", uri)
    return re.search(":.*[^@]", _credentials(given)) is not None or _PARAMETER.search(given) is not None


def without_passwords(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec's content as everyone may see it who sees its runs; a variable that it names is no secret."""
    content = copy.deepcopy(dict(spec))
    for section in (content.get("tracking"), content.get("search", {}).get("warm_start")):
        if section and section.get("uri") and holds_password(section["uri"]):
            section["uri"] = redacted(section["uri"])
    return content


def _credentials(uri: str) -> str:
    """What stands before the host, "@" included; a slash ends it in web addresses, not in a database's."""
    scheme, _, rest = uri.partition("://")
    if scheme.startswith("http"):
        user, at, _ = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")
        return user + at
    match = re.match(r"[^:/@]*(:.*)?@", rest)
    return match[0] if match else ""


def without_secrets(text: str, uri: str) -> str:
    """`text`, such as an error's, without the user and password of `uri`."""
    secret = _credentials(uri)
    return text.replace(secret, "") if secret else text
