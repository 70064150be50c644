# SPDX-License-Identifier: Apache-2.0
"""The items of a bulk task through the Batch API: files up, batches, files down; one worker needs no loop."""
