"""Requests and bytes that an experiment costs an object store, counted by an S3 server on this machine.

Three experiments with their home in a bucket, of the same small network: few short trials, more short trials, and few
long ones, that train for a minute (--quick: some seconds). Prints, by what is asked for:
  experiment  requests of one with no trial: those of the first without its trials'
  trial       requests of each further short trial
  minute      requests of each further minute that a trial trains, with a checkpoint an epoch
In S3's prices a PUT or LIST costs about ten times what a GET or HEAD does, and a DELETE nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from orchestrator import load_spec, run

SPEC: dict[str, Any] = {
    "name": "requests",
    "data": {"dataset": "digits", "train_samples": 200, "validation_fraction": 0.1, "augmentation": "none"},
    "student": {"model": "resnet8", "width": 0.25},
    "distillation": {"ce_weight": 1.0, "kd_weight": 0.0},
    "training": {"epochs": 1, "batch_size": 50, "checkpoint_interval_s": 0},
    "search": {
        "sampler": "random",
        "final_seeds": 0,
        "space": {"training.optimizer.lr": {"type": "loguniform", "low": 0.001, "high": 0.1}},
    },
    "resources": {"max_concurrent_trials": 1},
}
KINDS = ("PUT", "LIST", "GET", "HEAD", "DELETE")
PARTS = ("journal", "claim", "checkpoints", "metrics", "the rest")


class Counting:
    """An S3 server that counts what it is asked."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.bytes = 0
        """That have come in."""
        self._app = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        listed = method == "GET" and path.count("/") <= 2 and "list-type" in environ.get("QUERY_STRING", "")
        kind = "LIST" if listed else "DELETE" if "delete" in environ.get("QUERY_STRING", "") else method
        self.requests[kind, part_of(path + environ.get("QUERY_STRING", ""))] += 1
        sent = environ.get("HTTP_X_AMZ_DECODED_CONTENT_LENGTH") or environ.get("CONTENT_LENGTH")
        self.bytes += int(sent or 0)
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer


def part_of(path: str) -> str:
    """What a request is about."""
    for part, word in (
        ("journal", "journal"),
        ("claim", "drivers"),
        ("checkpoints", "checkpoint"),
        ("metrics", "metrics"),
    ):
        if word in path:
            return part
    return "the rest"


class Quiet(WSGIRequestHandler):
    """One that keeps connections, and no log."""

    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None: ...


def measured(
    server: Counting, home: str, trials: int, epochs: int, folder: Path
) -> tuple[Counter[tuple[str, str]], float]:
    """Requests of an experiment, and seconds of training of one of its trials."""
    changes = {"search.num_samples": trials, "training.epochs": epochs, "name": f"requests-{trials}-{epochs}"}
    spec = load_spec({**SPEC, "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"}}, overrides=changes)
    server.requests.clear()
    server.bytes = 0
    begin = time.monotonic()
    results = run(spec, home=home)
    if any(not record.status.has_result for record in results.records):
        raise SystemExit("a trial has failed")
    seconds = sum(record.seconds for record in results.records) / trials
    print(f"{trials} trials of {epochs} epochs: {sum(server.requests.values())} requests, {server.bytes / 1e3:.0f} kB "
          f"written, {time.monotonic() - begin:.0f} s", flush=True)  # fmt: skip
    return server.requests.copy(), seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="fewer trials and shorter ones")
    quick = arguments.parse_args().quick
    few, more, long_s = (1, 3, 6.0) if quick else (2, 12, 60.0)
    server = Counting()
    http = make_server("127.0.0.1", 0, server, threaded=True, request_handler=Quiet)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{http.server_port}"
    with tempfile.TemporaryDirectory(prefix="orchestrator-") as name:
        os.environ |= {
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "ORCHESTRATOR_CACHE": f"{name}/cache",
        }
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"), timeout=10).close()
        first, short_s = measured(server, "s3://bucket/home", few, 5, Path(name))
        second, _ = measured(server, "s3://bucket/home", more, 5, Path(name))
        epochs = round(5 * long_s / short_s)
        third, third_s = measured(server, "s3://bucket/home", few, epochs, Path(name))
    http.shutdown()
    trial = {key: (second[key] - first[key]) / (more - few) for key in {*first, *second}}
    minute = {key: 60 * (third[key] - first[key]) / few / (third_s - short_s) for key in {*first, *third}}
    alone = {key: first[key] - few * trial.get(key, 0) for key in first}
    for what, counts in (("experiment", alone), ("trial", trial), ("minute of a trial", minute)):
        print(f"\n{what:<18}" + "".join(f"{kind:>8}" for kind in KINDS))
        for part in PARTS:
            print(f"  {part:<16}" + "".join(f"{counts.get((kind, part), 0):>8.1f}" for kind in KINDS))
        sums = [sum(count for (kind, _), count in counts.items() if kind == wanted) for wanted in KINDS]
        print(f"  {'all':<16}" + "".join(f"{count:>8.1f}" for count in sums))


if __name__ == "__main__":
    main()
