# SPDX-License-Identifier: Apache-2.0
"""What the Airflow has that the tests run on; to be imported once conftest.py has set its environment."""

from __future__ import annotations

import airflow.sdk
import pytest

#: Whether there is a task state store: then a run survives its attempt, and bulk tasks and ceilings work.
HAS_STORE = hasattr(airflow.sdk, "NEVER_EXPIRE")

needs_store = pytest.mark.skipif(not HAS_STORE, reason="Airflow has a task state store from 3.3 on")
