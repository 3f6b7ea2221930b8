"""Text that comes through standard input."""

from __future__ import annotations

from chatgpt_cli.errors import DataError


def checked(text: str) -> str:
    """What was read, without a byte order mark.

    Raises:
        DataError: if there are bytes that are not UTF-8, which Python keeps as surrogates.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"not UTF-8 (character {error.start + 1})",
            place="standard input",
            remedy="Pipe in UTF-8: iconv -f GBK -t UTF-8 converts.",
        ) from None
    return text.removeprefix("\ufeff")
