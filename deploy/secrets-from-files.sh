#!/usr/bin/env bash
# Runs a command with secrets from files: NAME_FILE=path becomes NAME=what the file holds. Arguments can be read by
# every user of a machine, and what is set in a compose file or a unit ends in logs; files are neither.
set -euo pipefail

for name in AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY \
  MLFLOW_TRACKING_PASSWORD PGPASSWORD; do
  file="${name}_FILE"
  [[ -n "${!file:-}" ]] || continue
  [[ -r "${!file}" ]] || {
    echo "error: $file: ${!file} cannot be read" >&2
    exit 2
  }
  value="$(<"${!file}")"
  export "$name=$value"
  unset "$file"
done

exec "$@"
