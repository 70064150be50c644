# SPDX-License-Identifier: Apache-2.0
"""Break a live Airflow in every way, and count the runs that were paid for twice, orphaned or lost."""
