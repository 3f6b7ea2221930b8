"""How much memory a step of training takes, for advice when it is not enough."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.training.device import Hardware

# What the program, PyTorch and the operating system take for themselves.
_OTHERS = 600_000_000


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory could not be had; PyTorch has several kinds."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "not enough memory" in text or "can't allocate memory" in text or "out of memory" in text
    )


def static_bytes(config: ModelConfig, optimizer: str) -> int:
    """Weights, gradients and the optimizer's state, all float32."""
    inside = config.num_parameters(embeddings=False) if optimizer == "muon" else 0
    # Weight and gradient; AdamW keeps two numbers for each weight, Muon one.
    return 4 * (4 * config.num_parameters() - inside)


def sequence_bytes(config: ModelConfig, hardware: Hardware, length: int) -> int:
    """Activations that one sequence keeps for the backward pass, roughly.

    Counted as in Korthikanti et al. 2022, section 4.1, for this model's widths: inputs
    of every matrix and every elementwise step in the format that is computed in, the
    residual stream in float32, and written-out attention's scores.
    """
    size = 2 if hardware.dtype is torch.bfloat16 else 4
    width, heads = config.hidden_size, config.num_heads * config.head_dim
    gates = 1 if config.mlp == "gelu" else 2
    per_token = size * (4 * width + 5 * heads + (2 * gates + 1) * config.intermediate_size)
    per_token += 4 * 4 * width
    if hardware.attention == "matmul":
        per_token += (size + 4) * config.num_heads * length
    return int(length * per_token * config.num_layers)


def total_memory(device: torch.device) -> int | None:
    """The bytes that this process may use, None if the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    limits = []
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limits.append(int((Path("/sys/fs/cgroup") / name).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue
    return min(limits, default=None)


def advise(
    config: ModelConfig,
    hardware: Hardware,
    *,
    optimizer: str,
    micro_batch_size: int,
    sequence_length: int,
) -> str:
    """What would fit, in numbers."""
    static = static_bytes(config, optimizer)
    each = sequence_bytes(config, hardware, sequence_length)
    said = (
        f"Model and optimizer take about {_size(static)}, each sequence about {_size(each)}; "
        f"this needs {_size(static + micro_batch_size * each)}"
    )
    total = total_memory(hardware.device)
    fitting = 0
    if total is not None:
        said += f" of {_size(total)}"
        fitting = (total - static - _OTHERS) // each
    # The estimate said that it would fit, and it did not: other programs use memory too.
    fitting = min(fitting, micro_batch_size // 2)
    if fitting >= 1:
        return f"{said}. Set micro_batch_size: {fitting} (the result stays the same)."
    return f"{said}. Set a smaller sequence_length or model.preset."


def _size(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
