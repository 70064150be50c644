# SPDX-License-Identifier: Apache-2.0
"""The example Dags in a live Airflow: shown once with what becomes of them, or left running."""
