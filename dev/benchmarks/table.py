# SPDX-License-Identifier: Apache-2.0
"""Prints measurements as a table, with ratios to the floor and to the SDK's shared client."""

from __future__ import annotations

from typing import Any

_HEAD = (
    f"{'waits':>6} {'contender':9} {'interval':>8} | {'lag p50':>7} {'p95':>6} {'max':>6} {'late':>5} "
    f"{'lost':>5} | {'block s':>7} {'later':>5} {'total':>6} | {'KB/wait':>7} {'floor+':>6} | "
    f"{'ms/poll':>7} {'/floor':>6} {'/sdk':>5} | {'conns':>5} {'polls':>7}"
)

Figures = dict[str, Any]


class Table:
    """Rows that are printed as they come; put the floor of a size first, then the SDK."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, int], Figures] = {}
        print(_HEAD)
        print("-" * len(_HEAD))

    def row(self, figures: Figures) -> None:
        """Print one measurement."""
        waits = figures["waits"]
        self._of[figures["contender"], waits] = figures
        floor, sdk = self._of.get(("floor", waits)), self._of.get(("sdk", waits))
        kilobytes = figures["bytes_a_wait"] / 1024
        more = f"{kilobytes - floor['bytes_a_wait'] / 1024:+6.1f}" if floor else f"{'':6}"
        interval = f"{figures['interval']:.0f} s" if figures["interval"] else "grows"
        lags = "".join(f"{_seconds(figures[name]):>7}" for name in ("lag_p50", "lag_p95", "lag_max"))
        print(
            f"{waits:6} {figures['contender']:9} {interval:>8} | {lags} {figures['beyond']:5} "
            f"{figures['unfinished'] + len(figures['errors']):5} | {figures['longest_block']:7.2f} "
            f"{figures['later_block']:5.2f} {figures['blocked']:6.1f} | {kilobytes:7.1f} {more} | "
            f"{figures['cpu_ms_a_poll']:7.2f} {_ratio(figures, floor):>6} {_ratio(figures, sdk):>5} | "
            f"{figures['server']['most']:5} {figures['polls']:7}",
            flush=True,
        )
        for error in figures["errors"]:
            print(f"       error: {error}")

    def growth(self, few: int, many: int) -> None:
        """Print what a wait costs among many, beside what it costs among few."""
        if not {("ours", few), ("ours", many)} <= set(self._of):
            return
        first, last = self._of["ours", few], self._of["ours", many]
        cpu, memory = (last[name] / first[name] for name in ("cpu_ms_a_poll", "bytes_a_wait"))
        print(f"ours, {few} -> {many} waits: CPU a poll x {cpu:.2f}, memory a wait x {memory:.2f}")


def rates(per_second: list[int], *, since: int = 0) -> str:
    """Return requests a second, as the mean and the highest of every ten seconds."""
    tens = [per_second[start : start + 10] for start in range(since, len(per_second), 10)]
    cells = (f"{sum(ten) / len(ten):.0f} ({max(ten)})" for ten in tens)
    return "  ".join(f"{since + 10 * number}s: {cell}" for number, cell in enumerate(cells))


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _ratio(figures: Figures, other: Figures | None) -> str:
    return f"{figures['cpu_ms_a_poll'] / other['cpu_ms_a_poll']:.2f}" if other else ""
