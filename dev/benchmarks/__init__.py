# SPDX-License-Identifier: Apache-2.0
"""What imports and waits cost, beside the official provider's, and beside the least that they could cost."""
