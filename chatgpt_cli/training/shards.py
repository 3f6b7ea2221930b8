"""The optimizer's state where it is divided over processes: each writes its own part.

PyTorch's distributed checkpoint (DCP) writes the parts while training goes on, and reads
them for any number of processes. Its usual files hold pickles, which are never read here;
its safetensors files, which say in their headers which rows they hold, do not.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.tensor import DTensor

from chatgpt_cli.training.distributed import world_size


def divided(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of which this process holds a part."""
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, DTensor)}


@dataclass(frozen=True)
class WrittenShards:
    """Parts that are being written to a folder of their own; `move_to` gives them a place."""

    folder: Path
    done: Future[Any]

    def wait(self) -> None:
        """Until this process's part, and what it heard of the others', is decided."""
        self.done.exception()

    def move_to(self, target: Path) -> None:
        """Put the folder of all parts where it belongs, once they are there.

        Raises:
            OSError: if a process could not write its part.
        """
        try:
            self.done.result()
        except CheckpointException as error:
            said = "; ".join(f"process {rank}: {why[0]}" for rank, why in error.failures.items())
            raise OSError(said) from error
        self.folder.rename(target)


def write_shards(
    tensors: dict[str, Tensor], folder: Path, group: dist.ProcessGroup
) -> WrittenShards:
    """Copy the parts held here to the CPU, and begin to write them; all processes must.

    Args:
        tensors: divided ones, by name.
        folder: a new one that all processes can reach.
        group: processes that talk about nothing else, since this goes on meanwhile.
    """
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    done = async_save(tensors, storage_writer=writer, process_group=group)
    assert isinstance(done, Future)
    return WrittenShards(folder, done)


def shapes_in(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """What tensors a folder holds, each put together."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {
        name: (one.size, one.properties.dtype)
        for name, one in found.items()
        if isinstance(one, TensorStorageMetadata)
    }


def read_shards(folder: Path, into: dict[str, Tensor]) -> None:
    """Fill tensors, whole or divided in any way, with what was written under their names."""
    reader = HuggingFaceStorageReader(str(folder))
    load(into, storage_reader=reader, no_dist=world_size() == 1)
