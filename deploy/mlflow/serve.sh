#!/usr/bin/env bash
# Runs MLflow's server on PostgreSQL, with an account for every user; README.md tells what it reads.
set -euo pipefail

for name in PGPASSWORD MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_ARTIFACTS; do
  [[ -n "${!name:-}" ]] || {
    echo "error: $name is not set; deploy/mlflow/README.md tells what it is" >&2
    exit 2
  }
done

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PGHOST="${PGHOST:-127.0.0.1}" PGUSER="${PGUSER:-mlflow}" PGDATABASE="${PGDATABASE:-mlflow}"
export MLFLOW_AUTH_CONFIG_PATH="${MLFLOW_AUTH_CONFIG_PATH:-$here/basic_auth.ini}"
export MLFLOW_DISABLE_TELEMETRY=true
# Its runners of jobs are for language models; without them the server starts in half the time.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION="${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}"

# The address of the database is empty: libpq takes all of it from the PG variables, so no log shows the password.
exec mlflow server \
  --app-name basic-auth \
  --host "${MLFLOW_HOST:-127.0.0.1}" \
  --port "${MLFLOW_PORT:-5000}" \
  --workers "${MLFLOW_WORKERS:-2}" \
  --allowed-hosts "${MLFLOW_ALLOWED_HOSTS:-localhost,localhost:*,127.0.0.1,127.0.0.1:*}" \
  --backend-store-uri postgresql+psycopg2:// \
  --artifacts-destination "$MLFLOW_ARTIFACTS"
