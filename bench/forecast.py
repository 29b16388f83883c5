"""How near `plan --measure` comes to the run itself: the forecast, then the run, stage by stage, as a ratio.

    python bench/forecast.py                        # the quickstart
    python bench/forecast.py specs/schemes.yaml --set search.num_samples=4

--quick cuts the search to two trials and one seed: does it run, not how near does it come.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from orchestrator.store.journal import Journal

QUICK = ["--set", "search.num_samples=2", "--set", "search.final_seeds=1"]


def command(home: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "--home", str(home), *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def stages(journal: Path) -> dict[str, float]:
    """Seconds from the first begin to the last end of each stage, and from the session's begin to the end of all."""
    events = Journal(journal).read()
    (begin,) = (event["started"] for event in events if event["event"] == "session")
    phase = {event["trial"]["id"]: event["trial"]["phase"] for event in events if event["event"] == "created"}
    spans: dict[str, list[float]] = {}
    for event in events:
        if event["event"] in ("created", "ended"):
            name = event["trial"]["id"] if event["event"] == "created" else event["id"]
            spans.setdefault(phase[name], []).append(event["at"])
    found = {name: max(times) - min(times) for name, times in spans.items()}
    return {**found, "together": max(max(times) for times in spans.values()) - begin}


def compare(spec: Path, options: list[str]) -> list[tuple[str, dict[str, float], float]]:
    """Of each stage: what was forecast, and what it took."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        told: dict[str, Any] = json.loads(command(home, "plan", str(spec), "--measure", "--format", "json", *options))[
            "forecast"
        ]
        command(home, "run", str(spec), *options)
        (journal,) = home.glob("experiments/*/journal.jsonl")
        took = stages(journal)
    spans = {stage["stage"]: stage["seconds"] for stage in told["stages"]} | {"together": told["seconds"]}
    return [(name, span, took[name]) for name, span in spans.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", nargs="?", type=Path, default=Path(__file__).parents[1] / "specs" / "quickstart.yaml")
    parser.add_argument("--set", action="append", default=[], help="override a value of the spec")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    options = [word for text in arguments.set for word in ("--set", text)]
    print(f"{'stage':10} {'likely':>8} {'range':>17} {'took':>8}  took / likely")
    for name, span, took in compare(arguments.spec, [*options, *(QUICK if arguments.quick else [])]):
        low, likely, high = (span[case] for case in ("low", "likely", "high"))
        within = "" if low <= took <= high else "  outside the range"
        print(f"{name:10} {likely:7.1f}s {low:7.1f} to {high:5.1f}s {took:7.1f}s  {took / likely:.2f}{within}")


if __name__ == "__main__":
    main()
