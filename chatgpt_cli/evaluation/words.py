"""A phrase in both languages of the reports."""

from __future__ import annotations

from html import escape
from typing import NamedTuple


class Words(NamedTuple):
    """The same in English and in Chinese."""

    en: str
    zh: str

    def html(self) -> str:
        """Both, of which the page shows the one that is chosen."""
        if self.en == self.zh:
            return escape(self.en)
        return (
            f'<span class="en" lang="en">{escape(self.en)}</span>'
            f'<span class="zh" lang="zh">{escape(self.zh)}</span>'
        )


def same(text: str) -> Words:
    """A name that is the same in both."""
    return Words(text, text)


def message(text: str) -> Words:
    """A message of the program in both languages, given the English."""
    from chatgpt_cli.catalogue import chinese

    return Words(text, chinese().translate(text))


STAGE_NAMES = {
    "pretrain": Words("Pretraining", "预训练"),
    "finetune": Words("Finetuning", "微调"),
    "prefer": Words("Preferences", "偏好训练"),
    "reinforce": Words("Reinforcement", "强化学习"),
}
