#!/usr/bin/env bash
# Makes the secrets that compose.yaml names, in the folder secrets beside it; what is there is kept.
set -euo pipefail

folder="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/secrets"
# Containers read the files as users of their own, so the folder is what keeps other users of this machine out.
mkdir -p "$folder"
chmod 700 "$folder"
umask 022

random() {
  od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'
}

# The whole of a file appears at once.
write() {
  printf '%s' "$2" >"$folder/.$1.new"
  mv "$folder/.$1.new" "$folder/$1"
}

make() {
  if [[ ! -s "$folder/$1" ]]; then
    write "$1" "$(random "$2")"
    echo "made $1"
  fi
}

make database-password 24
make mlflow-admin-password 24
make mlflow-secret-key 32
make s3-access-key 10
make s3-secret-key 20
# The object store reads who may do what from a file of its own form.
write s3-identities.json "$(
  cat <<JSON
{
  "identities": [
    {
      "name": "mlflow",
      "credentials": [{"accessKey": "$(<"$folder/s3-access-key")", "secretKey": "$(<"$folder/s3-secret-key")"}],
      "actions": ["Admin", "Read", "List", "Tagging", "Write"]
    }
  ]
}
JSON
)"
