"""The architecture as rules: who may import what, and what stays unloaded until it is needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "orchestrator"
SCIENCE = ("distillation", "models", "data", "training")
HEAVY = (
    "torch",
    "torchvision",
    "ray",
    "mlflow",
    "numpy",
    "scipy",
    "sklearn",
    "pandas",
    "matplotlib",
    "optuna",
)
PROBE = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))
"""


def loaded_by(*modules: str, probe: str = PROBE) -> set[str]:
    """The top-level packages that a fresh process has loaded after importing these modules."""
    done = subprocess.run([sys.executable, "-c", probe, *modules], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def modules_of(room: str) -> list[str]:
    found = sorted((PACKAGE / room).rglob("*.py"))
    names = [".".join(("orchestrator", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in found]
    return [name.removesuffix(".__init__") for name in names]


# Fresh processes


@pytest.mark.parametrize(
    "modules",
    [
        ["orchestrator"],
        ["orchestrator.catalog", "orchestrator.errors", "orchestrator.names", "orchestrator.machine"],
        modules_of("spec"),
        modules_of("search"),
        modules_of("store"),
    ],
    ids=["package", "base", "spec", "search", "store"],
)
def test_the_light_rooms_load_nothing_heavy(modules: list[str]) -> None:
    assert loaded_by(*modules) & set(HEAVY) == set()


def test_the_command_line_loads_nothing_heavy() -> None:
    assert loaded_by("orchestrator.cli", *modules_of("cli")) & set(HEAVY) == set()


def test_importing_the_package_loads_not_even_pydantic() -> None:
    assert not loaded_by("orchestrator") & {"pydantic", "yaml", "typer", "rich", *HEAVY}


@pytest.mark.parametrize("room", SCIENCE)
def test_the_science_runs_where_only_torch_is_installed(room: str) -> None:
    loaded = loaded_by(*modules_of(room))
    assert "torch" in loaded
    assert not loaded & {"ray", "mlflow", "pydantic", "yaml", "typer", "rich", "optuna"}


def test_the_driver_of_an_experiment_does_without_torch() -> None:
    driving = ("orchestrator.execution.runner", "orchestrator.execution.driver", "orchestrator.tracking.mlflow")
    assert "torch" not in loaded_by(*driving)


def test_a_student_is_loaded_where_only_torch_is_installed() -> None:
    loaded = loaded_by("orchestrator.export.serving", "orchestrator.export.formats", "orchestrator.export.predict")
    assert not loaded & {"ray", "mlflow", "pydantic", "yaml", "typer", "rich"}


def test_the_trainable_is_imported_by_the_driver_without_torch() -> None:
    assert "torch" not in loaded_by("orchestrator.execution.trial", "orchestrator.execution.space")


COMMANDS = """
import contextlib, io, json, sys
from orchestrator.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    main(sys.argv[1:])
assert out.getvalue(), 'the command printed nothing'
print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))
"""


@pytest.mark.parametrize("command", ["validate", "plan", "schema", "--help", "run --help"])
def test_commands_that_start_nothing_load_nothing_heavy(tmp_path: Path, command: str) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "name: a\ndata: {dataset: digits}\nteacher: {model: resnet8}\nstudent: {model: resnet8}\n"
        "search: {space: {training.batch_size: {type: randint, low: 8, high: 16}}}\n"
    )
    arguments = [*command.split(), *([str(spec)] if command in ("validate", "plan") else [])]
    assert loaded_by(*arguments, probe=COMMANDS) & set(HEAVY) == set()


# The source


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, with whether that happens when the file is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or _is_for_types(node)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module), id(node) not in lazy
            yield from ((f"{node.module}.{alias.name}", id(node) not in lazy) for alias in node.names)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported(path: Path, package: str, *, only_eager: bool = False) -> list[str]:
    return [
        name
        for name, eager in imports(path)
        if (name == package or name.startswith(f"{package}.")) and (eager or not only_eager)
    ]


def files(*rooms: str) -> list[Path]:
    return [path for room in rooms for path in sorted((PACKAGE / room).rglob("*.py"))]


EVERY_FILE = sorted(PACKAGE.rglob("*.py"))


def test_the_rooms_are_there() -> None:
    for room in (*SCIENCE, "spec", "search", "store", "execution", "tracking", "analysis", "export", "cli"):
        assert files(room), room


@pytest.mark.parametrize(
    "package",
    [
        "pydantic",
        "yaml",
        "ray",
        "mlflow",
        "orchestrator.spec",
        "orchestrator.search",
        "orchestrator.store",
        "orchestrator.execution",
        "orchestrator.tracking",
        "orchestrator.build",
        "orchestrator.cli",
    ],
)
def test_the_science_knows_no_spec_no_ray_no_mlflow(package: str) -> None:
    assert {str(path): found for path in files(*SCIENCE) if (found := imported(path, package))} == {}


def test_distillation_needs_torch_alone() -> None:
    allowed = {"torch", "orchestrator", "numpy", *sys.stdlib_module_names}
    for path in files("distillation"):
        assert {name.partition(".")[0] for name, _ in imports(path)} <= allowed, path


def test_only_execution_imports_ray() -> None:
    outside = [path for path in EVERY_FILE if path.parent != PACKAGE / "execution" and imported(path, "ray")]
    assert outside == []


def test_only_the_files_named_after_it_import_mlflow() -> None:
    users = [path.relative_to(PACKAGE) for path in EVERY_FILE if imported(path, "mlflow")]
    assert users == [path.relative_to(PACKAGE) for path in files("tracking") if path.stem.startswith("mlflow")]


def test_the_mlflow_tracker_is_imported_where_it_is_used() -> None:
    users = {
        path.stem: [p.name for p in EVERY_FILE if imported(p, f"orchestrator.tracking.{path.stem}", only_eager=True)]
        for path in files("tracking")
        if path.stem.startswith("mlflow")
    }
    assert users.pop("mlflow") == []
    assert all(user.startswith("mlflow") for module in users for user in users[module])


@pytest.mark.parametrize("package", ["torch", "ray", "mlflow"])
def test_the_light_rooms_name_no_heavy_package(package: str) -> None:
    light = files("spec", "search", "store", "analysis", "cli")
    assert [path for path in light if imported(path, package, only_eager=True)] == []


ROOMS_BELOW = {
    "spec": {"spec"},
    "search": {"spec", "search"},
    "store": {"spec", "search", "store"},
    "tracking": {"search", "tracking"},
    "analysis": {"spec", "search", "analysis"},
    "distillation": {"distillation"},
    "models": {"models"},
    "data": {"data"},
    "training": {"distillation", "models", "data", "training"},
    "export": {"models", "data", "training", "spec", "search", "analysis", "export"},
}
EVERYWHERE = {"errors", "names", "registry", "catalog", "machine", "passwords"}


@pytest.mark.parametrize("room", ROOMS_BELOW)
def test_arrows_go_one_way(room: str) -> None:
    for path in files(room):
        for name, _ in imports(path):
            parts = name.split(".")
            if parts[0] == "orchestrator" and len(parts) > 1:
                assert parts[1] in ROOMS_BELOW[room] | EVERYWHERE, f"{path.relative_to(PACKAGE)} imports {name}"


def test_the_ground_floor_needs_the_standard_library_alone() -> None:
    for name in ("errors", "names", "machine", "registry", "catalog", "passwords"):
        for module, _ in imports(PACKAGE / f"{name}.py"):
            parts = module.split(".")
            allowed = parts[0] in sys.stdlib_module_names or parts[1:2] in ([], ["errors"], ["registry"])
            assert parts[0] in {*sys.stdlib_module_names, "orchestrator"}, f"{name}.py imports {module}"
            assert allowed, f"{name}.py imports {module}"


def test_build_is_the_one_bridge_between_spec_and_torch() -> None:
    both = {
        path.relative_to(PACKAGE)
        for path in EVERY_FILE
        if imported(path, "orchestrator.spec", only_eager=True) and imported(path, "torch", only_eager=True)
    }
    assert {path for path in both if path.parts[0] != "build"} <= {Path("execution/session.py")}


def test_no_assert_guards_a_user() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in EVERY_FILE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert found == []
