# SPDX-License-Identifier: Apache-2.0
"""How each case went on each server, as a table with its reasons below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.runs.status import RunKind

if TYPE_CHECKING:
    from dev.conformance.servers import Server

OK, FAILED, CANNOT = "ok", "FAILED", "server cannot"
HEADINGS = {RunKind.THREAD_RUN: "thread runs", RunKind.RESPONSE: "background responses"}


@dataclass(frozen=True)
class Result:
    """How one case went on one server, and why."""

    word: str
    why: str = ""


Results = Mapping[tuple[str, RunKind, str], Result]


def lines(results: Results, servers: Sequence[Server]) -> Iterator[str]:
    """Write a table for each API; it reads as Markdown, too."""
    reasons: dict[str, int] = {}
    for kind in RunKind:
        asked = [server for server in servers if any(key[:2] == (server.name, kind) for key in results)]
        if asked:
            yield from _table(results, kind, asked, reasons)
            yield ""
    yield from (f"[{number}] {reason}" for reason, number in reasons.items())
    if reasons:
        yield ""
    yield from (f"{server.name} is {server.title}." for server in servers)


def _table(
    results: Results, kind: RunKind, servers: Sequence[Server], reasons: dict[str, int]
) -> Iterator[str]:
    cases = list(dict.fromkeys(name for _, of_kind, name in results if of_kind is kind))
    rows = [[HEADINGS[kind], *(server.name for server in servers)]]
    for case in cases:
        cells = [_cell(results.get((server.name, kind, case)), server.name, reasons) for server in servers]
        rows.append([case, *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * width for width in widths]
    for row in (rows[0], rule, *rows[1:]):
        yield f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"


def _cell(result: Result | None, server: str, reasons: dict[str, int]) -> str:
    if result is None:
        return ""
    if not result.why:
        return result.word
    reason = f"{server}: {result.why}"
    return f"{result.word} [{reasons.setdefault(reason, len(reasons) + 1)}]"
