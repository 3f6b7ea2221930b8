"""Saving a model as a Hugging Face folder, and loading it again. No pickle is ever read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.errors import ModelError
from chatgpt_cli.files import atomic_path, sha256, write_json
from chatgpt_cli.interop.adapters import CONFIG as ADAPTER_CONFIG
from chatgpt_cli.interop.adapters import put_on, read_adapter, save_adapter
from chatgpt_cli.interop.architectures import OWN, TextIds, describe, has_counterpart, renames
from chatgpt_cli.interop.compressed import (
    describe_quantization,
    quantization_of,
    take_weights,
    to_tensors,
)
from chatgpt_cli.interop.foreign import foreign_config, own_names
from chatgpt_cli.interop.locate import STAGE, resolve_model
from chatgpt_cli.model.lora import Adapter, merge_adapter
from chatgpt_cli.model.quantized import install, quantized_weights
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.own import OwnTokenizer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_WPE = "transformer.wpe.weight"
# ModernBERT's scores have a bias; ours have none, which is a bias of zero.
_SCORE_BIAS = "classifier.bias"


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to compute with, and the tokenizer it was trained with."""

    model: Transformer
    tokenizer: Tokenizer
    config: ModelConfig


def save_model(
    model: Transformer, tokenizer: Tokenizer, folder: Path, *, stage: str | None = None
) -> None:
    """Write config.json, model.safetensors, generation_config.json and the tokenizer's files.

    Of a model with an adapter only the adapter is written (see `save_adapter`). A model
    with a counterpart in `transformers` loads there; any other is saved all
    the same, for this package (`has_counterpart` tells which).

    Args:
        stage: which training made it: so it is known, wherever the folder is taken,
            whether it converses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if model.adapter is not None:
        save_adapter(model, model.adapter, folder)
        tokenizer.save(folder)
        return
    dtype = str(model.output_weight.dtype).removeprefix("torch.")
    rounded = quantized_weights(model)
    more = describe_quantization(next(iter(rounded.values())).bits) if rounded else {}
    if stage is not None:
        more[STAGE] = stage
    with atomic_path(folder / _WEIGHTS) as path:
        save_file(_to_saved(model), path, metadata={"format": "pt"})
    text_ids = TextIds(tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id)
    write_json(folder / "config.json", describe(model.config, dtype, text_ids) | more)
    if model.config.causal and not model.config.labels:
        ids = {
            "pad_token_id": tokenizer.pad_id,
            "bos_token_id": tokenizer.bos_id,
            "eos_token_id": sorted(tokenizer.stop_ids, reverse=True),
        }
        write_json(folder / "generation_config.json", ids)
    tokenizer.save(folder)
    if model.config.labels and isinstance(tokenizer, OwnTokenizer):
        tokenizer.save_for_texts(folder, causal=model.config.causal)


def load_model(
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    config: ModelConfig | None = None,
    merge: bool = True,
) -> LoadedModel:
    """Read a folder that `save_model`, `transformers` or another program wrote.

    Args:
        folder: the model folder, or a .gguf file.
        config: the shape to build, if it is to differ from the folder's in what no
            weight depends on (context, dropout).
        merge: whether an adapter, where there is one, becomes part of the weights; if
            not, it can be trained on.

    Raises:
        ModelError: if a file is missing, damaged or does not fit the others, or the
            architecture is not supported.
    """
    if folder.is_file():
        return _load_gguf(folder, device, dtype, config)
    if (adapter := read_adapter(folder)) is not None:
        base = load_model(_base(adapter, folder), device=device, dtype=dtype, config=config)
        put_on(base.model, adapter, folder)
        if merge:
            merge_adapter(base.model)
        return _with_tokenizer(base.model, load_tokenizer(folder), folder)
    config = config or read_config(folder)
    bits = quantization_of(folder)
    weights, saved = _read_weights(folder)
    rounded = {} if bits is None else take_weights(saved, bits, weights)
    saved |= {f"{name}.weight": weight.expanded() for name, weight in rounded.items()}
    _check_size(config, saved, weights)
    if config.positions == "sinusoidal" and _positions_were_trained(config, saved):
        config = config.model_copy(update={"positions": "learned"})
    with torch.device("meta"):
        model = Transformer(config)
    state = _from_saved(model, saved, weights)
    _fill(model, state.__getitem__, device, dtype)
    install(model, rounded)
    return _with_tokenizer(model.to(device), load_tokenizer(folder), folder)


def _base(adapter: Adapter, folder: Path) -> Path:
    """The model that an adapter belongs to.

    Raises:
        ModelError: if it is not where the adapter says.
    """
    try:
        return resolve_model(adapter.base)
    except ModelError as error:
        # A run directory that was moved as a whole: RUN/STAGE/checkpoints/STEP of both.
        beside = Path(*folder.resolve().parts[:-3], *Path(adapter.base).parts[-3:])
        if beside.is_dir():
            return beside
        raise ModelError(
            f"the model that this adapter was trained for is not there ({adapter.base})",
            place=str(folder / ADAPTER_CONFIG),
            remedy="Put it back, or change base_model_name_or_path in that file.",
        ) from error


def _load_gguf(
    path: Path, device: torch.device | str, dtype: torch.dtype, config: ModelConfig | None
) -> LoadedModel:
    from chatgpt_cli.interop.gguf_reader import open_gguf

    opened = open_gguf(path)
    shape = config or opened.config
    with torch.device("meta"):
        model = Transformer(shape)
    expected = {name: parameter.shape for name, parameter in model.named_parameters()}

    def weight(name: str) -> Tensor:
        tensor = opened.weight(name)
        if tensor.shape != expected[name]:
            raise ModelError(
                f"{name} is {tuple(tensor.shape)} instead of {tuple(expected[name])}",
                place=str(path),
            )
        return tensor

    _fill(model, weight, device, dtype)
    return _with_tokenizer(model, opened.tokenizer(), path)


def _fill(
    model: Transformer,
    weight: Callable[[str], Tensor],
    device: torch.device | str,
    dtype: torch.dtype,
) -> None:
    """Give a model on the meta device memory, and its parameters their values."""
    model.to(dtype).to_empty(device=device)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weight(name))


def _with_tokenizer(model: Transformer, tokenizer: Tokenizer, place: Path) -> LoadedModel:
    """Raises ModelError if the tokenizer has ids that the model does not know."""
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ModelError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model only "
            f"{model.config.vocab_size}",
            place=str(place),
            remedy="Put back the tokenizer files that the model was trained with.",
        )
    return LoadedModel(model.eval(), tokenizer, model.config)


def read_config(folder: Path) -> ModelConfig:
    """The model's shape from config.json, or from a .gguf file.

    Raises:
        ModelError: if the file is missing or damaged, or of an architecture that is
            not supported.
    """
    if folder.is_file():
        from chatgpt_cli.interop.gguf_reader import open_gguf

        return open_gguf(folder).config
    if (adapter := read_adapter(folder)) is not None:
        return read_config(_base(adapter, folder))
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
        return foreign_config(contents if isinstance(contents, dict) else {}, str(path))
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


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder.

    Raises:
        ModelError: if it is missing or damaged.
    """
    if folder.is_file():
        from chatgpt_cli.interop.gguf_reader import open_gguf

        return open_gguf(folder).tokenizer()
    return Tokenizer.load(folder)


