# SPDX-License-Identifier: Apache-2.0
"""What has to be true of a wheel and an sdist before they are published: ``make release-check``."""
