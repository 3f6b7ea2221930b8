"""What the work runs on: found automatically, said in one line."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch

from chatgpt_cli.config.schema import HardwareSection
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.files import compiled_code_folder
from chatgpt_cli.model.linear import int8_is_possible
from chatgpt_cli.training.distributed import agree, world_size

# Written-out attention keeps its weights for the backward pass: above this context they
# take more memory than the rest of a step. Until there it is faster on a CPU.
_MATMUL_ATTENTION_LIMIT = 2048
# How long two kinds of product are compared.
_PROBE_SECONDS = 0.2


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
    # Multiply the blocks' matrices in 8 bits in training.
    int8: bool = False
    # How several processes divide the model.
    parallel: Literal["auto", "ddp", "fsdp", "hybrid"] = "auto"

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Multiply matrices in `dtype`, keep the rest in float32."""
        if self.dtype is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def __str__(self) -> str:
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        elif self.threads == 1:
            name = f"{self.device.type}, 1 thread"
        else:
            name = f"{self.device.type}, {self.threads} threads"
        precision = str(self.dtype).removeprefix("torch.") + (" and int8" if self.int8 else "")
        return (
            f"{name} · {precision} · {self.attention} attention · "
            f"{'compiled' if self.compile else 'not compiled'}"
            f"{' · gradient checkpointing' if self.gradient_checkpointing else ''}"
        )

    def chosen(self) -> dict[str, str | int]:
        """What a continuation on the same kind of device must choose again."""
        precision = str(self.dtype).removeprefix("torch.")
        return {
            "device": self.device.type,
            "precision": precision,
            "attention": self.attention,
            "int8_training": self.int8,
        }


def as_before(section: HardwareSection, before: Mapping[str, str | int]) -> HardwareSection:
    """What is automatic as `Hardware.chosen` says it was, unless this is another device."""
    if not before or before["device"] != _choose_device(section.device).type:
        return section
    # Runs of earlier versions chose nothing about 8 bits: they had none.
    before = {**before, "int8_training": bool(before.get("int8_training", False))}
    keys = ("precision", "attention", "int8_training")
    automatic = [key for key in keys if getattr(section, key) == "auto"]
    return section.model_copy(update={key: before[key] for key in automatic})


def choose_hardware(
    section: HardwareSection,
    *,
    context_length: int = 0,
    long_run: bool = False,
    int8_training: Literal["auto", "if set", "never"] = "never",
) -> Hardware:
    """Resolve every `auto` for this machine.

    Args:
        section: what the user asked for.
        context_length: tokens per sequence; decides the attention implementation.
        long_run: whether the run lasts long enough to pay for compiling.
        int8_training: what the setting of that name may do: "auto" in stages that train all
            weights of a model of this program's own; "if set" for other models, some of whose
            channels are so large that 8 bits are too few for the rest; else "never".

    Raises:
        ConfigError: if something was asked for that is not there.
    """
    device = _choose_device(section.device)
    if device.type == "cpu":
        _keep_freed_memory()
    if section.threads != "auto":
        torch.set_num_threads(section.threads)
    threads = torch.get_num_threads()
    compile_ = _choose_compile(section, device, long_run=long_run)
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
    return _agreed(
        Hardware(
            device,
            dtype,
            attention,
            compile_,
            threads,
            section.gradient_checkpointing,
            int8_training != "never"
            and _choose_int8(
                section, device, dtype, automatic=int8_training == "auto" and compile_
            ),
            section.parallel,
        )
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
        # Before glibc 2.35 more than 32 MiB was refused. The second call alone would do harm:
        # it ends the threshold's growing with the blocks that are freed.
        if libc.mallopt(mmap_threshold, most) or libc.mallopt(mmap_threshold, 32 << 20):
            libc.mallopt(trim_threshold, most)


def keep_compiled_code() -> None:
    """Let later runs find what this one compiles; PyTorch's own place is emptied at boot."""
    folder = compiled_code_folder()
    if folder is not None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def missing_compiler(device: torch.device) -> str | None:
    """What PyTorch compiles with on this device, if it is not there.

    C++ for the CPU; for CUDA Triton, which builds a piece of C for each machine. None also
    where it cannot be told: on Windows, which needs its own setup, and for MPS.
    """
    if sys.platform == "win32" or device.type == "mps":
        return None
    if device.type == "cpu":
        names = [os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")]
    else:
        if importlib.util.find_spec("triton") is None:
            return "triton"
        names = [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang"]
    return None if any(map(shutil.which, names)) else names[0]


def _choose_compile(section: HardwareSection, device: torch.device, *, long_run: bool) -> bool:
    missing = missing_compiler(device)
    if section.compile == "auto":
        known = sys.platform != "win32" and device.type != "mps"
        return long_run and known and missing is None
    if section.compile and missing is not None:
        raise ConfigError(
            f"hardware.compile needs {missing}, which is not there",
            remedy=f"Install {missing}, or set hardware.compile to false. ($CXX and $CC, if set, "
            "must each name one program.)",
        )
    return section.compile


def _choose_int8(
    section: HardwareSection, device: torch.device, dtype: torch.dtype, *, automatic: bool
) -> bool:
    if section.int8_training == "auto":
        return automatic and device.type == "cpu" and _int8_is_fast(dtype) and int8_is_possible()
    if section.int8_training and not (device.type == "cpu" and int8_is_possible()):
        raise ConfigError(
            "hardware.int8_training needs a CPU whose 8-bit products are exact, and a C++ "
            f"compiler (device: {device.type})",
            remedy="Set hardware.int8_training to false, or install g++.",
        )
    return section.int8_training


def _bfloat16_is_fast(device: torch.device) -> bool:
    """Whether bfloat16 matrices multiply clearly faster than float32 ones, measured.

    Processor flags do not tell: some emulate bfloat16 slower than they do float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    square = torch.ones(512, 512, device=device)
    narrow = square.bfloat16()
    return _share_of_time(lambda: narrow @ narrow, lambda: square @ square) < 0.8


def _int8_is_fast(dtype: torch.dtype) -> bool:
    """Whether 8-bit matrices multiply so much faster than those of `dtype` that it pays for
    rounding them: about twice as fast where the processor has 8-bit dot products, slower
    elsewhere."""
    square = torch.ones(512, 512, dtype=dtype)
    whole = square.to(torch.int8)
    return _share_of_time(lambda: torch._int_mm(whole, whole), lambda: square @ square) < 0.7


def _share_of_time(one: Callable[[], torch.Tensor], other: Callable[[], torch.Tensor]) -> float:
    """The time of `one` as a share of that of `other`: the shortest of each, in turns.

    Long enough that other programs leave a quiet moment to both, and with one thread: several
    wait for each other, and beside a busy program for the one that it holds up.
    """
    times: tuple[list[float], list[float]] = [], []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        began = time.perf_counter()
        while len(times[0]) < 5 or time.perf_counter() - began < _PROBE_SECONDS:
            for product, taken in zip((one, other), times, strict=True):
                start = time.perf_counter()
                product()[0, 0].item()
                taken.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return min(times[0]) / min(times[1])
