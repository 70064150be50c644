# SPDX-License-Identifier: Apache-2.0
"""The faults of an Airflow of many hosts: ``make chaos ARGS="--executor celery"``."""
