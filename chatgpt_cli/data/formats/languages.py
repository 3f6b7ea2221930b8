"""Languages, by the names that columns and files have, and by their script."""

from __future__ import annotations

import re

_HAN = re.compile("[\u4e00-\u9fff]")

LANGUAGES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "et": "Estonian",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sk": "Slovak",
    "sv": "Swedish",
    "sw": "Swahili",
    "ta": "Tamil",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "ur": "Urdu",
    "vi": "Vietnamese",
    "zh": "Chinese",
}
_BY_NAME = {name.lower(): name for name in LANGUAGES.values()} | {
    "中文": "Chinese",
    "汉语": "Chinese",
    "英文": "English",
    "英语": "English",
}


def language(name: str) -> str | None:
    """What a column or file ending such as "en", "zh-CN" or "chinese" stands for."""
    word = name.strip().lower()
    return _BY_NAME.get(word) or LANGUAGES.get(word.replace("_", "-").split("-")[0])


def is_chinese(text: str) -> bool:
    """Whether a Chinese character is in it."""
    return _HAN.search(text) is not None
