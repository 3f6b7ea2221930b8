"""The one exception type that users of this package need to catch."""

from __future__ import annotations


class ChatGPTError(Exception):
    """Something the user can act on: what is wrong, where, and what to do about it.

    The command line prints it without a traceback (``--debug`` shows one) and exits
    with `exit_code`: 1 for work that failed, 2 for bad usage or configuration.
    """

    exit_code = 1

    def __init__(self, fact: str, *, place: str | None = None, remedy: str | None = None) -> None:
        """Args:
        fact: what is wrong, one sentence.
        place: the file, line, key or row where it is wrong.
        remedy: what to do, one or two sentences.
        """
        super().__init__(fact)
        self.fact = fact
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.fact if self.place is None else f"{self.place}: {self.fact}"]
        if self.remedy:
            parts.append(self.remedy)
        return "\n".join(parts)


class ConfigError(ChatGPTError):
    """The configuration, or the way the command was called, is wrong."""

    exit_code = 2


class DataError(ChatGPTError):
    """A file, row or document cannot be used."""


class ModelError(ChatGPTError):
    """A model or tokenizer folder cannot be used."""


class TrainingError(ChatGPTError):
    """Training cannot go on."""


class ProcessLost(TrainingError):
    """Another process of several is gone or does not answer: a new start may help."""

    # EX_TEMPFAIL of sysexits.h.
    exit_code = 75


class ProcessMissing(ProcessLost):
    """Not all of several processes came. Each that did says so: the first may be missing."""
