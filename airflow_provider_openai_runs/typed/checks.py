# SPDX-License-Identifier: Apache-2.0
"""What can be said of an output type while the Dag is parsed, without importing pydantic."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from airflow_provider_openai_runs.runs import checks

_REFERENCES = frozenset({"$ref", "$dynamicRef"})


def check_output_type(output_type: object) -> None:
    """
    Check that an output type is a pydantic model class or a JSON Schema.

    :raises RunRequestError: when it is neither, or a schema that is broken.
    """
    if isinstance(output_type, Mapping):
        # Most Airflows have imported it already; where not, it costs a Dag file too much.
        jsonschema = sys.modules.get("jsonschema")
        if jsonschema is not None:
            check_schema(output_type, jsonschema)
        return
    pydantic = sys.modules.get("pydantic")  # there is no model class without it
    base = getattr(pydantic, "BaseModel", None)
    if base is None or not (isinstance(output_type, type) and issubclass(output_type, base)):
        raise checks.invalid(
            "output_type",
            output_type,
            "must be a pydantic model class (not an instance) or a JSON Schema as a dict",
        )


def check_schema(schema: Mapping[str, Any], jsonschema: Any) -> None:
    """
    Check a JSON Schema (Draft 2020-12) by the module ``jsonschema``.

    :raises RunRequestError: with what is wrong, and where.
    """
    try:
        jsonschema.Draft202012Validator.check_schema(dict(schema))
    except (jsonschema.SchemaError, TypeError, RecursionError) as error:
        where = getattr(error, "json_path", "$")
        reason = getattr(error, "message", str(error))
        raise checks.invalid("output_type", schema, f"is no JSON Schema: {reason} (at {where})") from error
    import referencing.jsonschema  # noqa: PLC0415 # jsonschema has imported it

    root = referencing.jsonschema.DRAFT202012.create_resource(dict(schema))
    _check_references(schema, root, referencing.Registry().resolver_with_root(root))


def _check_references(schema: Mapping[str, Any], resource: Any, resolver: Any) -> None:
    """
    Follow each reference of a schema: no answer fits one that leads nowhere, or only to itself.

    :raises RunRequestError: naming the reference.
    """
    for keyword in _REFERENCES & _keys_of(resource):
        seen: list[Any] = []
        found, inside, name = resource.contents, resolver, resource.contents[keyword]
        while isinstance(name, str):
            try:
                resolved = inside.lookup(name)
            except Exception as error:  # noqa: BLE001 # whatever a pointer into a schema meets
                rule = f"has the reference {name!r}, which leads nowhere ({type(error).__name__})"
                raise checks.invalid("output_type", schema, rule) from None
            found, inside = resolved.contents, resolved.resolver
            if any(found is one for one in seen):
                rule = f"has the reference {name!r}, which leads to itself"
                raise checks.invalid("output_type", schema, rule)
            seen.append(found)
            name = found.get("$ref") if isinstance(found, Mapping) else None
    for inner in resource.subresources():
        _check_references(schema, inner, resolver.in_subresource(inner))


def _keys_of(resource: Any) -> frozenset[str]:
    return frozenset(resource.contents) if isinstance(resource.contents, Mapping) else frozenset()
