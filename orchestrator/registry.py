"""Registries: named extension points that third-party packages can add to through entry points."""

from __future__ import annotations

import difflib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Generic, TypeVar, cast

from orchestrator.errors import RegistryError

T = TypeVar("T", bound=Callable[..., Any])
_NUMBER = re.compile(r"[0-9]{1,9}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None where nothing is close.

    Of names that differ in their numbers alone, such as resnet20 and resnet32, the one nearest by number.
    """
    names = list(known)
    stem, numbers = _numbered(name)
    alike = [other for other in names if numbers and _numbered(other)[0] == stem]
    if alike:
        return min(alike, key=lambda other: sum(abs(a - b) for a, b in zip(numbers, _numbered(other)[1], strict=True)))
    matches = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return matches[0] if matches else None


def _numbered(name: str) -> tuple[str, list[int]]:
    """A name with # for each number in it, and the numbers."""
    return _NUMBER.sub("#", name), [int(number) for number in _NUMBER.findall(name)]


@dataclass(frozen=True)
class Family:
    """Names of one form that stand for factories without being listed, such as `wrn_<depth>_<factor>`."""

    form: str
    """What names of the family look like, for messages."""
    matches: Callable[[str], bool]
    """Whether a name belongs to the family; imports nothing."""
    by_name: str
    """The "module:attribute" of a function from such a name to its factory."""


class Registry(Generic[T]):
    """Maps names to factories of one kind, each imported when it is first asked for.

    Built-in entries are given as "module:attribute". Installed packages add theirs with an entry
    point in the group `orchestrator.<kind>s` (say `orchestrator.models`), a running program with
    `register`. Listing names and asking whether one exists import nothing. `families` add names that
    iterating leaves out.
    """

    def __init__(self, kind: str, builtin: Mapping[str, str] | None = None, families: Iterable[Family] = ()) -> None:
        self.kind = kind
        self.plural = f"{kind}es" if kind.endswith("s") else f"{kind}s"
        self.group = f"orchestrator.{self.plural}"
        self.families = tuple(families)
        self._entries: dict[str, T | str] = dict(builtin or {})
        self._entry_points_read = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds an entry; raises `RegistryError` when the name is taken."""

        def add(entry: T) -> T:
            self._add(name, entry)
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self:
            close = nearest(name, self)
            raise RegistryError(
                f"there is no {self.kind} {name!r}" + (f"; did you mean {close!r}?" if close else ""),
                hint=f"known {self.plural}: {self.listing}",
            )
        if name not in self._entries:
            return cast(T, self._resolved(name, self._families_of(name)[0].by_name)(name))
        entry = self._entries[name]
        if isinstance(entry, str):
            self._entries[name] = entry = cast(T, self._resolved(name, entry))
        return entry

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            self._read_entry_points()
        return name in self._entries or (isinstance(name, str) and bool(self._families_of(name)))

    def __iter__(self) -> Iterator[str]:
        """Every known name, sorted, those of installed packages included."""
        self._read_entry_points()
        return iter(sorted(self._entries))

    @property
    def listing(self) -> str:
        """Every known name and the forms of the families, as text."""
        return ", ".join([*self, *(family.form for family in self.families)])

    def _families_of(self, name: str) -> list[Family]:
        return [family for family in self.families if family.matches(name)]

    def _resolved(self, name: str, target: str) -> Any:
        try:
            return pkgutil.resolve_name(target)
        except (ImportError, AttributeError, ValueError) as error:
            raise RegistryError(f"{self.kind} {name!r} cannot be loaded from {target!r}: {error}") from error

    def _add(self, name: str, entry: T | str) -> None:
        if name in self._entries:
            raise RegistryError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry

    def _read_entry_points(self) -> None:
        if self._entry_points_read:
            return
        self._entry_points_read = True
        for point in metadata.entry_points(group=self.group):
            self._add(point.name, point.value)
