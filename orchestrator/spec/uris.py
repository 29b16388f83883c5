"""URIs of object stores and other file systems, where a spec or an option takes them in the place of a path."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from orchestrator.errors import UsageError

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.*", re.DOTALL)
_SECRET = re.compile(r"key|secret|token|passw|credential|sas|sig", re.IGNORECASE)


def is_uri(text: str) -> bool:
    """Whether a text names a place by its scheme, such as s3://bucket/prefix, and not by a path."""
    return _URI.fullmatch(text) is not None


def refuse_secrets(uri: str, field: str) -> None:
    """Raise `UsageError`, which tells none of it, where a URI holds a user, password or key.

    It would end up in specs, journals, logs and messages.
    """
    try:
        parts = urlsplit(uri)
        holds = "@" in parts.netloc or any(_SECRET.search(name) for name, _ in parse_qsl(parts.query))
    except ValueError:
        raise UsageError(f"{field}: is not a URI that can be read", hint="such as s3://bucket/folder") from None
    if holds:
        raise UsageError(
            f"{field}: a URI holds no credentials",
            hint="give them by the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        )
