# SPDX-License-Identifier: Apache-2.0
"""
What a package index shows: the addresses, and a README whose links lead somewhere outside of the repository.

The addresses stand once, in ``pyproject.toml``; ``make address`` sets them. Without one links stay relative.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: A Markdown link, or a picture, to a file of the repository.
_LINK = re.compile(r"(!?)\]\((?!https?:|#)([^)\s]+)\)")


class AddressHook(MetadataHookInterface):  # type: ignore[misc, unused-ignore]  # untyped
    """Fills in ``urls`` and ``readme``, the two dynamic fields that depend on the addresses."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Write both fields."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository = self.config.get("repository", "").rstrip("/")
        metadata["readme"] = {"content-type": "text/markdown", "text": with_links(text, repository)}
        if repository:
            metadata["urls"] = urls(repository, self.config.get("documentation", ""))


def urls(repository: str, documentation: str) -> dict[str, str]:
    """Return what a package index lists beside the description."""
    return {
        "Documentation": documentation or f"{repository}/blob/main/docs/index.md",
        "Source": repository,
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
        "Security": f"{repository}/security/policy",
    }


def with_links(text: str, repository: str) -> str:
    """Return the text with links to files made absolute; as it is without a repository."""
    if not repository:
        return text
    return _LINK.sub(lambda found: f"{found[1]}]({repository}/blob/main/{found[2]})", text)
