# SPDX-License-Identifier: Apache-2.0
"""
Whether the documented API would accept a request, by OpenAI's own description of it.

The description lies beside the repository and is no part of it. It says nothing true about replies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import jsonschema
import jsonschema.exceptions

from dev import ROOT
from dev.conformance import batch_description

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.requestlog import LoggedRequest

DESCRIPTION = ROOT.parent / "shared" / "spec" / "openai-runs-2026-08-21.json"
#: What the SDK's own types have and the description lacks.
_NEWER = {("post", "/responses"): {"access_programs", "background_options", "image"}}
#: Downloads, which the description of runs leaves out.
_CONTENT = re.compile(r"(?:/containers/[^/]+)?/files/[^/]+/content")
_CLIENT = re.compile("(Async)?(Azure)?OpenAI/")
#: Documented, but no part of the description: it is of runs.
_BESIDE_RUNS = re.compile(r"/models(/[^/]+)?")
_HERE = "openai:description"
_SHOWN = 300


class Oracle:
    """
    The description; ``complaints`` is empty for a request that it allows.

    :param description: another one, in the same form; None takes OpenAI's.
    """

    def __init__(self, description: Mapping[str, Any] | None = None) -> None:
        self._given = description

    @cached_property
    def _description(self) -> Mapping[str, Any]:
        found = self._described()
        return {**found, "paths": {**batch_description.PATHS, **found["paths"]}}

    def _described(self) -> Mapping[str, Any]:
        if self._given is not None:
            return self._given
        # Its unions overlap: nearly every message is valid under two of their members.
        text = DESCRIPTION.read_text(encoding="utf-8").replace('"oneOf":', '"anyOf":')
        found: dict[str, Any] = json.loads(text)
        # It asks for a member that it does not describe, and that the SDK's type of the item lacks.
        found["components"]["schemas"]["MCPApprovalResponse"]["required"].remove("request_id")
        return found

    @cached_property
    def _routes(self) -> list[tuple[re.Pattern[str], str]]:
        # Fixed paths first: /threads/runs is no thread.
        paths = sorted(self._description["paths"], key=lambda path: path.count("{"))
        return [(re.compile(re.sub(r"\{\w+\}", "([^/]+)", path)), path) for path in paths]

    @cached_property
    def _answered(self) -> dict[str, list[str]]:
        return {}

    def check(self, requests: Iterable[LoggedRequest]) -> int:
        """
        Hold against the description what the SDK's clients have asked a simulator; return how much that was.

        :raises AssertionError: with the first request that is not documented.
        """
        asked = sent_by_the_sdk(requests)
        for request in asked:
            if request.method == "GET" and _BESIDE_RUNS.fullmatch(request.path):
                continue
            found = self.complaints(request.method, request.path, request.query, request.body)
            if request.path.startswith("/threads") and request.headers.get("openai-beta") != "assistants=v2":
                found = [*found, "the header OpenAI-Beta is missing"]
            if found:
                raise AssertionError(f"{request.method} {request.path} {request.body}: {found}")
        return len(asked)

    def complaints(self, method: str, path: str, query: Mapping[str, Any], body: Any) -> list[str]:
        """
        Say what the documented API would not take.

        :param path: below ``/v1``, as it is sent.
        :param query: by name; several values of one name are a list.
        :param body: the JSON; None where nothing is sent.
        """
        asked = json.dumps([method, path if method == "POST" else _shape(path), dict(query), body])
        if asked not in self._answered:
            self._answered[asked] = list(self._complaints(method.lower(), path, query, body))
        return self._answered[asked]

    def _complaints(self, method: str, path: str, query: Mapping[str, Any], body: Any) -> Iterator[str]:
        template = next((found for pattern, found in self._routes if pattern.fullmatch(path)), None)
        operation = self._description["paths"].get(template, {}).get(method)
        if template is None and method == "get" and _CONTENT.fullmatch(path):
            return
        if template is None or operation is None:
            yield f"{method.upper()} {path} is not in the description"
            return
        known = {item["name"]: item for item in operation.get("parameters", ()) if item["in"] == "query"}
        for written, value in query.items():
            # The SDK writes a list with brackets, whether the description calls it so or not.
            name = written if written in known else written.removesuffix("[]")
            if name in known:
                yield from self._wrong(known[name]["schema"], _typed(value, known[name]["schema"]), name)
            else:
                yield f"the query has {written!r}, which is not in the description"
        if "/" in unquote(path.rpartition("/")[2]):
            yield f"an id with a slash: {path}"
        content = operation.get("requestBody", {}).get("content")
        if content is None:
            if body:
                yield f"there is a body, where none is taken: {sorted(body)}"
            return
        schema = content["application/json"]["schema"]
        newer = _NEWER.get((method, template), set())
        asked = {key: value for key, value in (body or {}).items() if key not in newer}
        yield from self._wrong(schema, asked, "body")
        properties = set(self._properties(schema))
        yield from (f"body.{key} is not in the description" for key in asked if key not in properties)

    def _wrong(self, schema: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        """Name the place and the rule of each violation."""
        whole = {"$id": _HERE, **schema, "components": self._description["components"]}
        validator = jsonschema.Draft202012Validator(whole)
        for error in validator.iter_errors(value):
            worst = jsonschema.exceptions.best_match([error]) or error
            place = "".join(f"[{part!r}]" for part in worst.absolute_path)
            yield f"{where}{place}: {worst.message[:_SHOWN]}"

    def _properties(self, schema: Mapping[str, Any]) -> Iterator[str]:
        """Name every property that a schema knows on its highest level."""
        if reference := schema.get("$ref"):
            yield from self._properties(self._description["components"]["schemas"][reference.split("/")[-1]])
        yield from schema.get("properties", ())
        for several in ("allOf", "anyOf"):
            for part in schema.get(several, ()):
                yield from self._properties(part)


def sent_by_the_sdk(requests: Iterable[LoggedRequest]) -> list[LoggedRequest]:
    """Leave out what others than the SDK's clients have asked, such as a test itself."""
    return [request for request in requests if _CLIENT.match(request.headers.get("user-agent", ""))]


def _shape(path: str) -> str:
    """Return a path whose ids are all the same: what is read is asked for thousands of times."""
    return re.sub(r"/(thread|run|resp|conv|asst|msg|step|batch)_\w+", r"/\1_", path)


def _typed(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return what stands in a query as what it means."""
    match schema.get("type"):
        case "array" if not isinstance(value, list):
            return [value]
        case "integer" if str(value).isdecimal():
            return int(value)
    return value
