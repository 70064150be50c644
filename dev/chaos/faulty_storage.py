# SPDX-License-Identifier: Apache-2.0
"""
A storage that does what a file ``fault`` beside its files says: it fails, is slow, or can only be read.

It stands for an object store: a file appears when it is whole. Only processes that read the Dags know it, so
a task on it has to wait in its worker.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
from airflow.sdk.io import attach
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

PROTOCOL = "faulty"
FAULT = "fault"
SLOW_SECONDS = 3.0


class FaultyFileSystem(LocalFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """The files of this machine, behind a fault."""

    protocol = PROTOCOL

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return "/" + str(path).removeprefix(f"{PROTOCOL}://").strip("/")

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        """Write an object."""
        target = Path(self._meet(path, writes=True))
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        part.write_bytes(value)
        part.replace(target)

    def put_file(self, lpath: str, rpath: str, *_: Any, **__: Any) -> None:
        """Write an object from a file."""
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def cat_file(self, path: str, *args: Any, **options: Any) -> Any:
        """Read an object."""
        return super().cat_file(self._meet(path), *args, **options)

    def info(self, path: str, **options: Any) -> Any:
        """Tell of an object."""
        return super().info(self._meet(path), **options)

    def ls(self, path: str, *args: Any, **options: Any) -> Any:
        """List objects."""
        return super().ls(self._meet(path), *args, **options)

    def _open(self, path: str, *args: Any, **options: Any) -> Any:
        return super()._open(self._meet(path), *args, **options)

    def _meet(self, path: str, *, writes: bool = False) -> str:
        """Return the path on this machine, if the storage works."""
        path = self._strip_protocol(path)
        fault = next((p / FAULT for p in Path(path).parents if (p / FAULT).exists()), None)
        kind = fault.read_text() if fault is not None else ""
        if kind == "slow":
            time.sleep(SLOW_SECONDS)
        elif kind == "fails" or (kind == "read-only" and writes):
            raise OSError(f"the storage {'cannot be written' if kind == 'read-only' else 'is away'}")
        return path


def attach_faulty_storage() -> None:
    """Let paths that begin with ``faulty://`` be used in this process."""
    fsspec.register_implementation(PROTOCOL, FaultyFileSystem, clobber=True)
    attach(PROTOCOL, fs=FaultyFileSystem())
