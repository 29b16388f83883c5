"""The documentation's rule by which a bucket forgets teachers' logits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import boto3

from orchestrator.store.home import Home

TEXT = (Path(__file__).parents[2] / "docs" / "storage.md").read_text()


def test_the_rule_that_is_documented_removes_logits_and_nothing_else(s3: str, s3_server: str) -> None:
    (block,) = re.findall(r'^{"Rules".*}$', TEXT, re.MULTILINE)
    client = boto3.client("s3", endpoint_url=s3_server)
    bucket = s3.removeprefix("s3://")
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=json.loads(block))
    (rule,) = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    home = Home("s3://lab/distillation")
    assert home.remote is not None
    assert f"s3://lab/{rule['Filter']['Prefix']}" == f"{home.remote.uri_of(home.teacher_logits)}/"
    assert rule["Status"] == "Enabled"
    assert f"{home.remote.uri_of(home.teacher_logits)}/" in TEXT
