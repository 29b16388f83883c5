"""The reference of the spec as Markdown pages, from the JSON Schema that its models give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from orchestrator.spec import ExperimentSpec

FOLDER = "reference/spec"
ANY = "any value"
HEAD = "| field | | type | default | range |\n| --- | --- | --- | --- | --- |"
_WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "`true` or `false`",
    "null": "`null`",
    "array": "list",
    "object": "mapping",
}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_LENGTHS = {"minItems": "at least {} of them", "maxItems": "at most {} of them", "maxLength": "at most {} characters"}
Node = dict[str, Any]


def pages() -> dict[str, str]:
    """Every page by its path in the site: one of the experiment itself, one for each of its sections."""
    return Reference(ExperimentSpec.model_json_schema()).pages()


class Reference:
    """Walks the schema from the experiment down; a section that several fields take is described where it is first met.

    Args:
        schema: with its sections under `$defs`.
    """

    def __init__(self, schema: Node) -> None:
        self.schema = schema
        self.sections: dict[str, Node] = schema["$defs"]
        # A teacher's training has the fields of `training`, which has a page of its own.
        self.places: dict[str, tuple[str, str]] = {
            name: (field, field) for field, node in schema["properties"].items() for name in self._named(node)
        }

    def pages(self) -> dict[str, str]:
        """Every page by its path in the site."""
        top = [
            "# Every field of a spec",
            "One YAML file is one experiment. These are its fields; each section has a page. All of it is made from "
            "the models that check a spec, when this site is built.",
            *self._table("", self.schema, "index"),
            "`orchestrator schema` prints the same as a JSON Schema, with which an editor completes and checks specs.",
        ]
        made = {}
        for field, node in self.schema["properties"].items():
            lines = list(self._field(field, node, field, 1))
            if lines:
                made[f"{FOLDER}/{field}.md"] = "\n\n".join(lines) + "\n"
        return {f"{FOLDER}/index.md": "\n\n".join(top) + "\n", **made}

    def _field(self, path: str, node: Node, page: str, level: int) -> Iterator[str]:
        """The sections that a field may hold, each with its table, and what is below them."""
        names = [name for name in self._named(node) if self.places.setdefault(name, (path, page)) == (path, page)]
        names = [name for name in names if "properties" in self.sections[name]]
        if not names:
            return
        yield f"{'#' * level} `{path}`"
        if len(names) > 1:
            yield _prose(node.get("description", ""))
        for name in names:
            section = self.sections[name]
            if len(names) > 1:
                yield f"{'#' * min(level + 1, 6)} {self._form(name)}"
            yield _prose(section["description"])
            yield from self._table(path, section, page)
            for field, inner in section["properties"].items():
                yield from self._field(f"{path}.{field}{_place(inner)}", inner, page, min(level + 1, 5))

    def _form(self, name: str) -> str:
        """What tells this form of a section from the others, as a heading."""
        for field, node in self.sections[name]["properties"].items():
            if "const" in node:
                return f"`{field}: {node['const']}`{', the default' if 'default' in node else ''}"
        return "a package's own"

    def _table(self, path: str, section: Node, page: str) -> list[str]:
        rows = [HEAD]
        for field, node in section["properties"].items():
            if "const" in node:  # in the heading
                continue
            described = node.get("description") or next(
                (self.sections[name]["description"] for name in self._named(node)), ""
            )
            cells = [
                f"`{field}`",
                _prose(described),
                self._type(node, page, f"{path}.{field}{_place(node)}".removeprefix(".")),
                "**required**" if field in section.get("required", ()) else _default(node),
                "; ".join(self._ranges(node)),
            ]
            rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        return ["\n".join(rows)] if len(rows) > 1 else []

    def _type(self, node: Node, page: str, path: str) -> str:
        names = self._named(node, direct=True)
        if names:
            return self._link(names, page, path)
        if "const" in node:
            return f"`{node['const']}`"
        if "enum" in node:
            return ", ".join(f"`{value}`" for value in node["enum"])
        options = node.get("anyOf") or node.get("oneOf")
        if options:
            return " or ".join(dict.fromkeys(self._type(option, page, path) for option in options))
        kind = node.get("type")
        if kind == "array" and node.get("minItems") == node.get("maxItems") == 2:
            item = self._type(node["items"], page, path)
            return f"[{item}, {item}]".replace("[", "\\[", 1)
        inside = _inside(node)
        held = self._type(inside, page, path) if isinstance(inside, dict) else ANY
        if kind in ("array", "object") and held != ANY:
            return f"{_WORDS[kind]} of {held}"
        return _WORDS.get(str(kind), ANY)

    def _link(self, names: list[str], page: str, path: str) -> str:
        """To where these sections are described: here, or at the field that was met first."""
        if "properties" not in self.sections[names[0]]:
            return ANY
        where, there = self.places.get(names[0], (path, page))
        anchor = "" if where == there else f"#{anchor_of(where)}"
        target = anchor if there == page and anchor else f"{there}.md{anchor}"
        text = "section" if where == path else f"as `{where}`"
        return f"[{text}]({target})"

    def _ranges(self, node: Node) -> Iterator[str]:
        yield from (f"{sign}\u00a0{node[key]:,.10g}" for key, sign in _BOUNDS.items() if key in node)
        if node.get("minItems") != node.get("maxItems"):
            yield from (text.format(node[key]) for key, text in _LENGTHS.items() if key in node)
        elif "maxLength" in node:
            yield _LENGTHS["maxLength"].format(node["maxLength"])
        if "pattern" in node:
            yield f"`{node['pattern']}`"
        found: list[str] = []
        for option in (*node.get("anyOf", ()), *node.get("oneOf", ()), _inside(node)):
            if isinstance(option, dict) and "$ref" not in option:
                found += self._ranges(option)
        yield from dict.fromkeys(found)

    def _named(self, node: Any, *, direct: bool = False) -> list[str]:
        """The sections that a node refers to; `direct`: where it is nothing else."""
        if not isinstance(node, dict):
            return []
        if "$ref" in node:
            return [node["$ref"].rpartition("/")[2]]
        options = node.get("oneOf", []) + node.get("anyOf", [])
        found = [self._named(option, direct=direct) for option in options]
        if direct:
            return [name for names in found for name in names] if all(found) else []
        inside = _inside(node)
        return [name for names in [*found, self._named(inside)] for name in names]


def anchor_of(path: str) -> str:
    """The anchor that a heading of this path gets: letters, digits and hyphens alone."""
    return "".join(sign for sign in path.lower() if sign.isalnum() or sign in "_-")


def _inside(node: Node) -> Any:
    """What a list or a mapping holds."""
    for key in ("items", "additionalProperties"):
        if node.get(key):
            return node[key]
    return next(iter(node.get("patternProperties", {}).values()), None)


def _place(node: Node) -> str:
    """How a path goes on inside a list or a mapping."""
    if node.get("type") == "array":
        return ".0"
    return ".NAME" if "patternProperties" in node else ""


def _default(node: Node) -> str:
    if "default" not in node:
        return ""
    value = node["default"]
    if isinstance(value, dict) and value:
        return "its defaults" if "method" not in value and "rule" not in value else f"`{_flow(value)}`"
    return f"`{_flow(value)}`"


def _flow(value: Any) -> str:
    """A value as YAML has it on a line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def _prose(text: str) -> str:
    """A sentence of the spec, none of whose signs means anything to Markdown."""
    return text.replace("<", "&lt;").replace("*", "\\*")
