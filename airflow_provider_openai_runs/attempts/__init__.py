# SPDX-License-Identifier: Apache-2.0
"""What one attempt of a task does behind its operator: own a run, wait, answer calls, finish, be killed."""
