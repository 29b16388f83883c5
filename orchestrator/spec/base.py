"""What every section of a spec shares: strictness, registry-backed names, and rules that name a field."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, GetJsonSchemaHandler, JsonValue
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from orchestrator.errors import UsageError
from orchestrator.registry import Registry, nearest
from orchestrator.spec.uris import is_uri, refuse_secrets

PLUGIN = "plugin"
_ENVIRONMENT_NAME = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


class Section(BaseModel):
    """A frozen mapping with typed keys: unknown keys, wrong types, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The field that tells a section's form, such as `method`, is described by what the section is."""
        section = handler(core_schema)
        content = handler.resolve_ref_schema(section)
        for field in content.get("properties", {}).values():
            if "const" in field:
                field.setdefault("description", content["description"])
        return section


class PluginSection(Section):
    """Options of a method that an installed package adds through an entry point."""

    options: dict[str, JsonValue] = Field(
        {}, description="Keyword arguments for the method's factory, which checks them when the run is built."
    )


def broken_rule(field: str, rule: str, value: Any) -> PydanticCustomError:
    """The error for a rule between fields; `field` is relative to the section that is checked."""
    return PydanticCustomError("rule", "{rule}", {"rule": rule, "field": field, "value": value})


def no_secret_in(field: str, text: str | None) -> None:
    """Raise the error for a URI that holds a user, password or key; a path, or none, is taken as it is."""
    if text is not None and is_uri(text):
        try:
            refuse_secrets(text, field)
        except UsageError as error:
            raise broken_rule(field, f"{error.message.partition(': ')[2]}; {error.hint}", None) from None


def told_by(key: str, default: str, builtin: tuple[str, ...] = ()) -> Discriminator:
    """Choose a section's form by its `key`; left out, it is `default`.

    With `builtin`, any other name is a plugin's.
    """

    def choose(value: Any) -> Any:
        name = value.get(key, default) if isinstance(value, dict) else getattr(value, key, None)
        return name if not builtin or name in builtin else PLUGIN

    return Discriminator(choose)


def known_in(registry: Registry[Any]) -> AfterValidator:
    """A validator that takes only the registry's names, without importing what they stand for."""

    def check(name: str) -> str:
        if name in registry:
            return name
        close = nearest(name, list(registry))
        hint = f"did you mean {close!r}? " if close else ""
        raise PydanticCustomError(
            "unknown_name",
            "{rule}",
            {"rule": f"is not a known {registry.kind}; {hint}known: {registry.listing}"},
        )

    return AfterValidator(check)


def environment_names(text: str) -> list[str]:
    """The variables that `expand_environment` would put into the text."""
    return _ENVIRONMENT_NAME.findall(text)


def expand_environment(text: str, field: str) -> str:
    """Replace each `${env:NAME}` by that environment variable's value.

    Called where a value is used and not where it is loaded, so that a secret never becomes part of a
    spec, its record or its hash. Raises `UsageError` that names `field` for a variable that is not set.
    """
    try:
        return _ENVIRONMENT_NAME.sub(lambda match: os.environ[match.group(1)], text)
    except KeyError as error:
        raise UsageError(f"{field} uses ${{env:{error.args[0]}}}, but that variable is not set") from None


def location(text: str, field: str) -> Path:
    """A path given in a spec, with ~ and ${env:NAME} resolved; see `expand_environment`."""
    return Path(expand_environment(text, field)).expanduser().absolute()
