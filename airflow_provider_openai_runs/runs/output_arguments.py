# SPDX-License-Identifier: Apache-2.0
"""The arguments ``output_path`` and ``text_in_xcom``, checked when a Dag is parsed."""

from __future__ import annotations

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError


def check_text_in_xcom(limit: object, *, output_path: object, needs_text: str | None = None) -> int | None:
    """
    Return how many bytes of a text may be in XCom; None is no limit.

    :param needs_text: the argument that puts the model's words into Airflow in any case.
    :raises RunRequestError: if a text would be nowhere, or be in Airflow all the same.
    """
    if limit is None:
        return None
    found = checks.count("text_in_xcom", limit, low=0)
    if output_path is None:
        raise RunRequestError(
            f"text_in_xcom={found} needs output_path=...: a text that is not in XCom has to be somewhere. "
            "Nothing was sent."
        )
    if found == 0 and needs_text is not None:
        raise RunRequestError(
            f"text_in_xcom=0 and {needs_text} exclude each other: with the second, Airflow stores what the "
            "model wants to call, and with which arguments. Nothing was sent."
        )
    return found


def checked_output_path(value: object) -> str | None:
    """
    Return the path as it was rendered; None where nothing is to be written.

    :raises RunRequestError: if a template has rendered to nothing, or to None.
    """
    if value is None:
        return None
    return checks.text("output_path", str(value) if hasattr(value, "__fspath__") else value).strip()
