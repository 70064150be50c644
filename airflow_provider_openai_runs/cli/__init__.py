# SPDX-License-Identifier: Apache-2.0
"""
The command line for the person who is paged at night.

``doctor`` tells whether all is in place, ``list`` what is running at OpenAI for this Airflow, and ``stop``
ends it. What Airflow knows is read through its REST API, with the rights of whoever asks.
"""
