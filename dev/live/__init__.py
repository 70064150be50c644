# SPDX-License-Identifier: Apache-2.0
"""A throwaway Airflow of real processes on this machine, which the tools share."""

from dev.live.airflow import PASSWORD, USER, LiveAirflow

__all__ = ["PASSWORD", "USER", "LiveAirflow"]
