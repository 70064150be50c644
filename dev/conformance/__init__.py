# SPDX-License-Identifier: Apache-2.0
"""One suite of the client side against servers that nobody here wrote. Not part of the installed package."""
