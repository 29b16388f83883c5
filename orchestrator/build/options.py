"""A spec section as the keyword arguments of what it names."""

from __future__ import annotations

from typing import Any

from orchestrator.spec.base import PluginSection, Section


def arguments(section: Section, key: str) -> dict[str, Any]:
    """A section's values as its factory's keyword arguments; `key` is the field that names the factory."""
    if isinstance(section, PluginSection):
        return dict(section.options)
    return section.model_dump(exclude={key})
