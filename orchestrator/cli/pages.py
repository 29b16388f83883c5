"""What the help of each command ends with: examples, exit codes and the environment variables that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

EXIT_CODES = {
    "0": "done",
    "1": "the run, or what it needs, has failed",
    "2": "a bad spec, or wrong usage",
    "130": "interrupted, with everything saved",
}
VARIABLES = {
    "ORCHESTRATOR_HOME": "the home folder, where --home does not say",
    "ORCHESTRATOR_CACHE": "folder for what is brought from object stores; default ~/.cache/orchestrator",
    "ORCHESTRATOR_OWNER": "whose experiments these are; default: this user",
    "MLFLOW_TRACKING_URI": "where runs are recorded, where the spec's tracking.uri does not say",
    "MLFLOW_TRACKING_USERNAME": "and MLFLOW_TRACKING_PASSWORD: of an MLflow server with accounts",
    "RAY_AUTH_TOKEN_PATH": "file of the token of a Ray cluster; or RAY_AUTH_TOKEN, the token",
    "CUDA_VISIBLE_DEVICES": "the GPUs that are used",
    "NO_COLOR": "set: no colours; FORCE_COLOR set: colours in files and pipes",
    "COLUMNS": "width of what is printed to files and pipes",
}
COMMON = ("ORCHESTRATOR_HOME", "NO_COLOR", "COLUMNS")
FILES = {
    "./.orchestrator": "the home folder, by default",
    "HOME/experiments/ID": "an experiment: its journal, its spec in force, ray.log, trials",
    "HOME/teachers": "weights of trained teachers, found again by later experiments",
    "HOME/mlflow.db": "MLflow's store, unless another one is named",
}
TRACKING = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME")
CLUSTER = ("RAY_AUTH_TOKEN_PATH",)


@dataclass(frozen=True)
class Page:
    """The end of one command's help."""

    examples: tuple[str, ...]
    variables: tuple[str, ...] = ()
    codes: Mapping[str, str] = field(default_factory=dict)
    """Exit codes that mean something of its own."""


PAGES = {
    "validate": Page(
        (
            "orchestrator validate specs/quickstart.yaml",
            "orchestrator validate my.yaml --set search.num_samples=4",
            "orchestrator validate my.yaml --format json",
        ),
        codes={"1": "never", "2": "the spec is wrong; every problem is told"},
    ),
    "plan": Page(
        (
            "orchestrator plan specs/quickstart.yaml",
            "orchestrator plan my.yaml --measure",
            "orchestrator plan my.yaml --set budget.time_s=3600 --format json",
        ),
        ("CUDA_VISIBLE_DEVICES",),
    ),
    "run": Page(
        (
            "orchestrator run specs/quickstart.yaml",
            "orchestrator run my.yaml --set search.num_samples=4 --home ~/runs",
            "orchestrator run my.yaml --quiet > results.txt",
            "orchestrator run my.yaml --format json-lines | my-dashboard",
            "orchestrator run my.yaml --address 10.0.0.1:6379",
        ),
        (*TRACKING, *CLUSTER, "CUDA_VISIBLE_DEVICES", "ORCHESTRATOR_CACHE", "ORCHESTRATOR_OWNER"),
        {"1": "some variant has no result"},
    ),
    "submit": Page(
        (
            "orchestrator submit my.yaml --address http://10.0.0.1:8265",
            "orchestrator submit my.yaml --address URL --home /shared/home --follow",
            "orchestrator submit my.yaml --address URL --wait --format json",
        ),
        (*CLUSTER, "ORCHESTRATOR_OWNER"),
        {"0": "submitted; with --follow or --wait also done", "1": "refused; with --follow or --wait the run failed"},
    ),
    "results": Page(
        (
            "orchestrator results",
            "orchestrator results quickstart --reference alone",
            "orchestrator results quickstart --pareto test/acc1,student.parameters",
            "orchestrator results quickstart --format csv --rows variants > out.csv",
        ),
        CLUSTER,
    ),
    "report": Page(
        (
            "orchestrator report quickstart",
            "orchestrator report quickstart --output report.html",
            "orchestrator report quickstart --format md --output - | less",
        )
    ),
    "compare": Page(
        (
            "orchestrator compare quickstart fashion-mnist",
            "orchestrator compare mine ../colleague/.orchestrator/theirs",
            "orchestrator compare a b --reference a/kd",
            "orchestrator compare a b --format markdown > comparison.md",
        ),
        CLUSTER,
    ),
    "export": Page(
        (
            "orchestrator export quickstart",
            "orchestrator export quickstart --variant kd --seed 3 --output kd",
            "orchestrator export quickstart --format onnx --format safetensors",
        ),
        codes={
            "1": "a student's file is missing or damaged, or what was written does not answer as the student does",
            "2": "wrong usage, or no final run has left a student",
        },
    ),
    "predict": Page(
        (
            "orchestrator predict quickstart-ad266033-kd photos/ --top 1",
            "orchestrator predict quickstart/kd a.png b.png --format json",
            "orchestrator predict quickstart --test",
        )
    ),
    "status": Page(
        (
            "orchestrator status",
            "orchestrator status quickstart --follow",
            "orchestrator status quickstart --format json",
            "orchestrator status quickstart --address http://10.0.0.1:8265",
        ),
        CLUSTER,
    ),
    "logs": Page(
        (
            "orchestrator logs --follow",
            "orchestrator logs quickstart --trial kd-003",
            "orchestrator logs quickstart --trial kd-003 --format json",
        ),
        CLUSTER,
    ),
    "stop": Page(
        (
            "orchestrator stop quickstart",
            "orchestrator stop quickstart --now",
            "orchestrator stop quickstart --trial kd-003 --trial kd-004",
        ),
        CLUSTER,
        {"0": "asked, or nothing runs"},
    ),
    "pause": Page(
        ("orchestrator pause quickstart", "orchestrator pause quickstart --address http://10.0.0.1:8265"),
        CLUSTER,
        {"0": "asked, or nothing runs"},
    ),
    "extend": Page(
        (
            "orchestrator extend quickstart --num-samples +20 --final-seeds +2",
            "orchestrator extend quickstart --time +1h",
            "orchestrator extend quickstart --variants more.yaml",
            "orchestrator extend quickstart --num-samples +20 --address URL",
        ),
        CLUSTER,
    ),
    "list": Page(
        (
            "orchestrator list",
            "orchestrator list --home ~/runs --format json",
            "orchestrator list --address http://10.0.0.1:8265",
        ),
        CLUSTER,
    ),
    "doctor": Page(
        (
            "orchestrator doctor",
            "orchestrator doctor my.yaml",
            "orchestrator doctor my.yaml --address http://10.0.0.1:8265",
        ),
        (*TRACKING, *CLUSTER, "CUDA_VISIBLE_DEVICES"),
        {"1": "something is broken"},
    ),
    "ui": Page(
        ("orchestrator ui", "orchestrator ui --port 5001 --home ~/runs"),
        codes={"0": "ended with Ctrl-C", "1": "MLflow did not start, or has ended by itself"},
    ),
    "schema": Page(("orchestrator schema > spec.schema.json",), codes={"1": "never", "2": "wrong usage"}),
}
