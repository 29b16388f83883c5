"""What an experiment's page in MLflow is told to show."""

import base64
import json
import zlib

import pytest
from tracking_stores import EXPERIMENT

from orchestrator.search.trials import Status
from orchestrator.tracking.mlflow_store import NOTE_TAG
from orchestrator.tracking.views import TAG, Contents, charts_key, views

SEEN = Contents(
    "exp-1234",
    "val/acc1",
    "max",
    searched=["training.optimizer.lr", "distillation.temperature.max", "student.norm"],
    numeric=["training.optimizer.lr", "distillation.temperature.max"],
    contour=("training.optimizer.lr", "distillation.temperature.max"),
    has_temperatures=True,
    has_adjustment=True,
    has_finals=True,
)


def charts(view, kind):
    return [chart for chart in view.state["compareRunCharts"] if chart["type"] == kind]


def test_a_tag_holds_its_view_packed_as_mlflow_reads_it():
    for view in views(SEEN):
        kept = json.loads(view.value(7))
        packed = base64.b64decode(kept["state"].removeprefix("deflate;"))
        assert json.loads(zlib.decompress(packed)) == view.state
        assert (kept["name"], kept["createdAt"]) == (view.name, 7)
        assert len(view.value(7)) < 5000
        assert view.is_in(view.value(8))
        assert not view.is_in("{}")


def test_the_search_is_drawn_by_what_was_searched():
    search = views(SEEN)[0]
    assert search.key == charts_key("exp-1234")
    assert "`orchestrator.phase` = 'search'" in search.state["searchFilter"]
    assert (search.state["orderByKey"], search.state["orderByAsc"]) == ("metrics.`val/acc1`", False)
    (parallel,) = charts(search, "PARALLEL")
    assert parallel["selectedParams"] == SEEN.searched
    assert parallel["selectedMetrics"] == ["val/acc1"]
    (contour,) = charts(search, "CONTOUR")
    assert [contour[axis]["key"] for axis in ("xaxis", "yaxis", "zaxis")] == [*SEEN.contour, "val/acc1"]
    assert [chart["xaxis"]["key"] for chart in charts(search, "SCATTER")] == SEEN.numeric
    drawn = [name for chart in charts(search, "LINE") for name in chart["selectedMetricKeys"]]
    assert {"val/acc1", "train/loss", "temperature/mean", "temperature/p90", "adjustment/adjusted"} <= set(drawn)


def test_what_is_better_small_comes_in_that_order():
    search = views(Contents("exp-1234", "val/loss", "min"))[0]
    assert (search.state["orderByKey"], search.state["orderByAsc"]) == ("metrics.`val/loss`", True)


def test_nothing_is_drawn_that_there_is_not():
    only = views(Contents("exp-1234", "val/acc1", "max"))
    assert [view.key for view in only] == ["exp-1234-search", "exp-1234-runs"]
    assert {chart["type"] for view in only for chart in view.state["compareRunCharts"]} == {"LINE"}
    drawn = {name for chart in charts(only[0], "LINE") for name in chart["selectedMetricKeys"]}
    assert drawn == {"val/acc1", "val/loss", "train/loss"}


def test_tables_show_searched_values_and_no_other_parameter():
    for view in views(SEEN):
        columns = view.state["selectedColumns"]
        params = [name for name in columns if name.startswith("params.")]
        assert params == [f"params.`{path}`" for path in SEEN.searched]
        assert "tags.`orchestrator.variant`" in columns


def test_final_runs_are_taken_together_by_variant():
    final = views(SEEN)[1]
    assert final.state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "orchestrator.variant"}]
    assert charts(final, "BAR")[0]["metricKey"] == "test/acc1"


def test_runs_fold_under_their_experiment_in_the_order_of_time():
    table = views(SEEN)[-1]
    assert (table.mode, table.state["groupBy"]) == ("TABLE", None)
    assert "orderByKey" not in table.state


def test_the_store_has_the_views_once(mlflow_store, wrap_calls):
    written = []
    wrap_calls(before=lambda name, *rest, **named: written.append(rest[1]) if name == "set_experiment_tag" else None)
    for _ in range(2):
        tracker = mlflow_store.tracker()
        tracker.open(EXPERIMENT, SEEN)
        tracker.close(Status.FINISHED)
    tags = mlflow_store.client.get_experiment_by_name(mlflow_store.name).tags
    assert {name for name in tags if name.startswith(TAG)} == {view.tag for view in views(SEEN)}
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert tags["mlflow.experiment.primaryMetric.name"] == "val/acc1"
    assert sorted(written) == sorted(tags)


@pytest.mark.parametrize("own", [True, False])
def test_the_page_leads_to_the_views_but_where_somebody_has_a_note(mlflow_store, own):
    if own:
        created = mlflow_store.client.create_experiment(mlflow_store.name, str(mlflow_store.folder / "own"))
        mlflow_store.client.set_experiment_tag(created, NOTE_TAG, "Ours.")
    tracker = mlflow_store.tracker()
    tracker.open(EXPERIMENT, SEEN)
    tracker.close(Status.FINISHED)
    note = mlflow_store.client.get_experiment(tracker.experiment_id).tags[NOTE_TAG]
    page = f"#/experiments/{tracker.experiment_id}/runs?workflowType=machine_learning"
    link = f"({page}&viewStateShareKey=exp-1234-search&"
    assert note == "Ours." if own else link in note.splitlines()[0]
