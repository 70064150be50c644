# SPDX-License-Identifier: Apache-2.0
"""
Python functions that a model may call, and the typed output of a run.

A Dag file needs ``checks`` alone, which imports nothing but the standard library; the rest is for the worker.
"""
