"""The special tokens and their fixed ids, the same in every file that names them."""

PAD, UNK, BOS, EOS, CLS, SEP, MASK, SYSTEM, USER, ASSISTANT, TOOL, END = range(12)

SPECIAL_TOKENS: tuple[str, ...] = (
    "[PAD]",
    "[UNK]",
    "[BOS]",
    "[EOS]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|end|>",
)