def weights_hash(folder: Path) -> str:
    """SHA-256 of a model's weights; of the list of hashes where there are several files."""
    if folder.is_file():
        return sha256(folder)
    if (adapter := read_adapter(folder)) is not None:
        of_base = weights_hash(_base(adapter, folder))
        return hashlib.sha256(f"{of_base} {_hash_all(folder)}".encode()).hexdigest()
    if (folder / _WEIGHTS).is_file():
        return sha256(folder / _WEIGHTS)
    return _hash_all(folder)


def _hash_all(folder: Path) -> str:
    hashes = [sha256(path) for path in sorted(folder.glob("*.safetensors"))]
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def _read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """All tensors of one file, or of the files that an index lists; and what names them.

    Raises:
        ModelError: if a file is missing or damaged, or there are only pickled weights.
    """
    index, single = folder / _INDEX, folder / _WEIGHTS
    if single.is_file() or not index.is_file():
        return single, _read_tensors(single)
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({Path(str(name)).name for name in listed.values()})
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"not a readable list of files ({error})", place=str(index)) from None
    saved: dict[str, Tensor] = {}
    for name in files:
        saved |= _read_tensors(folder / name)
    return index, saved


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """One file's tensors under today's names."""
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            names = own_names(list(stream.keys()))
            return {ours: stream.get_tensor(theirs) for theirs, ours in names.items()}
    except FileNotFoundError:
        pickled = (path.parent / "pytorch_model.bin").is_file()
        raise ModelError(
            "the weights are missing" + (" (pickled ones are not read)" if pickled else ""),
            place=str(path),
            remedy="Save the model with `safe_serialization=True`, or choose another folder."
            if pickled
            else "Choose another folder with --model, or train again.",
        ) from None
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"the weights cannot be read ({error})",
            place=str(path),
            remedy="The file is damaged or incomplete: copy it again, or use another checkpoint.",
        ) from None


def _to_saved(model: Transformer) -> dict[str, Tensor]:
    """The parameters under the names, and in the layout, of the saved architecture."""
    ours = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
    for name, weight in quantized_weights(model).items():
        ours |= to_tensors(name, weight)
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
    if model.config.labels and has_counterpart(model.config) == "modernbert":
        saved[_SCORE_BIAS] = torch.zeros(len(model.config.labels), dtype=model.output_weight.dtype)
    return ours | saved


def _from_saved(model: Transformer, saved: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The reverse of `_to_saved`, with every shape checked.

    Raises:
        ModelError: if a tensor is missing, too many or of another shape.
    """
    rest = dict(saved)
    if model.config.positions == "sinusoidal":
        rest.pop(_WPE, None)
    if model.config.labels:
        rest.pop(_SCORE_BIAS, None)
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
