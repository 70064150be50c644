# SPDX-License-Identifier: Apache-2.0
"""The references of a JSON Schema: whether each that is used leads somewhere, and not only to itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import referencing.jsonschema

from airflow_provider_openai_runs.runs.text import message_text

_TO_ITSELF = "leads only to itself"
_REFERENCES = ("$ref", "$dynamicRef")
#: Keywords whose schemas are of the same value as the schema around them.
_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
#: Keywords whose schemas are of what is in the value; the latter have schemas by names.
_INSIDE = (
    *("items", "prefixItems", "contains", "additionalProperties", "unevaluatedItems"),
    *("unevaluatedProperties", "propertyNames", "contentSchema"),
)
_BY_NAME = ("properties", "patternProperties", "dependentSchemas")


def broken_reference(schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a reference that an answer would have to follow; None if nothing is."""
    root = referencing.jsonschema.DRAFT202012.create_resource(dict(schema))
    try:
        resolver = referencing.Registry().resolver_with_root(root)
        return _Walk().broken(root.contents, resolver, frozenset(), is_inside=True)
    except RecursionError:  # deeper than anybody can tell
        return None


class _Walk:
    def __init__(self) -> None:
        self._known: set[int] = set()

    def broken(
        self, part: Any, resolver: Any, around: frozenset[int], *, is_inside: bool = False
    ) -> str | None:
        """
        Check a schema, or a list of them, and what it refers to.

        :param around: the schemas that have led here, all of the same value.
        :param is_inside: whether ``resolver`` knows of the schema's own ``$id``.
        """
        if isinstance(part, list):
            return _first(self.broken(item, resolver, around) for item in part)
        if not isinstance(part, Mapping):
            return None
        if id(part) in around:
            return _TO_ITSELF
        if id(part) in self._known:
            return None
        self._known.add(id(part))
        if isinstance(part.get("$id"), str) and not is_inside:
            resolver = resolver.in_subresource(referencing.jsonschema.DRAFT202012.create_resource(part))
        within = around | {id(part)}
        names = (name for keyword in _REFERENCES if isinstance(name := part.get(keyword), str))
        by_name = (part[keyword] for keyword in _BY_NAME if isinstance(part.get(keyword), Mapping))
        inner = (
            *(part.get(keyword) for keyword in _INSIDE),
            *(one for each in by_name for one in each.values()),
        )
        return (
            _first(self._followed(name, resolver, within) for name in names)
            or _first(self.broken(part.get(keyword), resolver, within) for keyword in _IN_PLACE)
            or _first(self.broken(one, resolver, frozenset()) for one in inner)
        )

    def _followed(self, name: str, resolver: Any, within: frozenset[int]) -> str | None:
        try:
            found = resolver.lookup(name)
        except Exception as error:  # noqa: BLE001 # whatever a pointer into a schema meets
            return f"{message_text(name)} leads nowhere ({type(error).__name__})"
        why = self.broken(found.contents, found.resolver, within, is_inside=True)
        return f"{message_text(name)} {why}" if why == _TO_ITSELF else why


def _first(found: Iterable[str | None]) -> str | None:
    return next(filter(None, found), None)
