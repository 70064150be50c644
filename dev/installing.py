# SPDX-License-Identifier: Apache-2.0
"""Show how far pip is, as ``python -m dev.installing COMMAND...``; in place where there is a terminal.

It runs by the Python that nothing is installed for yet, so it needs the standard library only.
"""

from __future__ import annotations

import subprocess
import sys
import time

SECONDS_BETWEEN_LINES = 10.0
STEPS = {"Collecting": "found", "Downloading": "fetched", "Using": "fetched", "Installing": "installing them"}
"""The first words of pip's lines."""


def main(command: list[str]) -> int:
    """Run the command and return its exit status; its output is shown if it fails."""
    began = shown_at = time.monotonic()
    in_place = sys.stdout.isatty()
    lines: list[str] = []
    packages = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:  # noqa: S603
        for line in pip.stdout or ():
            lines.append(line)
            first = (line.split() or [""])[0]
            packages += first == "Collecting"
            now = time.monotonic()
            if first in STEPS and (
                in_place or now > shown_at + SECONDS_BETWEEN_LINES or first == "Installing"
            ):
                shown_at = now
                text = f"  {now - began:3.0f} s  {packages} packages {STEPS[first]}"
                print(f"\r{text:<50}" if in_place else text, end="" if in_place else "\n", flush=True)
    if in_place:
        print()
    if pip.returncode:
        print("".join(lines[-40:]))
    else:
        print(f"  installed in {time.monotonic() - began:.0f} s")
    return pip.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
