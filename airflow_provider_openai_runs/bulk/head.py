# SPDX-License-Identifier: Apache-2.0
"""What a generation of a bulk task began with; every later attempt has to begin with the same."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_openai_runs.bulk.inputs import InputHead
from airflow_provider_openai_runs.bulk.storage import HEAD, StorageFolder
from airflow_provider_openai_runs.runs.account import Account
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.usage import Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskHead:
    """
    What is known before the first create.

    :param conn_id: by which the runs are created, and ended.
    :param account: where that connection led; None where an earlier version did not say.
    :param began_at: Unix seconds, of the generation's first attempt.
    :param fingerprint: a short hash of each of the operator's arguments, by name.
    :param task: ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
    :param before: what the runs of earlier generations have said.
    :param token_prefix: what the tokens of all its creates begin with.
    """

    conn_id: str
    input: InputHead
    began_at: float
    fingerprint: Mapping[str, str]
    task: Mapping[str, Any] = field(default_factory=dict)
    token_prefix: str = ""
    before: Totals = field(default_factory=Totals)
    account: Account | None = None

    def token_of(self, row: int, creates: int) -> str:
        """
        Return the token of a create, which its run has in its metadata.

        :param creates: how many creates of the row there were before.
        """
        return f"{self.token_prefix}{row}.{creates}"

    def token_of_batch(self, batches: int) -> str:
        """
        Return a token for a batch, which it has in its metadata; another one each time.

        The journal keeps it. One of names alone comes back with a Dag run that is deleted and made again.

        :param batches: how many batches there were before it.
        """
        return f"{self.token_prefix}batch.{batches}.{secrets.token_hex(6)}"

    def to_bytes(self) -> bytes:
        """Return the form that is stored."""
        values = {
            "conn_id": self.conn_id,
            "began_at": self.began_at,
            "input": self.input.to_json(),
            "fingerprint": dict(self.fingerprint),
            "task": dict(self.task),
            "token_prefix": self.token_prefix,
            "before": self.before.to_json(),
            "account": self.account and self.account.to_json(),
        }
        return json.dumps(values, indent=1).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> TaskHead:
        """
        Read the stored form.

        :raises ValueError: if it is none.
        """
        try:
            value = json.loads(content)
            return cls(
                conn_id=str(value["conn_id"]),
                began_at=float(value["began_at"]),
                input=InputHead.from_json(value["input"]),
                fingerprint=dict(value["fingerprint"]),
                task=dict(value["task"]),
                token_prefix=str(value["token_prefix"]),
                before=Totals.from_json(value.get("before")),
                account=Account.from_json(value.get("account")),
            )
        except (LookupError, TypeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None


def begin(
    folder: StorageFolder, head: TaskHead, account: Callable[[], Account | None] = lambda: None
) -> TaskHead:
    """
    Write what a generation begins with, or return what an earlier attempt of it has begun with.

    :param head: of this attempt.
    :param account: says where its connection leads, for what begins now.
    :return: the one that counts; where its fingerprint differs, the operator was changed in between.
    :raises RunRequestError: if the input is another one by now; nothing was sent by this attempt.
    :raises RunStorageError: if the storage does not give or take it.
    """
    try:
        content = folder.read(HEAD)
    except FileNotFoundError:
        head = replace(head, account=account())
        folder.write(head.to_bytes(), HEAD)
        return head
    try:
        kept = TaskHead.from_bytes(content)
    except ValueError as error:
        raise RunRequestError(
            f"{folder.uri_of(HEAD)} cannot be read ({error}), so nobody can tell whether the input is the "
            "same. This attempt has sent nothing. Clear the task to begin anew."
        ) from None
    if kept.input != head.input:
        raise RunRequestError(
            f"The input has changed since the first attempt ({_differences(kept.input, head.input)}), so its "
            "rows may be others. This attempt has sent nothing. Put the input back, or clear the task to "
            "begin anew with what is there."
        )
    return kept


def _differences(before: InputHead, now: InputHead) -> str:
    one, other = before.to_json(), now.to_json()
    return ", ".join(f"{name} was {one[name]}, is {other[name]}" for name in one if one[name] != other[name])
