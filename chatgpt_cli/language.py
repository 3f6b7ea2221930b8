"""The language of what people read.

The code writes plain English; where it is shown, `translator` finds the Chinese sentence
for it in a catalogue, which is loaded only if Chinese was chosen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, get_args

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

_CHOSEN: ContextVar[Language] = ContextVar("language", default="en")


# ------------------------------------------------------------------------- the choice


def preferred(environment: Mapping[str, str]) -> Language:
    """What CHATGPT_LANG says, else the locale: Chinese for any that begins with zh."""
    for name in ("CHATGPT_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if said := environment.get(name):
            return _language(said)
    if sys.platform == "win32":
        import locale

        return _language(locale.getlocale()[0] or "")
    return "en"


def _language(name: str) -> Language:
    # Windows writes Chinese (Simplified)_China.
    return "zh" if name.lower().startswith(("zh", "chinese")) else "en"


@contextmanager
def speaking(language: Language) -> Iterator[None]:
    """Let `chosen` be this language inside the block."""
    before = _CHOSEN.set(language)
    try:
        yield
    finally:
        _CHOSEN.reset(before)


def chosen() -> Language:
    """The language of the command that runs; English outside of one."""
    return _CHOSEN.get()


def translator() -> Callable[[str], str]:
    """What puts an English message into the chosen language.

    Threads do not inherit the choice: give them this function.
    """
    if chosen() == "en":
        return str
    from chatgpt_cli.catalogue import chinese

    return chinese().translate


def located(place: str | None, fact: str) -> str:
    """ "place: fact" in the chosen language."""
    if chosen() == "en":
        return f"{place}: {fact}" if place else fact
    from chatgpt_cli.catalogue import chinese

    return chinese().located(place, fact)
