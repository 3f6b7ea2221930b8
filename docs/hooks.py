"""For MkDocs: pages link to files of the repository, which are not part of the site."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s]+)\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links that leave docs/ become the text they had, and the path of the file."""
    folder = posixpath.dirname(page.file.src_uri)

    def shown(link: re.Match[str]) -> str:
        target = link["target"].partition("#")[0]
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if not target or "://" in target or path.startswith("docs/"):
            return link[0]
        named = posixpath.basename(path) in link["text"] or path in link["text"]
        return f"{link['text']}" if named else f"{link['text']} (`{path}`)"

    return _LINK.sub(shown, markdown)
