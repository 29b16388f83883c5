"""URIs without the users and passwords that they may hold."""

from __future__ import annotations

import re

_PARAMETER = re.compile(r"(?i)([?&;](?:ssl)?pass(?:word|wd)?=|pwd(?:=|%3d))((?:(?!%3b)[^&#;])+)")
"""How databases take a password besides."""


def redacted(uri: str) -> str:
    """The URI without a user and password."""
    scheme, separator, rest = uri.partition("://")
    return _PARAMETER.sub(r"\1***", f"{scheme}{separator}{rest.removeprefix(_credentials(uri))}")


def without_secrets(text: str, uri: str) -> str:
    """`text`, such as an error's, without the user and password of `uri`."""
    secret = _credentials(uri)
    return text.replace(secret, "") if secret else text


def holds_password(uri: str) -> bool:
    """Whether a password stands in the URI itself, and not in a variable that it names as ${env:NAME}."""
    given = re.sub(r"\$\{env:\w+\}", "", uri)
    return re.search(":.*[^@]", _credentials(given)) is not None or _PARAMETER.search(given) is not None


def _credentials(uri: str) -> str:
    """What stands before the host, "@" included; a slash ends it in web addresses, not in a database's."""
    scheme, _, rest = uri.partition("://")
    if scheme.startswith("http"):
        user, at, _ = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")
        return user + at
    match = re.match(r"[^:/@]*(:.*)?@", rest)
    return match[0] if match else ""
