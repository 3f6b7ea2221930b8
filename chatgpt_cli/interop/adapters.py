"""Adapters on disk, in the form of Hugging Face's PEFT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from chatgpt_cli.errors import ModelError
from chatgpt_cli.files import atomic_path, write_json
from chatgpt_cli.interop.architectures import renames
from chatgpt_cli.model.lora import Adapter, adapter_weights, add_adapter
from chatgpt_cli.model.transformer import Transformer

CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# PEFT wraps the model twice.
_PREFIX = "base_model.model."


def save_adapter(model: Transformer, adapter: Adapter, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors.

    PEFT reads them for Llama and Qwen models. GPT-2 keeps queries, keys and values in
    one matrix there, where ours are three: such an adapter is for this program, until
    it is merged.
    """
    tensors = {
        _saved_name(name): tensor.detach().cpu().contiguous()
        for name, tensor in adapter_weights(model).items()
    }
    with atomic_path(folder / _WEIGHTS) as path:
        save_file(tensors, path, metadata={"format": "pt"})
    present = sorted({name.split(".")[-3] for name in tensors if ".lora_" in name})
    tables = ["embed_tokens"] if model.config.tie_embeddings else ["embed_tokens", "lm_head"]
    tokens = {table: list(adapter.tokens) for table in tables} if adapter.tokens else None
    write_json(
        folder / CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": adapter.base,
            "r": adapter.rank,
            "lora_alpha": adapter.alpha,
            "lora_dropout": adapter.dropout,
            "target_modules": present,
            "trainable_token_indices": tokens,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
        },
    )


def read_adapter(folder: Path) -> Adapter | None:
    """What a folder says of its adapter, None if it holds none.

    Raises:
        ModelError: if that cannot be read or is of another kind.
    """
    path = folder / CONFIG
    if not path.is_file():
        return None
    try:
        contents: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if contents.get("peft_type", "LORA") != "LORA" or contents.get("use_dora"):
            raise ModelError("only LoRA adapters are supported", place=str(path))
        if contents.get("rank_pattern") or contents.get("alpha_pattern"):
            raise ModelError(
                "matrices with ranks or alphas of their own are not supported", place=str(path)
            )
        targets = contents["target_modules"]
        rank, alpha = int(contents["r"]), float(contents["lora_alpha"])
        return Adapter(
            rank=rank,
            # rsLoRA divides by the root of the rank (Kalajdzievski 2023).
            alpha=alpha * rank**0.5 if contents.get("use_rslora") else alpha,
            dropout=float(contents.get("lora_dropout", 0.0)),
            targets=tuple([targets] if isinstance(targets, str) else targets),
            base=str(contents["base_model_name_or_path"]),
            tokens=_tokens(contents.get("trainable_token_indices") or []),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the adapter's description cannot be read ({error})", place=str(path)
        ) from error


def _tokens(indices: list[int] | dict[str, list[int]]) -> tuple[int, ...]:
    """PEFT has a list for the embedding, or one for each table; ours are alike.

    Raises:
        ValueError: if the tables' are not.
    """
    lists = list(indices.values()) if isinstance(indices, dict) else [indices]
    if any(one != lists[0] for one in lists):
        raise ValueError("the tokens that were trained differ between input and output")
    return tuple(int(token) for token in lists[0]) if lists else ()


def _saved_name(name: str) -> str:
    """PEFT's name of a trained tensor."""
    table = name.removesuffix(".lora_rows")
    if table != name:
        return f"{_PREFIX}{table}.token_adapter.trainable_tokens_delta"
    return f"{_PREFIX}{name}.weight"


def put_on(model: Transformer, adapter: Adapter, folder: Path) -> None:
    """Add the adapter of a folder to its model, ready to be trained on or merged.

    Raises:
        ModelError: if its weights are missing, damaged or do not fit the model.
    """
    path = folder / _WEIGHTS
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"the adapter's weights cannot be read ({error})",
            place=str(path),
            remedy="Copy the folder again, or use another checkpoint.",
        ) from error
    add_adapter(model, adapter, seed=0)
    expected = {_saved_name(name): p for name, p in adapter_weights(model).items()}
    wrong = [name for name in expected.keys() | saved.keys() if name not in expected
             or name not in saved or expected[name].shape != saved[name].shape]  # fmt: skip
    if wrong:
        hint = "" if not renames(model.config) else " (its matrices are named otherwise here)"
        raise ModelError(
            f"the adapter does not fit the model it names: {sorted(wrong)[0]}{hint}",
            place=str(path),
        )
    for name, parameter in expected.items():
        parameter.data.copy_(saved[name])
