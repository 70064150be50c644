# SPDX-License-Identifier: Apache-2.0
"""What hosted tools do in a scenario: searches, code, pictures, remote tools, and thoughts between them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.simulator.loading import arguments_of


@dataclass(frozen=True, kw_only=True, slots=True)
class WebPage:
    """A page that a search found; the answer cites it unless it is not `cited`."""

    url: str
    title: str = "Simulated page"
    cited: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundFile:
    """A file that a search found, and the passage in it; without a `file_id` one is made up."""

    name: str
    text: str = "Simulated passage."
    file_id: str | None = None
    score: float = 0.75
    cited: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class ProducedFile:
    """A file that code has written: `text`, else made up and `size` bytes long.

    The answer names it unless it is not `cited`; one that is not cited is found only by those who list.
    """

    name: str
    size: int | None = None
    text: str | None = None
    cited: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Reasoning:
    """Thoughts of the model, of which clients see a summary."""

    summary: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class WebSearch:
    """A search for `query` that found `pages`; with `url` a page opened, with `pattern` one searched."""

    query: str = "simulated query"
    pages: Sequence[WebPage] = ()
    url: str | None = None
    pattern: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSearch:
    """A search in vector stores."""

    queries: Sequence[str] = ("simulated query",)
    found: Sequence[FoundFile] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeInterpreter:
    """Code that was run, what it printed, and the files it has written; pictures are outputs, too."""

    code: str = "print('simulated')"
    logs: str | None = "simulated\n"
    files: Sequence[ProducedFile] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageGeneration:
    """A picture of `size` bytes, None for a small one; one that `failed` has no picture."""

    prompt: str = "A simulated picture."
    size: int | None = None
    failed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class McpListTools:
    """The tools that a remote server offers."""

    server_label: str = "simulated"
    tools: Sequence[str] = ("simulated_tool",)


@dataclass(frozen=True, kw_only=True, slots=True)
class McpCall:
    """A call of a remote tool that needed no approval; `error` is what the tool complained of."""

    name: str = "simulated_tool"
    server_label: str = "simulated"
    arguments: str | Mapping[str, Any] = "{}"
    output: str | None = "simulated"
    error: str | None = None

    @property
    def arguments_json(self) -> str:
        """The arguments as the API writes them: JSON in a string."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


ToolResult = Reasoning | WebSearch | FileSearch | CodeInterpreter | ImageGeneration | McpListTools | McpCall

_TYPES: dict[str, type[ToolResult]] = {
    "reasoning": Reasoning,
    "web_search": WebSearch,
    "file_search": FileSearch,
    "code_interpreter": CodeInterpreter,
    "image_generation": ImageGeneration,
    "mcp_list_tools": McpListTools,
    "mcp_call": McpCall,
}
_PARTS: dict[str, type[WebPage | FoundFile | ProducedFile]] = {
    "pages": WebPage,
    "found": FoundFile,
    "files": ProducedFile,
}


def tool_result_from_json(data: Any) -> ToolResult:
    """Read one result, `{"type": "web_search", ...}`; ValueError says what is wrong."""
    kind = data.get("type") if isinstance(data, dict) else None
    if kind not in _TYPES:
        raise ValueError(f"Scenario.output: {kind!r} is not one of {sorted(_TYPES)}.")
    cls = _TYPES[kind]
    arguments = arguments_of(cls, {name: value for name, value in data.items() if name != "type"})
    for name, part in _PARTS.items():
        if name in arguments:
            arguments[name] = tuple(part(**arguments_of(part, one)) for one in arguments[name])
    return cls(**arguments)
