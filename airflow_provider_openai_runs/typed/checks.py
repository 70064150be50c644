# SPDX-License-Identifier: Apache-2.0
"""What can be said of an output type while the Dag is parsed, without importing pydantic."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from airflow_provider_openai_runs.runs import checks


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
    from airflow_provider_openai_runs.typed.references import broken_reference  # noqa: PLC0415 # see above

    if (why := broken_reference(schema)) is not None:
        raise checks.invalid("output_type", schema, f"has a reference that no answer fits: {why}")
