# SPDX-License-Identifier: Apache-2.0
"""Typed answers: the schema of a type, and reading an answer as the type."""
