"""How several processes divide training: copies of the model (DDP) or parts of it (FSDP2)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from chatgpt_cli.data.batch import Batch
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.ranks import this_rank
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.distributed import agree, rank, world_size
from chatgpt_cli.training.memory import static_bytes, total_memory
from chatgpt_cli.training.objective import Loss, Objective

Kind = Literal["alone", "ddp", "fsdp", "hybrid"]

# Copies need the whole training state in each process; above this share of the memory
# little would be left for activations.
_STATE_SHARE = 0.4
_NAMES = {"alone": "", "ddp": "copies (DDP)", "fsdp": "parts (FSDP)", "hybrid": "parts (HSDP)"}


def choose_kind(model: Transformer, hardware: Hardware, optimizer: str) -> Kind:
    """What was asked for; else copies, as long as each process has room for a whole one.

    Raises:
        ConfigError: if an adapter is to be divided.
    """
    if world_size() == 1:
        return "alone"
    wanted = hardware.parallel
    if model.adapter is not None:
        if wanted in ("fsdp", "hybrid"):
            raise ConfigError(
                f"hardware.parallel: {wanted} divides whole models, and here an adapter is trained",
                remedy="Set hardware.parallel: ddp. Of an adapter little is sent and stored.",
            )
        return "ddp"
    if wanted != "auto":
        return wanted
    memory = total_memory(hardware.device)
    if memory is None:
        return "ddp"
    if hardware.device.type == "cpu":
        memory //= this_rank().local_count
    return agree("ddp" if static_bytes(model.config, optimizer) < _STATE_SHARE * memory else "fsdp")


class Parallel:
    """The model as this process trains it, the same function of the whole batch for any number.

    Each process computes the loss of its own sequences. Gradients are averaged over the
    processes, so a loss divided by (targets of the whole batch / processes) gives each
    the gradient of the mean over all targets.
    """

    def __init__(
        self, model: Transformer, objective: Objective, hardware: Hardware, kind: Kind
    ) -> None:
        """Make copies alike, or leave each process its part of `model`."""
        self.kind = kind
        self._model = model
        self._forward: nn.Module = _Objective(model, objective)
        if kind in ("fsdp", "hybrid"):
            _shard(model, _mesh(hardware, kind), hardware)
        model.to(hardware.device)
        if kind == "ddp":
            self._forward = _copies(self._forward)

    def __str__(self) -> str:
        return f"{world_size()} processes, {_NAMES[self.kind]}"

    def backward(self, batch: Batch, divisor: float, *, last: bool) -> Loss:
        """Add the gradient of the loss / divisor; only the last micro-batch's is sent around."""
        waits: AbstractContextManager[object] = nullcontext()
        if isinstance(self._forward, DistributedDataParallel) and not last:
            waits = self._forward.no_sync()
        elif isinstance(self._model, FSDPModule):
            self._model.set_requires_gradient_sync(last)
            self._model.set_is_last_backward(last)
        with waits:
            loss: Loss = self._forward(batch)
            (loss.total / divisor).backward()  # type: ignore[no-untyped-call]
        return loss

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Every process has all weights, to evaluate without waiting for the others."""
        if not isinstance(self._model, FSDPModule):
            yield
            return
        parts = [one for one in self._model.modules() if isinstance(one, FSDPModule)]
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        try:
            yield
        finally:
            for part in parts:
                part.reshard()
                part.set_reshard_after_forward(not isinstance(part, Transformer), recurse=False)

    def gathered(self) -> Transformer | None:
        """The model with all its weights, in the first process; None in the others.

        Copies are the model itself. Parts come together in the memory of the CPU, one
        parameter after another.
        """
        if not isinstance(self._model, FSDPModule):
            return self._model if rank() == 0 else None
        weights: dict[str, Tensor] = {}
        for name, parameter in self._model.named_parameters():
            full = whole_tensor(parameter.detach())
            if rank() == 0:
                weights[name] = full.cpu()
        if rank() != 0:
            return None
        with torch.device("meta"):
            model = Transformer(self._model.config)
        # This also makes the position tables, which are not among the weights.
        model.to_empty(device="cpu")
        model.load_state_dict(weights, assign=True)
        return model


class _Objective(nn.Module):
    """Model and loss as one module: DDP watches what happens in its forward pass."""

    def __init__(self, model: Transformer, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> Loss:
        return self.objective(self.model, batch)


def _copies(module: nn.Module) -> DistributedDataParallel:
    """Buffers are tables that each process makes for itself; they need not be sent."""
    with warnings.catch_warnings():
        # PyTorch 2.13 has another name for it, which earlier ones do not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            module, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def _mesh(hardware: Hardware, kind: Kind) -> DeviceMesh:
    """All processes in a row; hybrid: (machines, processes of each)."""
    device, count, local = hardware.device.type, world_size(), this_rank().local_count
    if kind == "hybrid" and count > local:
        return init_device_mesh(
            device, (count // local, local), mesh_dim_names=("replicate", "shard")
        )
    return init_device_mesh(device, (count,), mesh_dim_names=("shard",))


def _shard(model: Transformer, mesh: DeviceMesh, hardware: Hardware) -> None:
    """Divide each block, and what is outside the blocks, by rows (FSDP2; Zhao et al. 2023).

    Weights inside the blocks travel in the dtype they are multiplied in, and gradients
    come back in float32. The residual stream keeps its own dtype, as in one process.
    """
    policy = MixedPrecisionPolicy()
    if hardware.dtype is not torch.float32:
        policy = MixedPrecisionPolicy(
            param_dtype=hardware.dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    for block in model.model.blocks():
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)


def whole_tensor(tensor: Tensor) -> Tensor:
    """A tensor whose parts the processes hold, put together; all must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: all of it, unless it is divided."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
