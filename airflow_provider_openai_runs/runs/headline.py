# SPDX-License-Identifier: Apache-2.0
"""An error in one line for a log of which people see the beginning: what, fate, next step, then the ids."""

from __future__ import annotations

from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.model import RunRef


def headline(error: OpenAIRunError) -> str:
    """Return the text of an error, the ids of its run moved to the end."""
    text = str(error)
    if error.ref is None:
        return text
    ref = RunRef.from_json(error.ref)
    if str(ref) not in text and ref.subject not in text:
        return f"{text} ({ref.id})"
    text = text.replace(ref.subject, f"The {ref.noun}").replace(str(ref), f"the {ref.noun}")
    thread = f", thread {ref.thread_id}" if ref.thread_id else ""
    return f"{text} ({ref.id}{thread})"
