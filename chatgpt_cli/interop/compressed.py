"""Quantized weights on disk, in the form of compressed-tensors ("pack-quantized").

transformers (with the package compressed-tensors) and vLLM read such folders.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chatgpt_cli.errors import ModelError
from chatgpt_cli.model.quantized import GROUP, Bits, QuantizedWeight

_KEY = "quantization_config"
_PACKED, _SCALE, _SHAPE = ".weight_packed", ".weight_scale", ".weight_shape"


def describe_quantization(bits: Bits) -> dict[str, Any]:
    """What config.json says of it."""
    weights: dict[str, Any] = {"num_bits": bits, "type": "int", "symmetric": True}
    weights |= {"strategy": "group", "group_size": GROUP} if bits == 4 else {"strategy": "channel"}
    return {
        _KEY: {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "quantization_status": "compressed",
            "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        }
    }


def quantization_of(folder: Path) -> Bits | None:
    """In how many bits a folder's weights are; None if they are ordinary.

    Raises:
        ModelError: if they are quantized in a way that is not read here.
    """
    path = folder / "config.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8")).get(_KEY)
    except (OSError, ValueError, AttributeError):
        return None
    if said is None:
        return None
    try:
        (group,) = said["config_groups"].values()
        weights = group["weights"]
        bits: Bits = weights["num_bits"]
        expected = describe_quantization(bits)[_KEY]["config_groups"]["group_0"]["weights"]
        known = all(weights.get(key) == value for key, value in expected.items())
        if bits in (4, 8) and said["format"] == "pack-quantized" and known:
            return bits
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise ModelError(
        "the weights are quantized in a way that is not supported",
        place=str(path),
        remedy="Supported are folders that `chatgpt quantize` writes; use the original model.",
    )


def to_tensors(name: str, weight: QuantizedWeight) -> dict[str, Tensor]:
    """A linear map's weight as it is saved."""
    return {
        name + _PACKED: _pack(weight.numbers, weight.bits),
        name + _SCALE: weight.scale.contiguous(),
        name + _SHAPE: torch.tensor(weight.numbers.shape),
    }


def take_weights(saved: dict[str, Tensor], bits: Bits, place: Path) -> dict[str, QuantizedWeight]:
    """Take the quantized weights out of a folder's tensors.

    Raises:
        ModelError: if the parts of one do not fit each other.
    """
    names = [name.removesuffix(_PACKED) for name in saved if name.endswith(_PACKED)]
    found = {}
    for name in names:
        packed, scale, shape = (saved.pop(name + part, None) for part in (_PACKED, _SCALE, _SHAPE))
        try:
            if packed is None or scale is None or shape is None:
                raise ValueError("a part is missing")
            outputs, inputs = (int(size) for size in shape.tolist())
            groups = inputs // GROUP if bits == 4 else 1
            if scale.shape != (outputs, groups):
                raise ValueError(f"its scales are {tuple(scale.shape)}")
            numbers = _unpack(packed, bits, outputs, inputs)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{name} cannot be used: {error}", place=str(place)) from error
        found[name] = QuantizedWeight(bits, numbers, scale.to(torch.bfloat16))
    return found


def _pack(numbers: Tensor, bits: Bits) -> Tensor:
    """(outputs, inputs) int8 to (outputs, ceil(inputs * bits / 32)) int32, first lowest."""
    each = 32 // bits
    unsigned = numbers.to(torch.int64) + 2 ** (bits - 1)
    padding = -unsigned.shape[1] % each
    unsigned = torch.nn.functional.pad(unsigned, (0, padding)).view(len(unsigned), -1, each)
    shifts = torch.arange(each) * bits
    whole = (unsigned << shifts).sum(2)
    signed: Tensor = torch.where(whole >= 2**31, whole - 2**32, whole)
    return signed.to(torch.int32)


def _unpack(packed: Tensor, bits: Bits, outputs: int, inputs: int) -> Tensor:
    """The reverse of `_pack`."""
    each = 32 // bits
    shifts = torch.arange(each, dtype=torch.int32) * bits
    parts = (packed[..., None] >> shifts) & (2**bits - 1)
    numbers: Tensor = parts.reshape(packed.shape[0], -1)[:, :inputs] - 2 ** (bits - 1)
    if numbers.shape != (outputs, inputs):
        raise ValueError(f"it holds {tuple(numbers.shape)} numbers, not {(outputs, inputs)}")
    return numbers.to(dtype=torch.int8)
