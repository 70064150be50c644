# SPDX-License-Identifier: Apache-2.0
"""Where a connection leads: what a server says of a run counts where the run was created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.runs.request import fingerprint
from airflow_provider_openai_runs.runs.text import message_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    A server, and as whom it is asked. A connection keeps its name when both change.

    :param address: of the server: scheme and host, since a path may hold a secret.
    :param key: a short hash of the path, the key, the organization, the project and the headers; empty where
        nobody knows.
    """

    address: str
    key: str = ""

    @classmethod
    def of(cls, address: str, *secrets: object) -> Account:
        """Take the short hash of what identifies a client beside the address; of nothing, there is none."""
        return cls(address=address, key=fingerprint({"key": secrets})["key"] if any(secrets) else "")

    def to_json(self) -> dict[str, str]:
        """Return the form that is stored in the record."""
        return {"address": self.address, "key": self.key}

    @classmethod
    def from_json(cls, value: object) -> Account | None:
        """Read the stored form; what cannot be read says nothing."""
        stored: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        address = stored.get("address")
        if not isinstance(address, str) or not address:
            return None
        return cls(address=message_text(address), key=str(stored.get("key") or ""))

    def differs_from(self, before: Account | None) -> str:
        """Say in what a connection leads elsewhere than ``before``, as far as is known; nothing if not."""
        if before is None:
            return ""
        if before.address != self.address:
            return f"it led to {before.address}, and leads to {self.address} now"
        if before.key and self.key and before.key != self.key:
            return f"at {self.address}, its key, organization, project or path is another one than it was"
        return ""
