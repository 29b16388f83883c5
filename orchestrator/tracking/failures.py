"""Failed calls to a store: why, in one line, and whether it is worth trying again."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from http.client import responses

import requests

from orchestrator.errors import TrackingError, first_line
from orchestrator.passwords import redacted, without_secrets

PERMANENT = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "PERMISSION_DENIED",
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
}
"""MLflow's error codes for what it refuses, however often it is asked."""
MAX_LENGTH = 200
"""Characters of a cause: some errors quote a whole page."""
_ANSWERS = re.compile(r"failed with error code (\d{3})|too many (\d{3}) error responses")


def may_pass(error: Exception) -> bool:
    """Whether an error may be gone when the call is repeated."""
    code = getattr(error, "error_code", None)
    if code is not None:
        return code not in PERMANENT
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    return isinstance(error, (ConnectionError, TimeoutError, requests.RequestException))


def unusable(uri: str, error: Exception) -> TrackingError:
    """The error of a store that cannot be worked with."""
    hint = "check tracking.uri (or MLFLOW_TRACKING_URI)"
    if (code := _code(error)) == 401:
        hint += ", and the account in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    elif code == 403:
        hint += (
            "; the account lacks the rights: where the experiment there is another's, name one of your own with "
            "tracking.experiment; or the server may not be called by this name (its --allowed-hosts)"
        )
    elif uri.startswith("http"):
        hint += ", and that the server runs"
    return TrackingError(f"MLflow at {redacted(uri)} cannot be used: {cause(error, uri)}", hint=hint)


def cause(error: BaseException, uri: str) -> str:
    """Why a call failed, without what libraries wrap around it and without the URI's secrets."""
    text = without_secrets(_answer(error) or _origin(error), uri)
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 3]}..."


def _answer(error: BaseException) -> str | None:
    """What a server answered, if it did."""
    if "not in a valid JSON format" in str(error):
        return "what answers there is not MLflow"
    code = _code(error)
    return f"the server answered {code} {responses.get(code, '')}".rstrip() if code else None


def _code(error: BaseException) -> int | None:
    """The status code of an answer, if there was one."""
    match = _ANSWERS.search(str(error))
    return int(match[1] or match[2]) if match else None


def _origin(error: BaseException) -> str:
    """The error that the system or the database gave, else the text of the error itself."""
    for inner in reversed(list(_chain(error))):
        if isinstance(inner, socket.gaierror):
            return "there is no host of that name"
        if type(inner) is TimeoutError:
            return "no answer in time"
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {inner.verify_message}"
        if isinstance(inner, requests.RequestException):
            continue
        if isinstance(inner, OSError):
            where = f": {inner.filename}" if inner.filename else ""
            return f"{inner.strerror}{where}" if inner.strerror else first_line(inner)
        if isinstance(of_database := getattr(inner, "orig", None), Exception):
            return first_line(of_database)
    return first_line(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those it came from; urllib3 keeps some among its arguments alone."""
    while error is not None:
        yield error
        inner = next((argument for argument in reversed(error.args) if isinstance(argument, BaseException)), None)
        error = error.__cause__ or error.__context__ or inner
