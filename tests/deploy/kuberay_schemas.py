"""KubeRay's own definitions of its kinds, made strict and small: all fields, nothing to read.

What KubeRay publishes (helm-chart/kuberay-operator/crds of its repository, Apache-2.0) is 2 MB, since it spells out the
same pods again and again. `kuberay.json` holds the same fields, with parts that come more than once written once:

    python tests/deploy/kuberay_schemas.py FOLDER RELEASE
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("kuberay.json")
KINDS = ("RayCluster", "RayJob")
SOURCE = (
    "KubeRay {release}, helm-chart/kuberay-operator/crds, github.com/ray-project/kuberay; Apache-2.0; reduced by {by}"
)
_SILENT = ("description", "default", "format")
"""What says nothing of which fields there are and what they take; so do further names that begin with x-kubernetes-."""
_SHORT = 60
"""Characters of JSON up to which a part is repeated."""


def schemas(folder: Path, release: str) -> dict[str, Any]:
    """JSON Schemas of the kinds' `spec`, by kind; `folder` has the definitions."""
    content = [crd for path in folder.glob("*.yaml") for crd in yaml.load_all(path.read_text(), yaml.CSafeLoader)]
    by_kind = {crd["spec"]["names"]["kind"]: crd for crd in content}
    found = {}
    for kind in KINDS:
        (version,) = [entry for entry in by_kind[kind]["spec"]["versions"] if entry["name"] == "v1"]
        found[kind] = strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    return {"$comment": SOURCE.format(release=release, by=Path(__file__).name), **written_once(found)}


def inside(schema: dict[str, Any], change: Callable[[Any, str], Any]) -> dict[str, Any]:
    """The schema with each one in it changed; `change` is told the field that it is of, "" for another's entries."""
    made = dict(schema)
    for name, value in schema.items():
        if name == "properties":
            made[name] = {field: change(inner, field) for field, inner in value.items()}
        elif name in ("items", "additionalProperties") and isinstance(value, dict):
            made[name] = change(value, "")
        elif name in ("anyOf", "allOf", "oneOf"):
            made[name] = [change(inner, "") for inner in value]
    return made


def strict(schema: dict[str, Any], field: str = "") -> dict[str, Any]:
    """The schema, with fields that it does not name forbidden."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = inside(schema, strict)
    if "properties" in made and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return {name: value for name, value in made.items() if name not in _SILENT and not name.startswith("x-kubernetes-")}


def written_once(kinds: dict[str, Any]) -> dict[str, Any]:
    """The schemas, with each larger part that comes more than once below `$defs`, named after a field that has it."""
    times: Counter[str] = Counter()
    fields: dict[str, str] = {}

    def count(schema: dict[str, Any], field: str) -> dict[str, Any]:
        text = _text(schema)
        fields.setdefault(text, field or "entry")
        times[text] += 1
        return inside(schema, count) if times[text] == 1 else schema

    for kind, schema in kinds.items():
        count(schema, kind)
    names: dict[str, str] = {}
    for text in sorted(text for text, number in times.items() if number > 1 and len(text) > _SHORT):
        same = sum(fields[text] == fields[other] for other in names)
        names[text] = f"{fields[text]}{same + 1 if same else ''}"

    def short(schema: dict[str, Any], field: str = "") -> dict[str, Any]:
        name = names.get(_text(schema))
        return {"$ref": f"#/$defs/{name}"} if name else inside(schema, short)

    parts = {name: inside(json.loads(text), short) for text, name in names.items()}
    return {"$defs": parts, **{kind: short(schema) for kind, schema in kinds.items()}}


def _text(schema: Any) -> str:
    return json.dumps(schema, sort_keys=True)


def as_text(content: dict[str, Any]) -> str:
    """As JSON with a line for each definition."""
    parts = ",\n".join(f"  {json.dumps(name)}: {_text(part)}" for name, part in sorted(content["$defs"].items()))
    kinds = "".join(f",\n {json.dumps(kind)}: {_text(content[kind])}" for kind in KINDS)
    return f'{{"$comment": {json.dumps(content["$comment"])},\n "$defs": {{\n{parts}\n }}{kinds}\n}}\n'


if __name__ == "__main__":
    FILE.write_text(as_text(schemas(Path(sys.argv[1]), sys.argv[2])))
