"""Saving a model as a Hugging Face folder, and loading it again. No pickle is ever read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.errors import ModelError
from chatgpt_cli.files import atomic_path, write_json
from chatgpt_cli.interop.architectures import OWN, describe, has_counterpart, renames
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.special import BOS, END, EOS, PAD
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

__all__ = ["LoadedModel", "has_counterpart", "load_model", "save_model"]

_WEIGHTS = "model.safetensors"
_WPE = "transformer.wpe.weight"


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to compute with, and the tokenizer it was trained with."""

    model: Transformer
    tokenizer: Tokenizer
    config: ModelConfig


def save_model(
    model: Transformer,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    generation: dict[str, Any] | None = None,
) -> None:
    """Write config.json, model.safetensors, generation_config.json and the tokenizer's files.

    A model with a counterpart in `transformers` loads there; any other is saved all
    the same, for this package (`has_counterpart` tells which).

    Args:
        generation: keys of generation_config.json besides the special ids, such as
            "temperature".
    """
    folder.mkdir(parents=True, exist_ok=True)
    dtype = str(model.output_weight.dtype).removeprefix("torch.")
    with atomic_path(folder / _WEIGHTS) as path:
        save_file(_to_saved(model), path, metadata={"format": "pt"})
    write_json(folder / "config.json", describe(model.config, dtype))
    if model.config.causal:
        ids = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": [END, EOS]}
        write_json(folder / "generation_config.json", ids | (generation or {}))
    tokenizer.save(folder)


def load_model(
    folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> LoadedModel:
    """Read a folder that `save_model` wrote, also after `transformers` trained on it.

    Raises:
        ModelError: if a file is missing, damaged or does not fit the others, or the
            architecture is not one of ours.
    """
    config = read_config(folder)
    weights = folder / _WEIGHTS
    try:
        with safe_open(weights, framework="pt", device="cpu") as stream:
            saved = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ModelError(
            "the weights are missing",
            place=str(weights),
            remedy="Choose another folder with --model, or train again.",
        ) from None
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"the weights cannot be read ({error})",
            place=str(weights),
            remedy="The file is damaged or incomplete: copy it again, or use another checkpoint.",
        ) from None

    _check_size(config, saved, weights)
    if config.positions == "sinusoidal" and _positions_were_trained(config, saved):
        config = config.model_copy(update={"positions": "learned"})
    with torch.device("meta"):
        model = Transformer(config)
    state = _from_saved(model, saved, weights)
    model = model.to(dtype).to_empty(device=device)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state[name])
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise ModelError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model only {config.vocab_size}",
            place=str(folder),
            remedy="Put back the tokenizer files that the model was trained with.",
        )
    return LoadedModel(model.eval(), tokenizer, config)


def read_config(folder: Path) -> ModelConfig:
    """The model's shape from config.json.

    Raises:
        ModelError: if the file is missing or damaged, or of a foreign architecture.
    """
    path = folder / "config.json"
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            "this is not a model folder: there is no config.json",
            place=str(folder),
            remedy="Give the folder of a checkpoint, such as runs/NAME/pretrain/checkpoints/step-…",
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(f"not a readable JSON file ({error})", place=str(path)) from None
    if not isinstance(contents, dict) or OWN not in contents:
        kind = contents.get("model_type", "unknown") if isinstance(contents, dict) else "unknown"
        raise ModelError(
            f"the architecture {kind!r} of this folder is not supported",
            place=str(path),
            remedy="Models trained with chatgpt are.",
        )
    try:
        return ModelConfig.model_validate(contents[OWN])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in (OWN, *first["loc"]))
        raise ModelError(
            f"{key}: {first['msg']}",
            place=str(path),
            remedy="The file was changed, or written by a newer version of chatgpt.",
        ) from None


def _check_size(config: ModelConfig, saved: dict[str, Tensor], path: Path) -> None:
    """Refuse a shape that the weights cannot fill, before memory is taken for it."""
    wanted, there = config.num_parameters(), sum(tensor.numel() for tensor in saved.values())
    if wanted > there:
        raise ModelError(
            f"the weights do not fit config.json: {there:,} numbers for {wanted:,} parameters",
            place=str(path),
            remedy="The folder's files belong to different models: copy the whole folder again.",
        )


def _to_saved(model: Transformer) -> dict[str, Tensor]:
    """The parameters under the names, and in the layout, of the saved architecture."""
    ours = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
    saved: dict[str, Tensor] = {}
    for rename in renames(model.config):
        for kind in (".weight", ".bias"):
            parts = [ours.pop(name + kind) for name in rename.ours if name + kind in ours]
            if parts:
                joined = torch.cat(parts)
                saved[rename.theirs + kind] = (
                    joined.T.contiguous() if rename.transposed and joined.ndim == 2 else joined
                )
    if model.config.positions == "sinusoidal" and saved:
        saved[_WPE] = model.model.sinusoids.cpu().to(model.output_weight.dtype).contiguous()
    return ours | saved


def _from_saved(model: Transformer, saved: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The reverse of `_to_saved`, with every shape checked.

    Raises:
        ModelError: if a tensor is missing, too many or of another shape.
    """
    rest = dict(saved)
    if model.config.positions == "sinusoidal":
        rest.pop(_WPE, None)
    if model.config.tie_embeddings:  # some programs save the same matrix twice
        rest.pop("lm_head.weight", None)
        rest.pop("decoder.weight", None)
    expected = {name: p.shape for name, p in model.named_parameters()}
    state: dict[str, Tensor] = {}
    for rename in renames(model.config):
        for kind in (".weight", ".bias"):
            names = [name + kind for name in rename.ours if name + kind in expected]
            if names and rename.theirs + kind in rest:
                joined = rest.pop(rename.theirs + kind)
                joined = joined.T if rename.transposed and joined.ndim == 2 else joined
                state |= _divide(joined, {name: expected[name] for name in names}, path)
    state |= rest
    wrong = [
        f"{name} is {tuple(state[name].shape)} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    wrong += [f"{name} is missing" for name in expected if name not in state]
    wrong += [f"{name} is unknown" for name in state if name not in expected]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ModelError(
            f"the weights do not fit config.json: {'; '.join(wrong[:3])}{more}",
            place=str(path),
            remedy="The folder's files belong to different models: copy the whole folder again.",
        )
    return state


def _divide(joined: Tensor, parts: dict[str, torch.Size], path: Path) -> dict[str, Tensor]:
    """Split a fused tensor by rows."""
    rows = [shape[0] for shape in parts.values()]
    if sum(rows) != joined.shape[0]:
        raise ModelError(
            f"the weights do not fit config.json: {', '.join(parts)} should have {sum(rows)} rows "
            f"together, but there are {joined.shape[0]}",
            place=str(path),
            remedy="The folder's files belong to different models: copy the whole folder again.",
        )
    return dict(zip(parts, torch.split(joined, rows), strict=True))


def _positions_were_trained(config: ModelConfig, saved: dict[str, Tensor]) -> bool:
    """Whether another program changed the table that we hold fixed."""
    table = saved.get(_WPE)
    if table is None:
        return False
    fresh = Transformer(config.model_copy(update={"num_layers": 1, "vocab_size": 1}))
    own = fresh.model.sinusoids
    tolerance = 1e-5 if table.dtype == torch.float32 else 1e-2
    return table.shape == own.shape and not torch.allclose(table.float(), own, atol=tolerance)
