"""Pydantic's errors as problems a user can act on: dotted path, value, rule, nearest name, line."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.errors import Problem
from orchestrator.registry import nearest
from orchestrator.spec.base import PLUGIN, PluginSection

Lines = Mapping[tuple[str | int, ...], int]

NOT_A_LIST = "must be a list"
_RULES = {
    "missing": "is required",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": NOT_A_LIST,
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "greater_than": "must be > {gt}",
    "greater_than_equal": "must be >= {ge}",
    "less_than": "must be < {lt}",
    "less_than_equal": "must be <= {le}",
    "finite_number": "must be a finite number",
    "literal_error": "must be {expected}",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be empty",
}
_NAME_PATTERN = re.compile(r"\^\[A-Za-z0-9]\[A-Za-z0-9([^]\\]+)]\*\$")
"""The patterns of names: a letter or digit, then letters, digits and the characters of the group."""


def problems_of(
    error: ValidationError, model: type[BaseModel], raw: Any, lines: Lines | None = None, prefix: str = ""
) -> list[Problem]:
    """Every problem of a failed validation of `raw` against `model`, in the file's order.

    Where a section's form is not known, neither are its keys: only the form is told.
    """
    errors = error.errors()
    formless = {e["loc"][:-1] for e in errors if e["type"] == "unknown_name" and PLUGIN in e["loc"][-2:-1]}
    told = [e for e in errors if e["type"] != "extra_forbidden" or e["loc"][:-1] not in formless]
    found = [_problem(details, model, raw, lines or {}, prefix) for details in told]
    return sorted(found, key=lambda problem: problem.line or 0)


def _problem(details: ErrorDetails, model: type[BaseModel], raw: Any, lines: Lines, prefix: str) -> Problem:
    context = details.get("ctx", {})
    kind = details["type"]
    loc = _without_tags(details["loc"], raw, missing=kind == "missing")
    value, has_value, hint = details["input"], kind != "missing", None
    rule = _RULES[kind].format(**context) if kind in _RULES else details["msg"]
    if kind == "rule":
        rule = context["rule"]
        if "field" in context:
            loc = (*loc, *context["field"].split("."))
        if "value" in context:
            value = context["value"]
            has_value = value is not None
    elif kind == "string_pattern_mismatch":
        rule = _in_words(context["pattern"])
    elif kind == "list_type" and isinstance(value, Mapping):
        hint = "a path can name the items that the list has, by their numbers from 0"
    elif kind == "unknown_name":
        rule = context["rule"]
    elif kind == "extra_forbidden":
        known = fields_at(model, loc[:-1], raw)
        rule, has_value = "unknown key", False
        close = nearest(str(loc[-1]), known)
        hint = f"did you mean {close!r}?" if close else f"known: {', '.join(known)}"
    elif kind == "union_tag_not_found" and not isinstance(value, Mapping):
        rule = "must be a mapping"
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        key = _tag_key(model, loc, raw)
        loc = (*loc, key)
        expected = context.get("expected_tags", "")
        tag = context.get("tag")
        rule = f"must be one of {expected}" if expected else f"needs the key {key!r}"
        close = nearest(str(tag), [name.strip(" '") for name in str(expected).split(",")])
        hint = f"did you mean {close!r}?" if close else None
        value, has_value = tag, tag is not None
    path = ".".join(str(part) for part in loc)
    return Problem(
        path=f"{prefix}{path}",
        rule=rule,
        value=value,
        has_value=has_value,
        hint=hint,
        line=line_of(path, lines),
    )


def _in_words(pattern: str) -> str:
    """What a text must be to match the pattern."""
    name = _NAME_PATTERN.fullmatch(pattern)
    if name is None:
        return f"must match the pattern {pattern}"
    others = " ".join(name[1][:-1])
    return f"must begin with a letter (a to z) or digit and go on with letters, digits, {others} or {name[1][-1]}"


def _without_tags(loc: Sequence[str | int], raw: Any, *, missing: bool) -> tuple[str | int, ...]:
    """Leave out what pydantic adds to a path to tell which form of a section it tried."""
    kept: list[str | int] = []
    node = raw
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(node, dict):
            if part in node:
                kept.append(part)
                node = node[part]
            elif last and missing:
                kept.append(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            kept.append(part)
            node = node[part]
    return tuple(kept)


def line_of(path: str, lines: Lines) -> int | None:
    """The line of the field itself, or of the nearest section around it that the file has."""
    best, found = -1, None
    for loc, line in lines.items():
        start = ".".join(map(str, loc))
        if len(start) > best and (path == start or path.startswith(f"{start}.")):
            best, found = len(start), line
    return found


def fields_at(model: type[BaseModel], loc: Sequence[str | int], raw: Any) -> list[str]:
    """Keys that the section at `loc` may have, in the form that `raw` chooses there."""
    return sorted({name for form in _forms_at(model, loc, raw) for name in form.model_fields})


def _tag_key(model: type[BaseModel], loc: Sequence[str | int], raw: Any) -> str:
    for form in _forms_at(model, loc, raw):
        for key in ("method", "rule", "type"):
            if key in form.model_fields:
                return key
    return "method"


def _forms_at(model: type[BaseModel], loc: Sequence[str | int], raw: Any) -> list[type[BaseModel]]:
    annotations: list[Any] = [model]
    node = raw
    for part in loc:
        node = _step(node, part)
        annotations = [inner for annotation in annotations for inner in _inside(annotation, part)]
    forms = [form for annotation in annotations for form in _models(annotation)]
    chosen = [form for form in forms if _is_chosen(form, node)]
    return chosen or [form for form in forms if issubclass(form, PluginSection)] or forms


def _step(node: Any, part: str | int) -> Any:
    """What lies under `part`, None where there is nothing."""
    if isinstance(node, list):
        return node[part] if isinstance(part, int) and part < len(node) else None
    return node.get(part) if isinstance(node, dict) else None


def _inside(annotation: Any, part: str | int) -> list[Any]:
    """Annotations of what lies under `part` in a value of this annotation."""
    found = [form.model_fields[str(part)].annotation for form in _models(annotation) if str(part) in form.model_fields]
    for alternative in _alternatives(annotation):
        if typing.get_origin(alternative) in (dict, list):
            found.append(typing.get_args(alternative)[-1])
    return found


def _alternatives(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [found for inner in typing.get_args(annotation) for found in _alternatives(inner)]
    return [annotation]


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [a for a in _alternatives(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]


def _is_chosen(form: type[BaseModel], node: Any) -> bool:
    for key in ("method", "rule", "type"):
        field = form.model_fields.get(key)
        if field is not None and typing.get_origin(field.annotation) is typing.Literal:
            names = typing.get_args(field.annotation)
            return isinstance(node, dict) and node.get(key, field.default) in names
    return False
