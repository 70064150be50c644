# SPDX-License-Identifier: Apache-2.0
"""The references of a JSON Schema: whether each that is used leads somewhere, and not only to itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import referencing.jsonschema

from airflow_provider_openai_runs.runs.text import message_text

_TO_ITSELF = "leads only to itself"
_REFERENCES = ("$ref", "$dynamicRef")
#: Keywords whose schemas are of the same value as the schema around them.
_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else"})
#: Keywords that hold schemas which nothing may use, or values that are none.
_UNUSED = frozenset({"$defs", "definitions", "enum", "const", "default", "examples"})


def broken_reference(schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a reference that an answer would have to follow; None if nothing is."""
    root = referencing.jsonschema.DRAFT202012.create_resource(dict(schema))
    try:
        return _Walk().broken(root.contents, referencing.Registry().resolver_with_root(root), frozenset())
    except RecursionError:  # deeper than anybody can tell
        return None


class _Walk:
    def __init__(self) -> None:
        self._known: set[int] = set()

    def broken(self, part: Any, resolver: Any, around: frozenset[int]) -> str | None:
        """
        Check a part of a schema, and what it refers to.

        :param around: the schemas that have led here, all of the same value.
        """
        if isinstance(part, list):
            return next((why for item in part if (why := self.broken(item, resolver, around))), None)
        if not isinstance(part, Mapping):
            return None
        if id(part) in around:
            return _TO_ITSELF
        if id(part) in self._known:
            return None
        self._known.add(id(part))
        if isinstance(part.get("$id"), str):
            resolver = resolver.in_subresource(referencing.jsonschema.DRAFT202012.create_resource(part))
        within = around | {id(part)}
        for keyword in _REFERENCES:
            name = part.get(keyword)
            if isinstance(name, str) and (why := self._followed(name, resolver, within)) is not None:
                return why
        for keyword, item in part.items():
            inside = within if keyword in _IN_PLACE else frozenset()
            if keyword not in _UNUSED and (why := self.broken(item, resolver, inside)) is not None:
                return why
        return None

    def _followed(self, name: str, resolver: Any, within: frozenset[int]) -> str | None:
        try:
            found = resolver.lookup(name)
        except Exception as error:  # noqa: BLE001 # whatever a pointer into a schema meets
            return f"{message_text(name)} leads nowhere ({type(error).__name__})"
        why = self.broken(found.contents, found.resolver, within)
        return f"{message_text(name)} {why}" if why == _TO_ITSELF else why
