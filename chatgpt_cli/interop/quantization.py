"""From a model folder to one with its weights in 8 or 4 bits."""

from __future__ import annotations

from pathlib import Path

import torch

from chatgpt_cli.errors import ModelError
from chatgpt_cli.files import atomic_path
from chatgpt_cli.interop.architectures import renames
from chatgpt_cli.interop.huggingface import load_model, save_model
from chatgpt_cli.model.quantized import Bits, expand, quantize


def write_quantized(
    folder: Path, target: Path, bits: Bits, *, stage: str | None = None
) -> tuple[int, int]:
    """Write `target`; the bytes of all weights in 32 bits, and as they are now.

    The matrices inside the blocks become whole numbers; the embedding, the output and
    the norms, whose errors would reach every token, are rounded to bfloat16.

    Args:
        stage: see `save_model`.

    Raises:
        ModelError: for a model whose matrices cannot be written so.
    """
    loaded = load_model(folder)
    model = loaded.model
    if not model.config.causal or renames(model.config):
        raise ModelError(
            "only models that transformers loads as Qwen or Llama can be quantized to a folder",
            place=str(folder),
            remedy="`chatgpt export --quant q8_0` writes a .gguf file; `--quantize int8` of "
            "generate and chat quantizes any model while it is loaded.",
        )
    expand(model)
    before = 4 * sum(parameter.numel() for parameter in model.parameters())
    try:
        quantize(model, bits)
    except ValueError as error:
        raise ModelError(
            f"a matrix cannot be written in {bits} bits: {error}",
            place=str(folder),
            remedy="Use --bits 8, which takes any size.",
        ) from error
    model.to(torch.bfloat16)
    with atomic_path(target) as path:
        save_model(model, loaded.tokenizer, path, stage=stage)
        after = (path / "model.safetensors").stat().st_size
    return before, after
