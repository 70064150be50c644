# SPDX-License-Identifier: Apache-2.0
"""A throwaway Airflow on this machine, and what to show with it. Not part of the installed package."""
