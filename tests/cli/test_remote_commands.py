"""Commands for a cluster, as far as they go without one."""

from __future__ import annotations

import pytest

from orchestrator.cli.remote import home_there
from orchestrator.errors import UsageError


def test_a_home_folder_there_begins_at_its_root_or_with_its_user() -> None:
    assert [home_there(path) for path in ("/shared/home", "~/home", "s3://bucket")] == [
        "/shared/home",
        "~/home",
        "s3://bucket",
    ]
    for path in ("home", "./home"):
        with pytest.raises(UsageError, match="must begin with / or ~"):
            home_there(path)
