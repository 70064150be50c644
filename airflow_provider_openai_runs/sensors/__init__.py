# SPDX-License-Identifier: Apache-2.0
"""The sensors; importing them does not import the OpenAI SDK."""
