"""Which text held-out data are: a hash of each document, whatever tokenizer it went through."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from chatgpt_cli.data.batch import Batch
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


class HeldOutText:
    """Passes held-out batches on, and notes the text of their documents.

    The documents are those of `document_losses`, which is to read the batches to their end.
    """

    def __init__(self, batches: Iterable[Batch], tokenizer: Tokenizer, *, causal: bool) -> None:
        """Args:
        batches: what is measured.
        tokenizer: gives the text back.
        causal: whether labels are the next tokens; else they are those that were hidden.
        """
        self._batches, self._tokenizer, self._causal = batches, tokenizer, causal
        # The tokens of the document that is being read.
        self._ids: list[int] = []
        self._hashes: list[str] = []
        self._measured = [False]

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            self._note(batch)
            yield batch

    def _note(self, batch: Batch) -> None:
        labels = batch.labels.flatten().numpy()
        ids = batch.input_ids.flatten().numpy()
        if not self._causal:
            ids = np.where(labels >= 0, labels, ids)
        starts = batch.begins.flatten().numpy().nonzero()[0]
        is_text = batch.segment_ids.flatten().numpy() > 0
        for index, (first, last) in enumerate(
            zip([0, *starts.tolist()], [*starts.tolist(), len(ids)], strict=True)
        ):
            if index:
                self._finish()
                self._measured.append(False)
            self._ids.extend(ids[first:last][is_text[first:last]].tolist())
            self._measured[-1] |= bool((labels[first:last] >= 0).any())

    def _finish(self) -> None:
        text = self._tokenizer.decode(self._ids).encode()
        self._hashes.append(hashlib.sha256(text).hexdigest() if text else "")
        self._ids = []

    def hashes(self) -> tuple[list[str], list[bool]]:
        """Of each document the SHA-256 of its text ("" of none), and whether it has a target."""
        if len(self._hashes) < len(self._measured):
            self._finish()
        return self._hashes, self._measured


def in_text_order(
    documents: np.ndarray, hashes: Sequence[str], measured: Sequence[bool]
) -> tuple[np.ndarray, str]:
    """Losses in an order that the texts alone decide, and one SHA-256 of all texts.

    Rows are packed by their length in tokens, so another tokenizer has them in another
    order; sorted by their hashes, the documents of two models are pairs.

    Args:
        documents: (documents with a target, n), as `document_losses` gives them.
        hashes: of all documents.
        measured: of all documents, whether there is a target.
    """
    own = [one for one, has in zip(hashes, measured, strict=True) if has]
    order = sorted(range(len(own)), key=own.__getitem__)
    whole = " ".join(sorted(filter(None, hashes)))
    return documents[order], hashlib.sha256(whole.encode()).hexdigest()
