# SPDX-License-Identifier: Apache-2.0
"""
What the data of a bulk task takes of a worker's memory, and how long: no server, no Airflow.

``python -m dev.benchmarks.bulk_memory`` reads 10,000 and then 100,000 rows of 2 KB from a folder, makes the
body of each create, writes a result for each, and concludes; each size in a process of its own.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dev import ROOT

SIZES = (10_000, 100_000)
ROW_BYTES = 2_000
MOST = 200 * 1024 * 1024
"""Bytes above the start, at any size."""
FORMS = ("jsonl", "csv", "parquet")


def measure(count: int, form: str, folder: Path) -> dict[str, Any]:
    """Take so many rows through a task; return seconds, and bytes above the start."""
    from airflow_provider_openai_runs.bulk import read_results  # noqa: PLC0415 # brings Airflow
    from airflow_provider_openai_runs.bulk.inputs import open_input  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.item_request import ItemRequest  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.items import Items, ItemState  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.manifest import conclude  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.parts import Outcome, Parts  # noqa: PLC0415
    from airflow_provider_openai_runs.bulk.storage import MANIFEST, RESULTS, StorageFolder  # noqa: PLC0415

    log: Any = logging.getLogger(__name__)
    path = _written(folder / f"in.{form}", count)
    request = ItemRequest(arguments={"model": "m"}, names=frozenset({"input"}))
    out = StorageFolder.at(str(folder / "out"), log=log)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began = _status("VmHWM"), time.monotonic()
    found: dict[str, Any] = {"rows": count, "form": form, "before_mb": _mb(before)}

    def note(name: str) -> None:
        nonlocal began
        found[f"{name}_s"] = round(time.monotonic() - began, 1)
        found[f"{name}_mb"] = _mb(_status("VmHWM") - before)
        began = time.monotonic()

    source = open_input(input_path=str(path), request=_request, log=log)
    note("open")
    items, parts = Items(), Parts(writer="ti-1")
    for row in source.rows():
        body = request(row.values or {}).body
        result = {"output_text": body["input"], "usage": {"total_tokens": 3}}
        state = ItemState.FAILED if row.number % 10 == 0 else ItemState.SUCCEEDED
        parts.add(Outcome(row=row.number, custom_id=row.custom_id, state=state, result=result), now=0.0)
        if parts.due_at() == float("-inf"):
            part = parts.close()
            out.write(part.content, RESULTS, part.written.name)
            items.apply(part.written)
    note("items")
    manifest = conclude(out, source, items, seconds=1.0)
    note("conclude")
    read = sum(1 for _ in read_results(out.uri_of(MANIFEST)))
    note("read_results")
    return {**found, "succeeded": read, "counted": manifest.rows}


def _request(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"input": row["text"], "custom_id": row["id"]}


def _rows(count: int) -> Iterator[dict[str, str]]:
    for number in range(count):
        yield {"id": f"ticket-{number}", "text": f"{number} ".ljust(ROW_BYTES, "x")}


def _written(path: Path, count: int) -> Path:
    # In another process: what it takes to write it is no part of the measure.
    code = "import sys; from dev.benchmarks import bulk_memory as b; b.write(sys.argv[1], int(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", code, str(path), str(count)], check=True, cwd=ROOT)  # noqa: S603
    return path


def write(path: str, count: int) -> None:
    """Write an input."""
    if path.endswith(".parquet"):
        import pyarrow as pa  # noqa: PLC0415 # an extra
        from pyarrow import parquet  # noqa: PLC0415

        parquet.write_table(pa.Table.from_pylist([*_rows(count)]), path)
        return
    with Path(path).open("w", encoding="utf-8") as file:
        if path.endswith(".csv"):
            file.write("id,text\n")
            file.writelines(f"{row['id']},{row['text']}\n" for row in _rows(count))
        else:
            file.writelines(f"{json.dumps(row)}\n" for row in _rows(count))


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def _mb(size: int) -> float:
    return round(size / 1024 / 1024, 1)


def main(forms: list[str]) -> int:
    """Print a line for each form and size; fail if one takes too much."""
    is_good = True
    for form in forms or FORMS:
        for count in SIZES:
            command = [sys.executable, "-m", __spec__.name, "--one", str(count), form]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)  # noqa: S603
            line = done.stdout.splitlines()[-1]
            print(line)
            found = json.loads(line)
            is_good = (
                is_good
                and max(found[name] for name in found if name.endswith("_mb") and name != "before_mb") * 2**20
                <= MOST
            )
    return 0 if is_good else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        with tempfile.TemporaryDirectory() as temporary:
            print(json.dumps(measure(int(sys.argv[2]), sys.argv[3], Path(temporary))))
    else:
        sys.exit(main(sys.argv[1:]))
