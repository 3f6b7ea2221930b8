"""For MkDocs: links to files of the repository, and Chinese text without spaces at line ends."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s]+)\)")
_CHINESE = r"[\u2018-\u201d\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"
_LINE_END = re.compile(rf"(?<={_CHINESE})\n *(?={_CHINESE})")
_FENCED = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links that leave docs/ become the text they had, and the path of the file.

    Browsers show a line's end inside a paragraph as a space, which Chinese does not have.
    """
    folder = posixpath.dirname(page.file.src_uri)

    def shown(link: re.Match[str]) -> str:
        target = link["target"].partition("#")[0]
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if not target or "://" in target or path.startswith("docs/"):
            return link[0]
        named = posixpath.basename(path) in link["text"] or path in link["text"]
        return f"{link['text']}" if named else f"{link['text']} (`{path}`)"

    parts = _FENCED.split(_LINK.sub(shown, markdown))
    return "".join(one if at % 2 else _LINE_END.sub("", one) for at, one in enumerate(parts))
