# SPDX-License-Identifier: Apache-2.0
"""Tools for those who change the package; they are not installed with it. ``make help`` lists them."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository; who runs a module of ``dev`` elsewhere needs it in ``PYTHONPATH``."""
