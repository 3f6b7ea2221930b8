"""How much memory a step of training takes: how many sequences fit, advice if they do not."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.training.device import Hardware

# What the program, PyTorch and the operating system take for themselves.
_OTHERS = 600_000_000
# What fits is estimated; this share of the free memory leaves room for what is not.
_USABLE = 0.6
# On a CPU more tokens at once than these are no faster, they only take memory.
_CPU_TOKENS = 8192


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory could not be had; PyTorch has several kinds."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "not enough memory" in text or "can't allocate memory" in text or "out of memory" in text
    )


def static_bytes(config: ModelConfig, optimizer: str, trained: int | None = None) -> int:
    """Weights, gradients and the optimizer's state, all float32.

    Args:
        config: the model.
        optimizer: "muon" or "adamw".
        trained: the parameters that have a gradient, if they are not all the model's: an
            adapter's, which come beside those of the model.
    """
    if trained is not None:
        return 4 * (config.num_parameters() + 4 * trained)
    inside = config.num_parameters(embeddings=False) if optimizer == "muon" else 0
    # Weight and gradient; AdamW keeps two numbers for each weight, Muon one.
    return 4 * (4 * config.num_parameters() - inside)


def sequence_bytes(config: ModelConfig, hardware: Hardware, length: int) -> int:
    """Activations that one sequence keeps for the backward pass, roughly.

    Counted against what autograd saves without compiling, in models of 5 to 85 million
    parameters: a tenth above or below it. Compiling saves less.
    """
    half = hardware.dtype is torch.bfloat16
    heads = config.num_heads * config.head_dim
    # Residual states and normed copies; q, k, v before and after norm and rotation and
    # the output; the MLP's products.
    per_token = (16 if half else 20) * config.hidden_size + (18 if half else 24) * heads
    per_token += (10 if half else 16) * config.intermediate_size
    if hardware.attention == "matmul":
        visible = length / 2 if config.causal else length
        per_token += int((4 if half else 8) * config.num_heads * visible)
    if hardware.gradient_checkpointing:
        return length * (4 * config.hidden_size * config.num_layers + per_token)
    return length * per_token * config.num_layers


def fitting_sequences(
    config: ModelConfig,
    hardware: Hardware,
    *,
    optimizer: str,
    length: int,
    batch_size: int,
    trained: int | None = None,
    processes: int = 1,
) -> int:
    """The sequences that are done at once, up to `batch_size`, if the user sets nothing.

    As many as fit beside the training state, and on a CPU no more than are faster. A batch
    is divided evenly: 12 sequences of which 8 would fit are done as 6 and 6. So many
    `processes` share the memory.
    """
    fits = batch_size
    free = free_memory(hardware.device)
    if free is not None:
        room = _USABLE * free / processes - static_bytes(config, optimizer, trained)
        fits = max(1, int(room / sequence_bytes(config, hardware, length)))
    if hardware.device.type == "cpu":
        fits = min(fits, max(1, _CPU_TOKENS // length))
    parts = -(-batch_size // min(fits, batch_size))
    return -(-batch_size // parts)


def free_memory(device: torch.device) -> int | None:
    """The bytes that can be had now, None if the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    total = total_memory(device)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = dict(line.split(":", 1) for line in lines)
        available = int(sizes["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return total
    return available if total is None else min(total, available)


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
    trained: int | None = None,
) -> str:
    """What would fit, in numbers."""
    static = static_bytes(config, optimizer, trained)
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
