# SPDX-License-Identifier: Apache-2.0
"""
Show how far pip is: ``python -m dev.installing COMMAND...``, each second on a terminal, else now and then.

It runs by a Python that nothing is installed for yet, so it needs the standard library only.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """What pip has said so far."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.packages = 0
        self.doing = "found"

    def read(self, pip: subprocess.Popen[str]) -> None:
        """Read its lines to the end."""
        for line in pip.stdout or ():
            self.lines.append(line)
            self.packages += line.startswith("Collecting ")
            if line.startswith("Installing collected"):
                self.doing = "are being installed"


def main(command: list[str]) -> int:
    """Run the command and return its exit status; its output is shown if it fails."""
    began = shown_at = time.monotonic()
    in_place = sys.stdout.isatty()
    progress = Progress()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:  # noqa: S603
        reader = threading.Thread(target=progress.read, args=(pip,))
        reader.start()
        while reader.is_alive():
            reader.join(1.0)
            now = time.monotonic()
            if in_place or now >= shown_at + SECONDS_BETWEEN_LINES:
                shown_at = now
                text = f"  {now - began:3.0f} s  {progress.packages} packages {progress.doing}"
                print(f"\r{text:<50}" if in_place else text, end="" if in_place else "\n", flush=True)
    if in_place:
        print()
    if pip.returncode:
        print("".join(progress.lines[-40:]))
    else:
        print(f"  installed in {time.monotonic() - began:.0f} s")
    return pip.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
