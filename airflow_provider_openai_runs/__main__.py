# SPDX-License-Identifier: Apache-2.0
"""``python -m airflow_provider_openai_runs``: see ``airflow_provider_openai_runs.cli``."""

import sys

from airflow_provider_openai_runs.cli.main import run

sys.exit(run())
