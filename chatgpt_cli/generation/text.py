"""Text as it grows token by token, up to the first stop string."""

from __future__ import annotations

from chatgpt_cli.tokenizer.tokenizer import StreamDecoder, Tokenizer


class StoppingText:
    """Decodes tokens one by one and ends before the first stop string.

    A stop string is found wherever token borders lie in it. Text that may turn out
    to be the beginning of one is held back until that is known.

    Attributes:
        value: the text given out so far.
        stopped: whether a stop string was reached.
    """

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...]) -> None:
        self._decoder = StreamDecoder(tokenizer)
        self._stop = stop
        self._held = ""
        self.value = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; returns the text that is now certain."""
        return self._take(self._decoder.push(token))

    def flush(self) -> str:
        """No more tokens will come; returns what was held back."""
        if self.stopped:
            return ""
        certain = self._take(self._decoder.flush())
        if not self.stopped:
            certain += self._held
            self.value += self._held
            self._held = ""
        return certain

    def _take(self, text: str) -> str:
        text = self._held + text
        found = [position for stop in self._stop if (position := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            text, self._held = text[: min(found)], ""
        else:
            held = max((_overlap(text, stop) for stop in self._stop), default=0)
            text, self._held = text[: len(text) - held], text[len(text) - held :]
        self.value += text
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
