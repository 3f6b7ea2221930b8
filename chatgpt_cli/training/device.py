"""What the work runs on: found automatically, said in one line."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch

from chatgpt_cli.config.schema import HardwareSection
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.files import compiled_code_folder
from chatgpt_cli.training.distributed import agree, world_size

# Written-out attention keeps its weights for the backward pass: above this context they
# take more memory than the rest of a step. Until there it is faster on a CPU.
_MATMUL_ATTENTION_LIMIT = 2048


@dataclass(frozen=True)
class Hardware:
    """Device and number formats for a run; `dtype` is what matrices are multiplied in."""

    device: torch.device
    dtype: torch.dtype
    attention: Literal["sdpa", "matmul"]
    compile: bool
    threads: int
    # Compute blocks twice instead of keeping what they computed.
    gradient_checkpointing: bool = False
    # How several processes divide the model.
    parallel: Literal["auto", "ddp", "fsdp", "hybrid"] = "auto"

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Multiply matrices in `dtype`, keep the rest in float32."""
        if self.dtype is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def __str__(self) -> str:
        name = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else f"{self.device.type}, {self.threads} threads"
        )
        return (
            f"{name} · {str(self.dtype).removeprefix('torch.')} · {self.attention} attention · "
            f"{'compiled' if self.compile else 'not compiled'}"
            f"{' · gradient checkpointing' if self.gradient_checkpointing else ''}"
        )

    def chosen(self) -> dict[str, str | int]:
        """What a continuation on the same kind of device must choose again."""
        precision = str(self.dtype).removeprefix("torch.")
        return {"device": self.device.type, "precision": precision, "attention": self.attention}


def as_before(section: HardwareSection, before: Mapping[str, str | int]) -> HardwareSection:
    """What is automatic as `Hardware.chosen` says it was, unless this is another device."""
    if not before or before["device"] != _choose_device(section.device).type:
        return section
    keys = [key for key in ("precision", "attention") if getattr(section, key) == "auto"]
    return section.model_copy(update={key: before[key] for key in keys})


def choose_hardware(
    section: HardwareSection, *, context_length: int = 0, long_run: bool = False
) -> Hardware:
    """Resolve every `auto` for this machine.

    Args:
        section: what the user asked for.
        context_length: tokens per sequence; decides the attention implementation.
        long_run: whether the run lasts long enough to pay for compiling.

    Raises:
        ConfigError: if a device was asked for that is not there.
    """
    device = _choose_device(section.device)
    if device.type == "cpu":
        _keep_freed_memory()
    if section.threads != "auto":
        torch.set_num_threads(section.threads)
    threads = torch.get_num_threads()
    compile_ = long_run and _can_compile(device) if section.compile == "auto" else section.compile
    attention = section.attention
    if attention == "auto":
        short = device.type == "cpu" and context_length <= _MATMUL_ATTENTION_LIMIT
        attention = "matmul" if short else "sdpa"
    if section.precision == "auto":
        dtype = torch.bfloat16 if _bfloat16_is_fast(device) else torch.float32
    else:
        dtype = torch.bfloat16 if section.precision == "bfloat16" else torch.float32
    if compile_:
        keep_compiled_code()
    recompute = section.gradient_checkpointing
    return _agreed(
        Hardware(device, dtype, attention, compile_, threads, recompute, section.parallel)
    )


def _agreed(hardware: Hardware) -> Hardware:
    """What the first process measured and chose, on this process's own device."""
    chosen = agree(hardware)
    return replace(chosen, device=hardware.device)


def _choose_device(wanted: str) -> torch.device:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        wanted = next(name for name, there in available.items() if there)
    if not available[wanted]:
        there = ", ".join(name for name, yes in available.items() if yes)
        raise ConfigError(
            f"hardware.device is {wanted}, but PyTorch {torch.__version__} finds none here "
            f"(available: {there})",
            remedy="Set hardware.device to auto, or install a PyTorch build for your device.",
        )
    if wanted == "cuda" and world_size() > 1:
        # Each process of a machine has a GPU of its own.
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(wanted)


def _keep_freed_memory() -> None:
    """Let the C library reuse large blocks instead of returning them to the system.

    Every step allocates the same blocks again, and each page of a block fresh from the
    system costs a fault: a seventh of a step at 12 million parameters, nearly half of
    one at a million. Only glibc has the settings; elsewhere nothing changes.
    """
    mmap_threshold, trim_threshold, most = -3, -1, 2**31 - 1
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(mmap_threshold, most)
        libc.mallopt(trim_threshold, most)


def keep_compiled_code() -> None:
    """Let later runs find what this one compiles; PyTorch's own place is emptied at boot."""
    folder = compiled_code_folder()
    if folder is not None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def _can_compile(device: torch.device) -> bool:
    """Inductor writes C++ for the CPU and Triton for CUDA; Windows needs its own setup."""
    if sys.platform == "win32" or device.type == "mps":
        return False
    return device.type == "cuda" or any(
        shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")
    )


def _bfloat16_is_fast(device: torch.device) -> bool:
    """Whether bfloat16 matrices multiply clearly faster than float32 ones, measured.

    Processor flags do not tell: some emulate bfloat16 slower than they do float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(512, 512, dtype=dtype, device=device)
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            (matrix @ matrix)[0, 0].item()
            best = min(best, time.perf_counter() - start)
        rates[dtype] = best
    return rates[torch.bfloat16] < 0.8 * rates[torch.float32]
