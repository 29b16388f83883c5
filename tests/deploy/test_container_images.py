"""Images and the compose file: linted, held against the compose format's schema, and in step with this package."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from linters import complaints

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "docker"
IMAGES = sorted(FOLDER.glob("*.Dockerfile"))
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())


def instructions(image: Path) -> list[tuple[str, str]]:
    """Names and arguments, continued lines joined."""
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", image.read_text(), flags=re.MULTILINE)).splitlines()
    return [(name.upper(), rest) for name, _, rest in (line.partition(" ") for line in lines if line.strip())]


@pytest.fixture(params=IMAGES, ids=lambda path: path.stem)
def image(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_hadolint_finds_nothing(image: Path) -> None:
    assert complaints("hadolint", image) == ""


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_trials_find_a_compiler(name: str) -> None:
    """`training.compile` builds C++ while it runs, on CPUs and GPUs."""
    _, _, last_stage = (FOLDER / f"{name}.Dockerfile").read_text().rpartition("\nFROM ")
    (installed,) = re.findall(r"apt-get install [^&]*", last_stage)
    assert "g++" in installed.split()


def test_images_run_as_a_user_of_a_fixed_number_and_tell_their_health(image: Path) -> None:
    last_stage = instructions(image)
    while any(name == "FROM" for name, _ in last_stage[1:]):
        last_stage = last_stage[1 + next(i for i, (name, _) in enumerate(last_stage[1:]) if name == "FROM") :]
    steps = dict(last_stage)
    assert steps["USER"] == "10001:10001"
    assert "CMD" in steps["HEALTHCHECK"]
    # What builds stays behind.
    assert sum(name == "FROM" for name, _ in instructions(image)) == 2
    assert "--from=build" in image.read_text()


def test_what_images_are_made_of_is_pinned(image: Path) -> None:
    for name, rest in instructions(image):
        if name == "FROM":
            reference = rest.split()[0]
            assert re.fullmatch(r"[a-z]+(/[a-z]+)?:\d[\w.-]+", reference), reference
        for install in re.findall(r"pip install [^&]*", rest):
            assert "--constraint constraints.txt" in install


def test_every_pinned_package_that_images_install_has_a_version(image: Path) -> None:
    named = {
        word.strip('"').partition("[")[0]
        for _, rest in instructions(image)
        for install in re.findall(r"pip install ([^&]*)", rest)
        for word in re.sub(r"--\S+ constraints\.txt|\$\{.*\}", "", install).split()
    }
    assert named - {"."}
    assert named - {"."} <= PINNED.keys()


def test_what_images_copy_is_there_and_let_in(image: Path) -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().split("\n") if line.startswith("!")}
    for name, rest in instructions(image):
        if name == "COPY" and "--from" not in rest:
            *sources, _ = [word for word in rest.split() if not word.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists(), source
                assert source in let_in, f"{source} is not let in by .dockerignore"


def test_python_is_one_that_the_package_takes(image: Path) -> None:
    least = tuple(int(part) for part in PROJECT["requires-python"].removeprefix(">=").split("."))
    for version in re.findall(r"FROM python:(\d+)\.(\d+)-", image.read_text()):
        assert tuple(map(int, version)) >= least


def test_cuda_is_the_one_that_pytorch_is_built_for() -> None:
    (version,) = set(re.findall(r"nvidia/cuda:(\d+)\.", (FOLDER / "cuda.Dockerfile").read_text()))
    assert version == PINNED["cuda-toolkit"].partition(".")[0]


def test_tags_are_the_version_of_the_package() -> None:
    text = "".join(path.read_text() for path in [*IMAGES, FOLDER / "compose.yaml", FOLDER / "README.md"])
    tags = set(re.findall(r"\borchestrator(?:-mlflow)?:([\w.]+?)(?:-cuda)?\b(?![\w.])", text))
    assert tags == {PROJECT["version"]}


def compose_schema() -> dict[str, Any]:
    """The compose specification's own schema, which check-jsonschema brings along."""
    schema = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json")
    return dict(json.loads(schema.read_text()))


def test_the_compose_file_fits_the_format() -> None:
    jsonschema.validate(COMPOSE, compose_schema())


@pytest.mark.parametrize(
    ("path", "value"),
    [(["services", "mlflow", "prots"], []), (["services", "mlflow", "healthcheck", "tset"], []), (["volums"], {})],
)
def test_an_unknown_field_would_be_found(path: list[str], value: object) -> None:
    wrong = json.loads(json.dumps(COMPOSE))
    place = wrong
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError, match=path[-1]):
        jsonschema.validate(wrong, compose_schema())


def test_experiments_in_containers_have_an_owner() -> None:
    """Every container's user is the same."""
    assert (
        COMPOSE["services"]["orchestrator"]["environment"]["ORCHESTRATOR_OWNER"] == "${ORCHESTRATOR_OWNER:-${USER:-}}"
    )


def test_ports_are_open_to_this_machine_alone() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    inside = {name for name, service in COMPOSE["services"].items() if service["networks"] == ["inside"]}
    assert inside == {"database", "objects"}


def test_services_tell_their_health_and_wait_for_that_of_others() -> None:
    for name, service in COMPOSE["services"].items():
        assert "healthcheck" in service, name
        for other, condition in service.get("depends_on", {}).items():
            assert other in COMPOSE["services"]
            assert condition == {"condition": "service_healthy"}


def test_secrets_come_from_files_that_the_script_makes(tmp_path: Path) -> None:
    script = shutil.copy(FOLDER / "make-secrets.sh", tmp_path)
    subprocess.run([script], check=True, stdout=subprocess.PIPE)
    made = {path.name for path in (tmp_path / "secrets").iterdir()}
    assert {name: secret["file"] for name, secret in COMPOSE["secrets"].items()} == {
        name: f"./secrets/{name}" for name in made
    }
    assert "deploy/docker/secrets/" in (ROOT / ".gitignore").read_text().split()
    for service in COMPOSE["services"].values():
        given = {f"/run/secrets/{name}" for name in service.get("secrets", [])}
        text = json.dumps([service.get("environment", {}), service.get("command", [])])
        assert set(re.findall(r"/run/secrets/[\w.-]+", text)) == given
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|ACCESS_KEY", name):
                assert name.endswith("_FILE"), name
                assert value in given


def test_secrets_from_files_knows_what_is_given_so() -> None:
    known = (ROOT / "deploy" / "secrets-from-files.sh").read_text()
    for service in ("mlflow", "orchestrator"):
        for name in COMPOSE["services"][service]["environment"]:
            if name.endswith("_FILE"):
                assert re.search(rf"\b{name.removesuffix('_FILE')}\b", known), name


def test_images_of_compose_are_built_here_or_have_a_version() -> None:
    for name, service in COMPOSE["services"].items():
        if "build" in service:
            context = (FOLDER / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (context / service["build"]["dockerfile"]).is_file()
        else:
            assert re.search(r":\d[\w.-]*$", service["image"]), name
