# SPDX-License-Identifier: Apache-2.0
"""
The storage that a user names by a path: a folder, or a bucket behind a connection of Airflow's.

A file is there whole or not at all, also when the worker is killed: in a folder it is written under another
name first, to an object store it is sent as one object. To do it again writes the same file.
"""

from __future__ import annotations

import inspect
import io
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_openai_runs.runs.errors import RunRequestError, RunStorageError
from airflow_provider_openai_runs.runs.text import message_text

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.types import Logger

_FOLDERS = frozenset({"", "file", "local"})
#: File systems with names that can be changed; the others are object stores, which show an object when it is
#: complete.
_RENAMING = frozenset({"sftp", "ssh", "hdfs", "webhdfs", "smb", "ftp", "dbfs"})
#: How much of a file that it sends a file system may hold in memory, where it has such an option.
_UPLOAD = {"chunksize": 8 * 1024 * 1024, "max_concurrency": 1}
_PART = ".part"
#: Bytes that are read at once.
_READ_AHEAD = 1024 * 1024
#: A path that is relative to wherever its worker runs; before an @ stands a connection.
_RELATIVE_FILE = re.compile(r"file://(?!/)(?![^/@]*@/)")


class OutputStore:
    """
    Writes and reads files below a path; threads may share it.

    :param path: any that Airflow's ``ObjectStoragePath`` takes, with its connection if it needs one:
        ``s3://my_aws@bucket/folder``.
    :param argument: the operator's, for errors.
    :raises RunRequestError: if there is no such storage, or no such connection.
    :raises RunStorageError: if it cannot be opened for another reason, which may pass.
    """

    def __init__(self, path: str, *, log: Logger, argument: str = "output_path") -> None:
        self._path = path
        self._log = log
        self._argument = argument
        self._root, self._fs = self._opened()

    def _opened(self) -> tuple[ObjectStoragePath, Any]:
        if "://" not in self._path and not self._path.startswith("/"):
            raise self._refused("it must be a URI such as s3://my_aws@bucket/folder, or an absolute path")
        if _RELATIVE_FILE.match(self._path):
            raise self._refused("its path must be absolute, as in file:///folder: workers have other folders")
        from airflow.providers.common.compat.sdk import (  # noqa: PLC0415 # with the next one
            AirflowNotFoundException,
            BaseHook,
        )
        from airflow.sdk import ObjectStoragePath  # noqa: PLC0415 # fsspec; most tasks do without

        try:
            root = ObjectStoragePath(self._path)
            # Below Airflow 3.2 it is an option of the storage.
            conn_id = getattr(root, "conn_id", None) or root.storage_options.get("conn_id")
            if conn_id:
                # Some providers go on without a connection that is missing, as whoever the machine is.
                BaseHook.get_connection(conn_id)
            opened = root, root.fs
        except (AirflowNotFoundException, ImportError, ValueError) as error:
            raise self._refused(f"it cannot be opened: {_text(error)}") from None
        except Exception as error:  # noqa: BLE001 # of Airflow, of a provider, of a library behind it
            raise RunStorageError(
                f"{self._argument}={self._shown!r} cannot be opened: {_text(error)}. Nothing was sent."
            ) from None
        return opened

    def _refused(self, why: str) -> RunRequestError:
        return RunRequestError(f"{self._argument}={self._shown!r}: {why}. Nothing was sent.")

    @property
    def _shown(self) -> str:
        """The path as a message shows it: what stands before an @ is a connection's id, or a secret."""
        scheme, mark, rest = self._path.partition("://")
        conn_id, at, where = rest.partition("@")
        if not mark or not at or not conn_id.replace("_", "").replace("-", "").isalnum():
            return message_text(self._path)
        return f"{message_text(scheme)}://{message_text(conn_id)}@{message_text(where)}"

    @property
    def _is_folder(self) -> bool:
        return self._root.protocol in _FOLDERS

    def check(self) -> None:
        """
        Find out as cheaply as possible whether anything can be written, before a run is paid for.

        :raises RunRequestError: if the bucket does not exist.
        :raises RunStorageError: if the folder cannot be written.
        """
        if self._is_folder:
            with self._errors("written to", "Nothing was created"):
                folder = Path(self._root.path)
                folder.mkdir(parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError("it is not writable")
            return
        bucket = self._root.path.lstrip("/").partition("/")[0]
        try:
            self._fs.info(bucket)
        except FileNotFoundError as error:
            raise self._refused(f"there is no {bucket!r}: {_text(error)}") from None
        except Exception as error:  # noqa: BLE001 # a key may be allowed to write and nothing else
            self._log.info(
                "Could not check %s before the run is created (%s); it is created all the same, and "
                "a retry of this task would write its files",
                self._argument,
                _text(error),
            )

    def put(self, local: Path, *names: str) -> str:
        """
        Write a file, whole or not at all, in place of one that is there, and return its URI.

        :param local: what to write.
        :param names: its folders and its name below the path.
        :raises RunStorageError: if the storage does not take it.
        """
        target = self._root.joinpath(*names)
        with self._errors("written to", "A retry goes on with the same run and writes all of it again"):
            if self._is_folder:
                _copy(local, Path(target.path))
            elif self._root.protocol in _RENAMING:
                self._put_and_rename(local, target.path)
            else:
                self._fs.put_file(str(local), target.path, **self._upload_settings())
        return str(target)

    def write(self, content: bytes, *names: str) -> str:
        """
        Write a small file, whole or not at all, in place of one that is there, and return its URI.

        :raises RunStorageError: if the storage does not take it; the same may be written again.
        """
        target = self._root.joinpath(*names)
        with self._errors("written to", "The same is written again"):
            if self._is_folder:
                _write(content, Path(target.path))
            elif self._root.protocol in _RENAMING:
                folder, _, name = target.path.rpartition("/")
                part = f"{folder}/.{name[:100]}.{secrets.token_hex(4)}{_PART}"
                self._fs.makedirs(folder, exist_ok=True)
                self._fs.pipe_file(part, content)
                self._move(part, target.path)
            else:
                self._fs.pipe_file(target.path, content)
        return str(target)

    def read(self, *names: str) -> bytes:
        """
        Read a file.

        :raises FileNotFoundError: if there is none.
        :raises RunStorageError: if the storage does not give it.
        """
        with self._reading():
            found: bytes = self._fs.cat_file(self._root.joinpath(*names).path)
        return found

    def open(self, *names: str) -> IO[bytes]:
        """
        Open a file to read it in pieces; without names, the path itself.

        :raises FileNotFoundError: if there is none.
        :raises RunStorageError: if the storage does not give it.
        """
        path = self._root.joinpath(*names).path
        with self._reading():
            self._fs.invalidate_cache(path.rpartition("/")[0])
            opened = self._fs.open(path, "rb")
        # Not every file system's file reads lines of at most so many bytes.
        return io.BufferedReader(opened, _READ_AHEAD)

    def info(self, *names: str) -> dict[str, Any]:
        """
        Return what the storage says of a file as it is now, not as a listing knew it.

        :raises FileNotFoundError: if there is none.
        :raises RunStorageError: if the storage does not say it.
        """
        path = self._root.joinpath(*names).path
        with self._reading():
            self._fs.invalidate_cache(path.rpartition("/")[0])
            return dict(self._fs.info(path))

    def names(self, *names: str) -> list[str]:
        """
        Return the names in a folder, in their order; none of one that is not there.

        :raises RunStorageError: if the storage does not give them.
        """
        path = self._root.joinpath(*names).path
        with suppress(FileNotFoundError), self._reading():
            self._fs.invalidate_cache(path)
            found = self._fs.ls(path, detail=False)
            return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in found)
        return []

    def uri(self, *names: str) -> str:
        """Return the URI of a file, with the id of its connection."""
        return str(self._root.joinpath(*names))

    def _upload_settings(self) -> dict[str, Any]:
        known = inspect.signature(getattr(self._fs, "_put_file", self._fs.put_file)).parameters
        return {name: value for name, value in _UPLOAD.items() if name in known}

    def _put_and_rename(self, local: Path, target: str) -> None:
        folder, _, name = target.rpartition("/")
        part = f"{folder}/.{name[:100]}.{secrets.token_hex(4)}{_PART}"
        self._fs.makedirs(folder, exist_ok=True)
        self._fs.put_file(str(local), part)
        self._move(part, target)

    def _move(self, part: str, target: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm_file(target)  # not every one of them renames onto a name that is taken
        self._fs.mv(part, target)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        missing = None
        with self._errors("read", "A retry reads it again"):
            try:
                yield
            except FileNotFoundError as error:
                missing = error
        if missing is not None:
            raise FileNotFoundError(message_text(missing)) from None

    @contextmanager
    def _errors(self, doing: str, next_step: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 # of whichever library
            raise RunStorageError(
                f"{self._shown} could not be {doing}: {_text(error)}. {next_step}."
            ) from None


def _copy(source: Path, target: Path) -> None:
    """Copy a file whole or not at all, and remove what attempts have left that were killed meanwhile."""
    _make_folder(target.parent)
    mark = _mark(target)
    left_behind = [path for path in target.parent.iterdir() if path.name.startswith(mark)]
    with source.open("rb") as given, _whole(target) as written:
        shutil.copyfileobj(given, written, 1024 * 1024)
    for path in left_behind:
        if path.suffix == _PART:
            path.unlink(missing_ok=True)


def _write(content: bytes, target: Path) -> None:
    _make_folder(target.parent)
    with _whole(target) as written:
        written.write(content)


@contextmanager
def _whole(target: Path) -> Iterator[IO[bytes]]:
    """Open a file beside its place; at the end make sure that it is on the disk, and move it there."""
    part = target.with_name(f"{_mark(target)}{secrets.token_hex(4)}{_PART}")
    try:
        with part.open("xb") as written:
            yield written
            written.flush()
            os.fsync(written.fileno())
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync(target.parent)


def _mark(target: Path) -> str:
    """Return how the names of parts begin that shall become a file."""
    return f".{target.name[:100]}."


def _make_folder(folder: Path) -> None:
    """Make sure that a folder is there, and on the disk with those above it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _text(error: Exception) -> str:
    return message_text(f"{type(error).__name__}: {error}")
