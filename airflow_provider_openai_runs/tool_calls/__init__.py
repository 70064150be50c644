# SPDX-License-Identifier: Apache-2.0
"""Answering a model's calls: Python functions that it may call, and a person's approval."""
