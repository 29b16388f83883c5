"""Requests to the dashboard of a Ray cluster; its errors as ours."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from typing import Any

from orchestrator.errors import OrchestratorError, first_line
from orchestrator.passwords import redacted, without_secrets

TIMEOUT_S = 30.0
"""After which a request counts as lost."""


class LostError(OrchestratorError):
    """The cluster did not answer; it may, later."""


def client(address: str) -> Any:
    """Ray's own client, which looks for the token where Ray does."""
    from ray.job_submission import JobSubmissionClient

    # It would tell of each package that it uploads.
    logging.getLogger("ray").setLevel("WARNING")
    logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel("WARNING")

    class Client(JobSubmissionClient):
        def _do_request(self, *given: Any, **named: Any) -> Any:
            # Ray's own would wait for ever where a network is cut.
            return super()._do_request(*given, **{"timeout": TIMEOUT_S, **named})

    # Ray takes these even where an address is given.
    kept = {name: os.environ.pop(name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS") if name in os.environ}
    try:
        return Client(address)
    finally:
        os.environ.update(kept)


def asked(address: str, ask: Callable[[], Any]) -> Any:
    """What the cluster answers; its errors as ours."""
    from ray.exceptions import AuthenticationError

    shown = redacted(address)

    def first(error: Exception) -> str:
        return without_secrets(first_line(error), address)

    try:
        return ask()
    except AuthenticationError as error:
        raise OrchestratorError(
            f"{shown} does not let us in: {first(error)}",
            hint="set RAY_AUTH_TOKEN_PATH to the file that holds the cluster's token",
        ) from None
    except OSError as error:
        # Those of the HTTP library are among them.
        raise LostError(
            f"{shown} does not answer: {first(error)}", hint="is it the address of the cluster's dashboard?"
        ) from None
    except (RuntimeError, ValueError) as error:
        status = re.search(r"status code (\d+): (.*)", str(error), re.DOTALL)
        if status is None:
            raise OrchestratorError(f"{shown}: {first(error)}") from None
        told = (status[2].strip().splitlines() or [""])[-1]
        if int(status[1]) == 404:
            raise OrchestratorError(
                f"{shown} no longer knows the job: {told}",
                hint="a cluster that was started anew forgets its jobs; submit again, and the experiment goes on",
            ) from None
        kind = LostError if int(status[1]) in (502, 503, 504) or "agent" in told.lower() else OrchestratorError
        raise kind(f"{shown} refuses with status {status[1]}: {told}") from None
