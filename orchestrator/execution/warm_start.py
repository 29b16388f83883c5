"""Where a warm start's trials come from, and that they are asked for only once: later sessions read the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.search.plan import Plan, make_plan
from orchestrator.search.warm_start import MISSING, Past, Told, chosen, past_of, recorded, replayed, selected
from orchestrator.spec.base import expand_environment
from orchestrator.spec.domains import Choice, Domain, RandInt
from orchestrator.spec.search import WarmStartSpec
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home


def warm_start(plan: Plan, home: Home, folder: ExperimentFolder, tracking_uri: str) -> dict[str, Told]:
    """What each variant's sampler is told of the earlier experiment, kept in the journal from the first session on.

    Raises `UsageError` where there is no such experiment, or nothing in it that any variant can use, and
    `TrackingError` where MLflow cannot be asked.
    """
    search = plan.spec.search
    if search.warm_start is None:
        return {}
    for event in folder.journal.read():
        if event["event"] == "warm_start":
            return replayed(event)
    told = selected(plan, _past(search.warm_start, home, folder, tracking_uri, search.first_metric))
    if not any(one.trials for one in told.values()):
        found = sum(one.left_out for one in told.values())
        raise UsageError(
            f"search.warm_start: {search.warm_start.name!r} has no trial that a variant could learn from"
            + (f": {found} lie outside the domains" if found else ""),
            hint=f"its search trials must have {search.first_metric}, values inside the domains, and variants named "
            f"{', '.join(told) or 'as here'}; or remove warm_start",
        )
    folder.journal.append(recorded(told))
    return told


def in_words(told: Mapping[str, Told]) -> str:
    """How many trials were used, in a line."""
    each = (
        f"{name} learns from {len(one.trials)} trials" + (f" ({one.left_out} left out)" if one.left_out else "")
        for name, one in told.items()
    )
    return f"warm start: {', '.join(each)}"


def _past(source: WarmStartSpec, home: Home, folder: ExperimentFolder, tracking_uri: str, metric: str) -> list[Past]:
    if source.mlflow is None:
        earlier = home.find(source.name)
        if earlier.id == folder.id:
            raise UsageError(
                f"search.warm_start.experiment: {source.name!r} is this experiment itself",
                hint="name an earlier one by its id; orchestrator list shows them",
            )
        return past_of(make_plan(earlier.spec()), earlier.records().values(), metric)
    from orchestrator.tracking.mlflow_store import search_trials

    uri = tracking_uri if source.uri is None else expand_environment(source.uri, "search.warm_start.uri")
    found = search_trials(uri, source.mlflow, metric, besides=folder.id)
    if found is None:
        raise UsageError(f"search.warm_start.mlflow: there is no MLflow experiment {source.mlflow!r}")
    return [Past(trial.variant, trial.value, trial.epochs, _in(trial.params)) for trial in found]


def _in(params: Mapping[str, str]) -> Callable[[str, Domain], Any]:
    """How the parameters of an MLflow run, which are text, are asked for a field or section."""

    def look_up(path: str, domain: Domain) -> Any:
        if isinstance(domain, Choice):
            return chosen(path, domain, params, as_text=True)
        if path not in params:
            return MISSING
        try:
            return int(params[path]) if isinstance(domain, RandInt) else float(params[path])
        except ValueError:
            return MISSING

    return look_up
