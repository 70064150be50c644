# SPDX-License-Identifier: Apache-2.0
"""Start a process in a session of its own, signal all of it, and leave nothing of it behind."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dev.live.interrupts import held

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SECONDS_TO_STOP = 5.0
"""How long the processes may take to end by themselves before they are killed."""


class ProcessEndedError(RuntimeError):
    """A process ended that was meant to stay; the message carries the end of its output."""


@dataclass(eq=False)
class Process:
    """One long-running command, its output in a file, and everything it forks in its own session.

    Airflow's workers outlive the scheduler that started them, and its tasks leave the process group; but none
    of them leaves the session. So the session is what is signalled and what is swept at the end.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    cwd: Path | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def start(self) -> None:
        """Start the command; its output is appended, so that a restart keeps what was said before."""
        if self.is_alive():
            raise RuntimeError(f"{self.name} is already running")
        with self.log.open("ab") as output, held():
            self._process = subprocess.Popen(  # noqa: S603 - the commands are our own
                self.command,
                env=dict(self.env),
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            _started.add(self)

    @property
    def pid(self) -> int:
        """The id of the command's process, which is also the id of its session."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    def is_alive(self) -> bool:
        """Tell whether the command itself still runs."""
        return self._process is not None and self._process.poll() is None

    def check(self) -> None:
        """Raise ``ProcessEndedError`` if the command has ended."""
        if not self.is_alive():
            raise ProcessEndedError(f"{self.name} ended; the end of {self.log}:\n{self.tail()}")

    def tail(self, lines: int = 20) -> str:
        """Read the last lines of the output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def signal(self, signum: int) -> None:
        """Send a signal to the command's own process, as Kubernetes or systemd would."""
        if self.is_alive():
            os.kill(self.pid, signum)

    def signal_all(self, signum: int) -> None:
        """Send a signal to every process of the session, as if it struck the whole machine."""
        if self._process is not None:
            signal_sessions({self.pid}, signum)

    def wait(self, timeout: float) -> int:
        """Wait until the command has ended and return its exit code."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.wait(timeout)


_started: set[Process] = set()


def stop(processes: Iterable[Process], timeout: float = SECONDS_TO_STOP) -> None:
    """
    End the processes and everything in their sessions: ask all at once, wait, then kill what is left.

    :param timeout: seconds that they may take to end by themselves.
    """
    with held():
        _stop(_started & set(processes), timeout)


def _stop(started: set[Process], timeout: float) -> None:
    for process in started:
        process.signal(signal.SIGTERM)
        process.signal(signal.SIGCONT)  # one that was stopped could not hear the first
    deadline = time.monotonic() + timeout
    while any(process.is_alive() for process in started) and time.monotonic() < deadline:
        time.sleep(0.1)
    sessions = {process.pid for process in started}
    while members_of(sessions):  # again, for what was forked in between
        signal_sessions(sessions, signal.SIGKILL)
        for process in started:
            process.is_alive()  # reaps it
        time.sleep(0.05)
    for process in started:
        # A process whose first thread has ended counts as a zombie, and can only be reaped with its last one.
        process.wait(SECONDS_TO_STOP)
    _started.difference_update(started)


@atexit.register
def _stop_all() -> None:
    """Stop what an interrupt left behind that came right between a start and the block that would stop it."""
    stop(_started)


def members_of(sessions: set[int]) -> list[int]:
    """List the processes that belong to the sessions and have not ended."""
    found = []
    for pid in _all_pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) in sessions and not _is_zombie(pid):
                found.append(pid)
    return found


def signal_sessions(sessions: set[int], signum: int) -> None:
    """Send a signal to every process of the sessions."""
    for pid in members_of(sessions):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def _all_pids() -> list[int]:
    proc = Path("/proc")
    if (proc / "self").exists():
        return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()]
    listing = subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, check=True, text=True)  # noqa: S607
    return [int(line) for line in listing.stdout.split()]


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def free_port(preferred: int = 0) -> int:
    """Return a port nobody listens on: the preferred one if it is free, else any."""
    for port in (preferred, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise RuntimeError("no free port on 127.0.0.1")
