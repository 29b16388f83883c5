"""What shells complete: experiments, variants and trials of the home folder, and files of specs. Asks no network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import typer

from orchestrator.errors import OrchestratorError
from orchestrator.export.blueprint import Format as ExportFormat
from orchestrator.search.trials import Phase, Record, Status
from orchestrator.spec.uris import is_uri
from orchestrator.spec.variants import variant_specs
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home, default_home

DEPTH = 3
"""Folders below the one that was typed that specs are looked for in."""
ENOUGH = 1 << 16
"""Characters of a file that tell whether it is a spec."""
MOST = 200
"""Files of specs that are offered."""
T = TypeVar("T")


def specs(incomplete: str) -> list[str]:
    """Specs whose path begins so, also in folders below; where there is none, shells complete files their own way."""
    typed = Path(incomplete or ".")
    folder = typed if incomplete.endswith("/") or not incomplete else typed.parent
    found: list[str] = []
    for depth in range(DEPTH):
        for suffix in ("yaml", "yml"):
            files = folder.glob("*/" * depth + f"*.{suffix}")
            start = "./" if incomplete.startswith("./") else ""
            named = {f"{start}{path}": path for path in files if _is_seen(path)}
            found += [name for name, path in named.items() if name.startswith(incomplete) and _is_spec(path)]
        if len(found) > MOST:
            break
    return sorted(found)[:MOST]


def experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names, and where more than one experiment has a name or an id is begun, ids."""
    folders = _folders(ctx)
    names = [folder.name for folder in folders if not folder.is_set_aside]
    several = {name for name in names if names.count(name) > 1}
    ids = [f.id for f in folders if f.name in several or f.is_set_aside or incomplete.startswith(f"{f.name}-")]
    return _fitting([*names, *ids], incomplete)


def trials(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of the trials of the experiment that is named, else of the latest."""
    return _fitting(_of_experiment(ctx, lambda folder: folder.records()), incomplete)


def variants(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the variants of the experiment that is named, else of the latest."""
    return _fitting(_of_experiment(ctx, _variants), incomplete)


def final_runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of the final runs that have left a student, of the variant that is named, else of all."""
    return _fitting((record.trial.id for record in _students(ctx)), incomplete)


def seeds(ctx: typer.Context, incomplete: str) -> list[str]:
    """Their seeds."""
    return _fitting((str(record.trial.seed) for record in _students(ctx)), incomplete)


def students(ctx: typer.Context, incomplete: str) -> list[str]:
    """Experiments, their variants where one is typed whole, and exported folders here; else shells complete files."""
    name, slash, _ = incomplete.partition("/")
    if slash:
        found = [folder for folder in _folders(ctx) if name in (folder.name, folder.id)][:1]
        return _fitting((f"{name}/{v}" for folder in found for v in _read(folder, _variants)), incomplete)
    exported = (path.parent.name for each in ExportFormat for path in Path().glob(f"*/{each.file}"))
    return [*experiments(ctx, incomplete), *_fitting(sorted(exported), incomplete)]


def references(ctx: typer.Context, incomplete: str) -> list[str]:
    """EXPERIMENT/VARIANT of the experiments that are named: by their names, or their ids where two have one name."""
    known = _folders(ctx)
    chosen = [
        folder
        for name in ctx.params.get("names") or ctx.args
        for folder in [folder for folder in known if name in (folder.name, folder.id)][:1]
    ]
    names = [folder.name for folder in chosen]
    found: list[str] = []
    for folder in chosen:
        is_id = names.count(folder.name) > 1 or incomplete.startswith(f"{folder.name}-")
        label = folder.id if is_id else folder.name
        found += [f"{label}/{variant}" for variant in _read(folder, _variants)]
    return _fitting(found, incomplete)


def _variants(folder: ExperimentFolder) -> Iterable[str]:
    return variant_specs(folder.spec())


def _students(ctx: typer.Context) -> list[Record]:
    wanted = ctx.params.get("variant") or _named(ctx)[1]

    def final(folder: ExperimentFolder) -> Iterable[Record]:
        runs = (record for record in folder.records().values() if record.trial.phase is Phase.FINAL)
        return (run for run in runs if run.status is Status.FINISHED and wanted in (None, run.trial.variant))

    return _of_experiment(ctx, final)


def _named(ctx: typer.Context) -> tuple[str | None, str | None]:
    """The experiment of the line, and the variant that may stand behind it."""
    # What stands before an option whose value is being typed has not been given to its argument yet.
    given = ctx.params.get("name") or ctx.params.get("model") or next(iter(ctx.args), "")
    name, _, variant = given.partition("/")
    return name or None, variant or None


def _of_experiment(ctx: typer.Context, tell: Callable[[ExperimentFolder], Iterable[T]]) -> list[T]:
    name, _ = _named(ctx)
    found = [folder for folder in _folders(ctx) if name in (None, folder.name, folder.id)]
    return _read(found[0], tell) if found else []


def _read(folder: ExperimentFolder, tell: Callable[[ExperimentFolder], Iterable[T]]) -> list[T]:
    try:
        return list(tell(folder))
    except (OrchestratorError, OSError):
        # Nothing can be told in the middle of a line; the command itself will.
        return []


def _folders(ctx: typer.Context) -> list[ExperimentFolder]:
    """The experiments of the home that the line names, the latest first; none of one that is elsewhere."""
    given: Any = ctx.params.get("home") or (ctx.parent.params.get("home") if ctx.parent else None)
    place = given or default_home()
    return [] if ctx.params.get("address") or is_uri(place) else Home(place).experiments()


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _is_spec(path: Path) -> bool:
    """Whether the file looks like one: other programs' YAML has no student."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return re.search(r"^student\s*:", file.read(ENOUGH), re.MULTILINE) is not None
    except OSError:
        return False


def _is_seen(path: Path) -> bool:
    return not any(part.startswith(".") and part not in (".", "..") for part in path.parts)
