# SPDX-License-Identifier: Apache-2.0
"""What an attempt by batches has to do next, one thing at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_provider_openai_runs.bulk.events import Asked, Event
from airflow_provider_openai_runs.bulk.items import ItemState
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.runs.ceiling import Amount
from airflow_provider_openai_runs.wire.batches import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFile:
    """
    A file of requests that the server has.

    :param rows: ranges of rows, in the order of its lines.
    :param size: its bytes.
    :param custom_ids: labels of its rows, where they have one.
    :param asked: what their price goes by, where there are prices.
    :param reserved: what they may take at most, where there is a ceiling.
    """

    id: str
    rows: tuple[tuple[int, int], ...]
    size: int = 0
    custom_ids: Mapping[int, str] = field(default_factory=dict)
    asked: Mapping[int, Asked] = field(default_factory=dict)
    reserved: Mapping[int, Amount] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Build:
    """Write the next file of requests from the input, and upload it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Commit an event to the journal."""

    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """
    Send the create of a batch, once.

    :param until: Unix seconds by which it has to leave.
    """

    batch: SentBatch
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """Find a batch whose create has no answer, by its token."""

    batch: SentBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """Ask how a batch is doing."""

    batch: SentBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Ask a batch to end."""

    batch: SentBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect:
    """
    Read what a batch that has ended has written, and give each of its rows a final word, or another chance.

    :param cut_off: why what it has not executed is not sent again; None where that may be.
    """

    batch: SentBatch
    seen: Batch
    cut_off: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """
    Give all rows of a batch a final word: nobody can read its results.

    :param may_be_billed: whether it may have executed something.
    """

    batch: SentBatch
    state: ItemState
    error: str
    may_be_billed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """
    Do nothing until then.

    :param until: Unix seconds.
    :param may_defer: whether all that is known is in the journal, so that a trigger may wait instead.
    :param create_at: Unix seconds at which a batch may be created again; None if there is none to create.
    """

    until: float
    may_defer: bool
    create_at: float | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to be done, or nothing that this attempt may do."""


#: What is done, and reported.
Work = Build | Commit | Send | Find | Poll | Cancel | Collect | GiveUp
Command = Work | Wait | Done
