"""`tracking.uri`: what MLflow can connect to passes, anything else is told before a run starts."""

from importlib import metadata

import pytest

HEAD = """\
name: tiny
data: {dataset: digits}
teacher: {model: resnet14}
student: {model: resnet8}
"""


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///runs.db",
        "sqlite:////var/runs.db",
        "sqlite:///${env:HOME}/runs.db",
        "http://localhost:5000",
        "https://${env:USER}:${env:PASSWORD}@host/mlflow",
        "https://user@host/mlflow",
        "postgresql://user:${env:PASSWORD}@host/db",
        "postgresql://host/db?user=me&password=${env:PASSWORD}",
        "postgresql+psycopg2://host/db",
        "mysql+pymysql://host/db",
        "mssql+pyodbc://host/db",
        "databricks",
        "databricks://profile",
        "${env:MLFLOW}",
        "${env:SCHEME}://host",
    ],
)
def test_uris_that_mlflow_knows(load, uri: str) -> None:
    assert load(HEAD + f"tracking: {{uri: '{uri}'}}\n").tracking.uri == uri


PLAIN = "MLflow does not record in plain folders any more; use sqlite:///FILE or a server"
SQLITE = "must be sqlite:///FILE, of three slashes and of four before a path from the root"


@pytest.mark.parametrize(
    ("uri", "value", "rule"),
    [
        ("mlruns", None, PLAIN),
        ("/var/mlruns", None, PLAIN),
        ("", None, PLAIN),
        ("file:///var/mlruns", "file", PLAIN),
        ("sqlite://runs.db", "sqlite", SQLITE),
        ("sqlite:runs.db", "sqlite", SQLITE),
        ("http:", "http", "must be http://, followed by where it is"),
        ("postgresql:/host", "postgresql", "must be postgresql://, followed by where it is"),
        ("localhost:5000", "localhost", "has no scheme; did you mean 'http://localhost:5000'?"),
        (
            "postgres://user:secret@host/db",
            "postgres",
            "is not a scheme that MLflow knows; did you mean 'postgresql'? "
            "known: sqlite, postgresql, mysql, mssql, http, https, databricks",
        ),
        (
            "s3://bucket",
            "s3",
            "is not a scheme that MLflow knows; known: sqlite, postgresql, mysql, mssql, http, https, databricks",
        ),
    ],
)
def test_uris_that_it_refuses(problems, uri: str, value: str | None, rule: str) -> None:
    (problem,) = problems(HEAD + f"tracking:\n  uri: '{uri}'\n")
    assert (problem.path, problem.line, problem.value, problem.rule) == ("tracking.uri", 6, value, rule)
    assert problem.has_value == (value is not None)
    assert "secret" not in str(problem)


@pytest.mark.parametrize("section", ["tracking: {uri: ", "search: {warm_start: {mlflow: earlier, uri: "])
@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("postgresql://me:hunter2@db/mlflow", "${env:NAME}"),
        ("postgresql://db/mlflow?user=me&password=hunter2", "${env:NAME}"),
        ("mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Dhunter2", "${env:NAME}"),
        ("https://me:hunter2@${env:HOST}", "MLFLOW_TRACKING_PASSWORD"),
        ("https://${env:USER}:hunter2@mlflow", "MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_a_password_in_plain_text_is_refused_and_not_shown(problems, section: str, uri: str, remedy: str) -> None:
    (problem,) = problems(HEAD + section + f"'{uri}'" + "}" * section.count("{") + "\n")
    assert problem.path == ("tracking.uri" if section.startswith("tracking") else "search.warm_start.uri")
    assert "holds a password" in problem.rule
    assert remedy in problem.rule
    assert "hunter2" not in repr(problem)


def test_a_scheme_that_an_installed_package_adds(load, monkeypatch) -> None:
    point = metadata.EntryPoint("mine", "math:pi", "mlflow.tracking_store")
    monkeypatch.setattr(metadata, "entry_points", lambda **wanted: [point] if point.matches(**wanted) else [])
    assert load(HEAD + "tracking: {uri: 'mine://there'}\n").tracking.uri == "mine://there"


@pytest.mark.parametrize("scheme", ["sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks"])
def test_mlflow_has_a_store_for_every_scheme(scheme: str) -> None:
    from mlflow.tracking._tracking_service import utils

    assert scheme in utils._tracking_store_registry._registry
