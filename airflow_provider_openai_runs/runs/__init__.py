# SPDX-License-Identifier: Apache-2.0
"""What a run is and what to do about it: no Airflow, no network, no clock, only the standard library."""
