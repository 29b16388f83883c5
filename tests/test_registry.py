"""Registries: names without imports, nearest names, plugins, and no second entry of one name."""

import subprocess
import sys
from importlib import metadata

import pytest

from orchestrator import catalog
from orchestrator.errors import RegistryError
from orchestrator.registry import Family, Registry, nearest

PLANETS = {
    "mars": "math:pi",
    "venus": "os.path:join",
    "broken": "no_such_module:x",
    "gone": "math:no_such_name",
}


@pytest.fixture
def planets() -> Registry:
    return Registry("planet", PLANETS)


def test_entries_are_imported_when_they_are_asked_for() -> None:
    code = (
        "import sys; from orchestrator.registry import Registry\n"
        "planets = Registry('planet', {'x': 'colorsys:rgb_to_hls'})\n"
        "assert list(planets) == ['x'] and 'x' in planets and 'y' not in planets\n"
        "assert 'colorsys' not in sys.modules\n"
        "planets['x']\n"
        "assert 'colorsys' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_are_sorted_and_entries_are_kept(planets: Registry) -> None:
    import math
    import os.path

    assert list(planets) == sorted(PLANETS)
    assert planets["venus"] is os.path.join
    assert planets["venus"] is os.path.join
    assert planets["mars"] == math.pi


def test_a_missing_name_lists_what_there_is(planets: Registry) -> None:
    with pytest.raises(RegistryError, match="there is no planet 'venos'; did you mean 'venus'") as caught:
        planets["venos"]
    assert caught.value.hint == "known planets: broken, gone, mars, venus"
    with pytest.raises(RegistryError, match=r"there is no planet 'zzz'\n"):
        planets["zzz"]


def test_a_name_is_registered_once(planets: Registry) -> None:
    @planets.register("earth")
    def earth() -> str:
        return "home"

    assert planets["earth"] is earth
    assert "earth" in planets
    for name in ("earth", "mars"):
        with pytest.raises(RegistryError, match=f"planet '{name}' is registered twice"):
            planets.register(name)(earth)
    assert planets["earth"] is earth


@pytest.mark.parametrize(("name", "reason"), [("broken", "No module named"), ("gone", "no attribute")])
def test_an_entry_that_cannot_be_loaded_is_named(planets: Registry, name: str, reason: str) -> None:
    with pytest.raises(RegistryError, match=f"planet '{name}' cannot be loaded from .*{reason}"):
        planets[name]


def moon(name: str) -> str:
    return name.upper()


MOONS = Family("moon-<n>", lambda name: name.startswith("moon-"), f"{__name__}:moon")


def test_a_family_answers_for_names_that_are_not_listed() -> None:
    registry = Registry("planet", PLANETS, [MOONS])
    assert "moon-7" in registry
    assert registry["moon-7"] == "MOON-7"
    assert list(registry) == sorted(PLANETS)
    assert registry.listing == "broken, gone, mars, venus, moon-<n>"
    with pytest.raises(RegistryError, match=r"known planets: .*, venus, moon-<n>"):
        registry["sun"]
    assert 7 not in registry


def test_a_family_that_cannot_be_loaded_is_named() -> None:
    registry = Registry("planet", {}, [Family("moon-<n>", MOONS.matches, "no_such_module:moon")])
    assert "moon-1" in registry
    with pytest.raises(RegistryError, match="planet 'moon-1' cannot be loaded from 'no_such_module:moon'"):
        registry["moon-1"]


def entry_points(monkeypatch, *points: metadata.EntryPoint) -> None:
    def found(*, group: str) -> list[metadata.EntryPoint]:
        return [point for point in points if point.group == group]

    monkeypatch.setattr(metadata, "entry_points", found)


def test_installed_packages_add_entries(planets: Registry, monkeypatch) -> None:
    import math

    entry_points(
        monkeypatch,
        metadata.EntryPoint("pluto", "math:tau", "orchestrator.planets"),
        metadata.EntryPoint("other", "math:tau", "orchestrator.models"),
    )
    assert "pluto" in planets
    assert list(planets) == sorted([*PLANETS, "pluto"])
    assert planets["pluto"] == math.tau


def test_an_installed_package_cannot_take_a_name_that_is_there(planets: Registry, monkeypatch) -> None:
    entry_points(monkeypatch, metadata.EntryPoint("mars", "math:tau", "orchestrator.planets"))
    with pytest.raises(RegistryError, match="planet 'mars' is registered twice"):
        list(planets)


@pytest.mark.parametrize(
    ("name", "known", "close"),
    [
        ("epocs", ["epochs", "seed"], "epochs"),
        ("zzz", ["epochs"], None),
        ("a", [], None),
        # Names that differ in their numbers alone: the nearest number, not the most like in spelling.
        ("resnet15", ["resnet110", "resnet14", "resnet56", "resnet8"], "resnet14"),
        ("resnet22", ["resnet110", "resnet20", "resnet32"], "resnet20"),
        ("wrn-40-3", ["wrn-16-2", "wrn-40-1", "wrn-40-2"], "wrn-40-2"),
        ("resnett20", ["resnet110", "resnet20"], "resnet20"),
        ("net" + "9" * 5000, ["net1"], None),
    ],
)
def test_nearest(name: str, known: list[str], close: str | None) -> None:
    assert nearest(name, known) == close


REGISTRIES = [value for value in vars(catalog).values() if isinstance(value, Registry)]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_every_name_of_the_catalog_can_be_loaded(registry: Registry) -> None:
    assert list(registry)
    for name in registry:
        assert callable(registry[name])
