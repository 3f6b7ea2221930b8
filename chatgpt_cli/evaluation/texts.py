"""Texts of the user's own that a model is measured on, besides what training kept aside."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from chatgpt_cli.config.schema import Config, TextSection
from chatgpt_cli.data.documents import read_documents
from chatgpt_cli.data.loader import HeldOutWindows
from chatgpt_cli.data.problems import Problem, ProblemLog
from chatgpt_cli.data.shards import Borders
from chatgpt_cli.data.sources import find_files
from chatgpt_cli.errors import DataError
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class EncodedText:
    """A text's documents as one stream of tokens in memory, each with its borders.

    Attributes:
        ids: (tokens,).
        borders: the tokens before and after each document.
        sha256: of the documents as they were read, the same for every tokenizer.
    """

    ids: np.ndarray
    borders: Borders
    sha256: str

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents."""
        return len(self.ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Token ids from `start` to before `stop`."""
        return self.ids[start:stop]


def read_text(section: TextSection, config: Config, tokenizer: Tokenizer) -> EncodedText:
    """Read and encode a text by the rules for `data.sources`; nothing is judged or left out.

    Raises:
        DataError: if a file is missing or cannot be used, or there is no text.
    """
    problems = ProblemLog(config.data.on_error, "data.on_error")
    digest = hashlib.sha256()
    pieces = []
    for source in section.data:
        for file in find_files(source.path):
            for item in read_documents(file, source, config.data):
                if isinstance(item, Problem):
                    problems.add(item)
                elif item.text.strip():
                    digest.update(hashlib.sha256(item.text.encode()).digest())
                    ids = tokenizer.document(tokenizer.encode(item.text))
                    pieces.append(np.array(ids, dtype=np.uint32))
    problems.check()
    if not pieces:
        raise DataError(
            "there is no text in these files",
            place=", ".join(source.path for source in section.data),
            remedy="Name files with text under evaluate.texts.",
        )
    borders = Borders(tokenizer.bos_id, tokenizer.eos_id)
    return EncodedText(np.concatenate(pieces), borders, digest.hexdigest())


def text_windows(text: EncodedText, length: int) -> HeldOutWindows:
    """The text in the windows that the held-out evaluation has, `length` tokens each."""
    return HeldOutWindows(
        text, batch_size=max(1, 8192 // length), sequence_length=length, max_tokens=None
    )
