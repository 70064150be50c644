# SPDX-License-Identifier: Apache-2.0
"""
Templates of text arguments, in a Dag with ``render_template_as_native_obj=True``.

Jinja's native rendering reads what a template came to as a literal of Python, if it is one: a prompt that
looks like a number, a list or a dict is no text any more, and a quoted one loses its quotes. What is rendered
here stays the text that it is; an object that an expression alone returns stays that object. Arguments that
hold numbers beside texts, such as ``tools`` and ``extra_body``, are left to Jinja.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import mask_secret
from jinja2 import Undefined
from jinja2.nativetypes import NativeEnvironment

from airflow_provider_openai_runs.operators.hidden import hide
from airflow_provider_openai_runs.runs.tool_secrets import secrets_of

#: Fields whose value, or whose values inside, are text.
TEXT_FIELDS = frozenset(
    {
        "additional_instructions",
        "additional_messages",
        "approval_subject",
        "assistant_id",
        "conn_id",
        "conversation",
        "input",
        "input_path",
        "instructions",
        "metadata",
        "model",
        "output_path",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "response_id",
        "run_id",
        "safety_identifier",
        "thread",
        "thread_id",
        "user",
    }
)
#: Fields that hold texts, such as answers and prompts: each is one, and the whole may be any template.
_FIELDS_OF_TEXTS = frozenset({"items", "outputs", "ref"})


def is_text(name: str, value: object) -> bool:
    """
    Return whether what is in a template field is text.

    :param name: of the field.
    :param value: before it is rendered; a template that stands for all of many texts is none.
    """
    return name in TEXT_FIELDS or (name in _FIELDS_OF_TEXTS and not isinstance(value, str))


class _Nodes:
    """What a template came to, piece by piece; Jinja takes it for an object, and leaves it alone."""

    def __init__(self, pieces: Sequence[Any]) -> None:
        self.pieces = pieces

    def value(self) -> Any:
        if len(self.pieces) == 1 and not isinstance(self.pieces[0], Undefined):
            return self.pieces[0]
        return "".join(map(str, self.pieces))


def render_text(template: Any, render: Callable[[Any], Any]) -> Any:
    """
    Render a template, and do not read its text as a literal.

    :param template: Jinja's.
    :param render: Airflow's way to render one.
    """
    if not isinstance(template.environment, NativeEnvironment):
        return render(template)
    whole = SimpleNamespace(
        environment=template.environment,
        globals=template.globals,
        name=template.name,
        blocks=template.blocks,
        root_render_func=lambda context: iter([_Nodes(list(template.root_render_func(context)))]),
    )
    found = render(whole)
    return found.value() if isinstance(found, _Nodes) else found


class RenderedAsText:
    """Beside an operator of Airflow: text is rendered as text."""

    _renders_text = False

    def _render(self, template: Any, context: Any, *args: Any) -> Any:
        render = super()._render  # type: ignore[misc]  # the operator's
        if self._renders_text:
            return render_text(template, lambda whole: render(whole, context, *args))
        return render(template, context, *args)

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], *args: Any, **kwargs: Any
    ) -> None:
        render = super()._do_render_template_fields  # type: ignore[misc]  # the operator's
        if parent is not self:  # an object within a field is read as the field is
            render(parent, template_fields, *args, **kwargs)
            return
        for name in template_fields:
            self._renders_text = is_text(name, getattr(self, name, None))
            render(self, (name,), *args, **kwargs)
        self._renders_text = False


class RenderedOutOfSight(RenderedAsText):
    """Beside an operator that creates: credentials are masked, and prompts hidden, before they are stored."""

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], *args: Any, **kwargs: Any
    ) -> None:
        fields = tuple(template_fields)
        super()._do_render_template_fields(parent, fields, *args, **kwargs)
        # Airflow stores the rendered fields right after this, also those of a mapped task.
        more = getattr(self, "extra_body", None)
        for tools in (getattr(self, "tools", None), more.get("tools") if isinstance(more, Mapping) else None):
            for secret in secrets_of(tools):
                mask_secret(secret)
        if getattr(self, "text_in_xcom", None) == 0:
            hide(self, fields)
