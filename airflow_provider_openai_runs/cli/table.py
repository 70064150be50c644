# SPDX-License-Identifier: Apache-2.0
"""Text for people: runs as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from airflow_provider_openai_runs.cli.found import FoundRun, age_of

_HEAD = ("RUN", "KIND", "TASK", "DAG RUN", "STATE", "AGE", "STATUS", "LINK")


def table(runs: Iterable[FoundRun]) -> str:
    """Return a line for each run, under a heading; below it what is not known of them."""
    rows = [_HEAD, *map(_row, runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def notes(runs: Iterable[FoundRun], unusable: Mapping[str, str]) -> list[str]:
    """Return what is not known, a line for each connection that cannot be used here, and for each run."""
    lines = [
        f"Connection {conn_id!r} is not usable on this machine, so STATUS is empty: {why}"
        for conn_id, why in unusable.items()
    ]
    return lines + [
        f"{run.id} of {run.task}: {run.note}" for run in runs if run.note and run.conn_id not in unusable
    ]


def _row(run: FoundRun) -> tuple[str, ...]:
    return (
        run.ref.id if run.ref else f"? token {run.token}",
        run.kind,
        str(run.task),
        run.task.run_id,
        run.task.state or "-",
        age_of(run),
        run.raw_status or "",
        run.page,
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
