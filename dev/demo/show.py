# SPDX-License-Identifier: Apache-2.0
"""How the demo shows itself: in place on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dev.demo.board import MAPPED, Bar, Board, Line

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

SECONDS_BETWEEN_BARS = 10.0
"""How often plain lines say where the instances of a mapped task are."""
WIDTH = 40
COLOURS = {"in a worker": "yellow", "waiting": "cyan", "done": "green", "queued": "grey37"}


class Show(AbstractContextManager["Show"]):
    """Tells what happens, with the seconds since the show began; ``show`` brings the board up to date."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the show has lasted."""
        return time.monotonic() - self._began

    def tell(self, who: str, what: str) -> None:
        """Tell something that has happened."""
        raise NotImplementedError

    def show(self, board: Board) -> None:
        """Show where the tasks are now."""
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state where it is."""


class PlainShow(Show):
    """A line for each change; of a mapped task only now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[str, Line | Bar] = {}
        self._bar_at: dict[str, float] = {}

    def tell(self, who: str, what: str) -> None:
        """Print one line."""
        print(f"{self.seconds:6.1f} s  {who:<32} {what}", flush=True)

    def show(self, board: Board) -> None:
        """Print what has changed."""
        for line in board.lines.values():
            if self._shown.get(line.name) != line:
                self._shown[line.name] = line
                self.tell(line.name, str(line))
        for bar in board.bars.values():
            is_over = bar.counts.get("done", 0) == bar.total
            due = self.seconds >= self._bar_at.get(bar.name, 0.0) + SECONDS_BETWEEN_BARS
            if self._shown.get(bar.name) != bar and (due or is_over):
                self._shown[bar.name], self._bar_at[bar.name] = bar, self.seconds
                self.tell(bar.name, f"{bar}; workers held by all tasks: {board.held}")


class LiveShow(Show):
    """What has happened scrolls by; below it the board changes in place."""

    def __init__(self) -> None:
        from rich.live import Live  # noqa: PLC0415 # Airflow brings it

        super().__init__()
        self._live: Live = Live(refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        """Take over the end of the terminal."""
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        self._live.__exit__(kind, error, trace)

    def tell(self, who: str, what: str) -> None:
        """Print one line above the board."""
        from rich.text import Text  # noqa: PLC0415

        line = Text.assemble((f"{self.seconds:6.1f} s  ", "grey50"), (f"{who}  ", "bold"), what)
        self._live.console.print(line)

    def show(self, board: Board) -> None:
        """Draw the board again."""
        self._live.update(self._drawn(board))

    def _drawn(self, board: Board) -> Table:
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(
            title=f"{self.seconds:.0f} s   workers held: {board.held}",
            title_justify="left",
            show_header=False,
        )
        table.add_column(no_wrap=True)
        table.add_column()
        for line in board.lines.values():
            colour = next((c for what, c in COLOURS.items() if line.state.startswith(what)), "bold")
            table.add_row(line.name, Text(str(line), colour))
        for bar in board.bars.values():
            table.add_row(bar.name, _bar(bar))
        return table


def _bar(bar: Bar) -> Text:
    from rich.text import Text  # noqa: PLC0415

    parts = Text()
    ends = 0
    for what in reversed(MAPPED):
        begins, ends = ends, ends + bar.counts.get(what, 0)
        cells = WIDTH * ends // bar.total - WIDTH * begins // bar.total
        parts.append("█" * cells, COLOURS[what])
    return parts.append(f"\n{bar}")


def best_show() -> Show:
    """Return the show for where the output goes."""
    return LiveShow() if sys.stdout.isatty() else PlainShow()
