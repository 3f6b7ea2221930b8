"""Which language a text is written in."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from chatgpt_cli.errors import ConfigError

# How much of a text is looked at, in characters.
_LOOKED_AT = 500
_HAN = re.compile("[\u4e00-\u9fff]")
_KANA_OR_HANGUL = re.compile("[\u3040-\u30ff\uac00-\ud7af]")


def languages_of(texts: Sequence[str]) -> list[str]:
    """The ISO 639-1 code of each text's language.

    Chinese by its script, which is surer for short texts and fast; all else by the
    frequency of sequences of bytes (langid.py: Lui and Baldwin 2012), in the package py3langid.

    Raises:
        ConfigError: if that package is not installed.
    """
    return [_language(text[:_LOOKED_AT]) for text in texts]


def _language(beginning: str) -> str:
    han = len(_HAN.findall(beginning))
    # Japanese is written with kana between the Han characters.
    others = len(_KANA_OR_HANGUL.findall(beginning))
    if han and 6 * han >= len(beginning) and 10 * others < han:
        return "zh"
    return str(_model().classify(beginning)[0])


def check_languages(codes: Sequence[str]) -> None:
    """See that texts can be told to be in these languages.

    Raises:
        ConfigError: for an unknown code, or if a package is missing.
    """
    known = [str(code) for code in _model().labels]
    for code in codes:
        if code not in known:
            near = difflib.get_close_matches(code.lower(), known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"data.languages: {code!r} is not a language that is known",
                remedy=f"{hint}Known are {', '.join(sorted(known))}.",
            )


@cache
def _model() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ConfigError(
            "data.languages needs the package py3langid",
            remedy="Install it with: pip install 'chatgpt-cli[languages]'",
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE)
