"""The optimizers: Muon for the matrices inside the blocks, AdamW for all else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from chatgpt_cli.config.schema import TrainingSection
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.training.muon import Blocks, Muon
from chatgpt_cli.training.parallel import own_part
from chatgpt_cli.training.shards import read_shards, shapes_in


def _blocks(name: str, matrix: Tensor, head_dim: int) -> Blocks:
    """Attention's matrices hold one block a head; all others are one block."""
    if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
        return Blocks(matrix.shape[0] // head_dim, dim=0)
    if name.endswith("o_proj.weight"):
        return Blocks(matrix.shape[1] // head_dim, dim=1)
    return Blocks()


class Optimizers:
    """One or two of PyTorch's optimizers, stepped and saved as one.

    Muon (Jordan et al. 2024) takes the two-dimensional weights inside the blocks;
    embeddings, the output matrix, norms and biases go to AdamW (Loshchilov & Hutter
    2019), and with `optimizer: adamw` everything does. Vectors are never decayed.
    """

    def __init__(self, model: Transformer, section: TrainingSection) -> None:
        # Frozen parameters, beside which an adapter is trained, are left out.
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._names: dict[Tensor, str] = {p: name for name, p in trained.items()}
        self._section = section
        matrices, tables, vectors = [], [], []
        for name, parameter in trained.items():
            if parameter.ndim < 2:
                vectors.append(parameter)
            elif ".layers." in name:
                matrices.append(parameter)
            else:
                tables.append(parameter)
        muon = section.optimizer == "muon"
        groups = [
            {"params": tables if muon else tables + matrices, "weight_decay": section.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._all: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [group for group in groups if group["params"]],
                lr=section.learning_rate,
                betas=section.betas,
                eps=1e-10,
                fused=True,
            )
        ]
        if muon and matrices:
            self._all.append(
                Muon(
                    [(p, _blocks(self._names[p], p, model.config.head_dim)) for p in matrices],
                    lr=section.muon_learning_rate,
                    momentum=section.muon_momentum,
                    weight_decay=section.weight_decay,
                )
            )
        self._peaks = [[float(g["lr"]) for g in one.param_groups] for one in self._all]
        self._matrices = matrices

    def set_factor(self, factor: float) -> None:
        """Multiply every peak learning rate by `factor`."""
        for optimizer, peaks in zip(self._all, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor

    @property
    def learning_rate(self) -> float:
        """The present rate of the last optimizer: Muon's if there is one."""
        return float(self._all[-1].param_groups[0]["lr"])

    def step(self) -> None:
        """Update the parameters from their gradients, and forget the gradients."""
        for optimizer in self._all:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self._section.l1:
            self._shrink(self._matrices)

    @torch.no_grad()
    def _shrink(self, matrices: Iterable[Tensor]) -> None:
        """L1 by soft thresholding (proximal step; Parikh & Boyd 2014, section 6.5.2).

        As with decoupled weight decay, the penalty does not pass through the
        optimizer, where Adam and Muon would divide its size away.
        """
        amount = self.learning_rate * self._section.l1
        for matrix in matrices:
            part = own_part(matrix)
            part.copy_(torch.nn.functional.softshrink(part, amount))

    def state(self) -> dict[str, Tensor]:
        """Everything that is needed to go on, as named tensors; of a divided model divided ones."""
        tensors: dict[str, Tensor] = {}
        for number, optimizer in enumerate(self._all):
            for parameter, values in optimizer.state.items():
                for key, value in values.items():
                    tensors[f"{number}.{self._names[parameter]}.{key}"] = torch.as_tensor(value)
        return tensors

    def load_shards(self, folder: Path) -> None:
        """Take back what `state` gave, from files that several processes wrote.

        Raises:
            KeyError: as `load_state`.
        """
        by_name = {name: parameter for parameter, name in self._names.items()}
        tensors = {
            name: torch.zeros_like(parameter, dtype=dtype)
            for name, (_, dtype) in shapes_in(folder).items()
            if (parameter := by_name.get(name.split(".", 1)[1].rsplit(".", 1)[0])) is not None
        }
        read_shards(folder, tensors)
        self.load_state(tensors)

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` gave, of the parameters that are still trained."""
        by_name = {name: parameter for parameter, name in self._names.items()}
        for name, value in tensors.items():
            number, rest = name.split(".", 1)
            parameter_name, key = rest.rsplit(".", 1)
            parameter = by_name.get(parameter_name)
            # None: it was frozen since.
            if parameter is not None:
                state = self._all[int(number)].state[parameter]
                state[key] = _like(parameter, value.to(parameter.device))


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """A state divided over the processes as its parameter is; counts of steps are not."""
    if not isinstance(parameter, DTensor) or not value.ndim or isinstance(value, DTensor):
        return value
    # Each process has read all of it: nothing needs to be sent.
    mesh, placements = parameter.device_mesh, parameter.placements
    return distribute_tensor(value, mesh, placements, src_data_rank=None)
