"""What a step of training takes on many devices: arithmetic, not measurement.

A step is computing, and sending weights and gradients around. On GPUs sending goes on
beside computing, so the longer of the two counts, and what has nothing to hide behind:
the first weights to arrive and the last gradients to leave. On CPUs the same cores do
both, one after the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.config.schema import Config
from chatgpt_cli.interop.base import project_shape
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.memory import sequence_bytes, static_bytes

Method = Literal["ddp", "fsdp", "hybrid"]

# Gradients are summed in float32; with fsdp weights inside the blocks travel in what is
# multiplied.
_GRADIENT_BYTES = 4
# The share of a device's memory that may be planned for.
_USABLE = 0.9


@dataclass(frozen=True)
class Cluster:
    """Machines of equal devices.

    Attributes:
        machines, devices: how many, and how many devices in each.
        flops: FLOP/s of one device that trains without having to wait for others.
        peak: FLOP/s that its maker states, for the utilisation.
        memory: bytes of a device.
        inside: bytes/s that a device sends and receives within its machine.
        between: bytes/s that a device sends and receives between machines.
        latency: seconds until the first byte of a collective arrives at a neighbour.
        overlaps: whether it computes while it sends.
    """

    machines: int
    devices: int
    flops: float
    peak: float
    memory: float
    inside: float
    between: float
    latency: float
    overlaps: bool = True

    @property
    def count(self) -> int:
        """All devices."""
        return self.machines * self.devices

    def collective(self, size: float, ranks: int, bandwidth: float) -> float:
        """Seconds for an all-gather or a reduce-scatter of `size` bytes in all."""
        if ranks == 1:
            return 0.0
        return self.latency * math.log2(ranks) + size * (ranks - 1) / ranks / bandwidth

    def across(self, size: float) -> float:
        """The same among all devices.

        Between machines each device's card carries a ring of its own with its share of the
        bytes, so that a machine's cards together are what counts.
        """
        bandwidth = self.inside
        if self.machines > 1:
            bandwidth = min(self.inside, self.devices * self.between)
        return self.collective(size, self.count, bandwidth)


# Dense bfloat16 FLOP/s and memory by the makers' data sheets; NVLink and a network card
# per device, per direction, 80% of the stated rate. 45% of the peak is what matrix
# products and all between them reach in one device when compiled.
_SHARE, _LINK = 0.45, 0.8
_GPUS = {
    "a100": (312e12, 80e9, 300e9, 25e9),
    "h100": (989e12, 80e9, 450e9, 50e9),
    "h200": (989e12, 141e9, 450e9, 50e9),
}
GPUS = tuple(_GPUS)


def gpu_cluster(machines: int, devices: int, gpu: str) -> Cluster:
    """So many machines with so many GPUs of a kind (see `GPUS`), and what is assumed of them."""
    peak, memory, link, card = _GPUS[gpu]
    return Cluster(
        machines, devices, _SHARE * peak, peak, memory, _LINK * link, _LINK * card, latency=20e-6
    )


@dataclass(frozen=True)
class Work:
    """What is trained, as far as its time depends on it.

    Attributes:
        shape: the model.
        batch_size: sequences in a step, over all devices.
        length: tokens in a sequence.
        at_once: sequences that a device computes at one time.
        optimizer: "muon" or "adamw".
        weight_bytes: of a weight as it is multiplied.
        recompute: whether blocks are computed twice (gradient checkpointing).
        sequence_bytes: activations that a sequence keeps.
    """

    shape: ModelConfig
    batch_size: int
    length: int
    at_once: int
    optimizer: str
    weight_bytes: int
    recompute: bool
    sequence_bytes: float


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step and its parts, and the bytes it takes.

    Attributes:
        method: how the model is divided.
        at_once: sequences that a device computes at one time.
        compute: computing alone.
        weights, gradients: sending them, whether or not something goes on beside.
        exposed: what of the sending computing does not hide (the bubble).
        seconds: the whole step.
        tokens: of a step, over all devices.
        utilization: the model's FLOPs, those computed twice counted once, over what the
            makers' peaks would allow in that time.
        memory: bytes that a device needs.
        fits: whether it has them.
    """

    method: Method
    at_once: int
    compute: float
    weights: float
    gradients: float
    exposed: float
    seconds: float
    tokens: int
    utilization: float
    memory: float
    fits: bool

    @property
    def tokens_per_second(self) -> float:
        """Of all devices together."""
        return self.tokens / self.seconds


def step_time(work: Work, cluster: Cluster, method: Method) -> StepTime:
    """What a step takes with one way of dividing the model."""
    shape, count = work.shape, cluster.count
    tokens = work.batch_size * work.length
    flops = tokens * shape.flops_per_token()
    compute = flops * (4 / 3 if work.recompute else 1) / (count * cluster.flops)
    rounds = math.ceil(work.batch_size / (count * work.at_once))
    weights, gradients, first, last = _sending(work, cluster, method, rounds)
    exposed = weights + gradients
    if cluster.overlaps:
        # Weights for the forward pass beside it, a third of computing; weights and the last
        # micro-batch's gradients beside the backward pass.
        forward, backward = compute / 3, compute - compute / 3
        exposed = max(0.0, weights / 2 - forward) + max(0.0, weights / 2 + gradients - backward)
        exposed = max(exposed, first + last)
    seconds = compute + exposed
    memory = _memory(work, cluster, method)
    return StepTime(
        method, work.at_once, compute, weights, gradients, exposed, seconds, tokens,
        flops / (seconds * count * cluster.peak), memory, memory < _USABLE * cluster.memory,
    )  # fmt: skip


def _sending(
    work: Work, cluster: Cluster, method: Method, rounds: int
) -> tuple[float, float, float, float]:
    """Seconds for all weights and all gradients, and for the first and the last of them."""
    shape, layers = work.shape, work.shape.num_layers
    inside = shape.num_parameters(embeddings=False)
    block = inside / layers
    outside = shape.num_parameters() - inside
    if method == "ddp":
        # An all-reduce is a reduce-scatter and an all-gather, in pieces of about 25 MB.
        size = shape.num_parameters() * _GRADIENT_BYTES
        whole = 2 * cluster.across(size) + max(0.0, size / 25e6 - 1) * 2 * cluster.across(0)
        return 0.0, whole, 0.0, whole * min(1.0, 25e6 / size)

    def send(size: float) -> float:
        if method == "hybrid":
            return cluster.collective(size, cluster.devices, cluster.inside)
        return cluster.across(size)

    # Weights come once for the forward and once for the backward pass of every micro-batch;
    # those outside the blocks stay in between.
    gather = send(block * work.weight_bytes)
    root = send(outside * 4)
    weights = rounds * (2 * layers * gather + root)
    reduce = send(block * _GRADIENT_BYTES)
    gradients = layers * reduce + send(outside * _GRADIENT_BYTES)
    if method == "hybrid" and cluster.machines > 1:
        # Each device's part is then summed over the machines.
        part = shape.num_parameters() * _GRADIENT_BYTES / cluster.devices
        gradients += 2 * cluster.collective(part, cluster.machines, cluster.between)
    if work.optimizer == "muon":
        # Rows to whoever has the matrix, and back, in bfloat16: each sends its part twice.
        parts = cluster.devices if method == "hybrid" else cluster.count
        gradients += 2 * send(inside * 2 / parts)
    return weights, gradients, root + gather, reduce


def _memory(work: Work, cluster: Cluster, method: Method) -> float:
    """Bytes of a device: weights, gradients and the optimizer's state, activations."""
    shape = work.shape
    inside = shape.num_parameters(embeddings=False)
    outside = shape.num_parameters() - inside
    state = static_bytes(shape, work.optimizer)
    activations = work.at_once * work.sequence_bytes
    if method == "ddp":
        return state + activations
    parts = cluster.devices if method == "hybrid" else cluster.count
    # Two blocks at a time are whole, and what is outside the blocks, with its gradient.
    whole = 2 * inside / shape.num_layers * (work.weight_bytes + _GRADIENT_BYTES) + 8 * outside
    return state / parts + whole + activations


def step_times(work: Work, cluster: Cluster) -> list[StepTime]:
    """Each way of dividing the model that differs here, with as much at once as fits."""
    methods: list[Method] = ["ddp", "fsdp", *(["hybrid"] if cluster.machines > 1 else [])]  # type: ignore[list-item]
    return [step_time(_fitting(work, cluster, one), cluster, one) for one in methods]


def _fitting(work: Work, cluster: Cluster, method: Method) -> Work:
    """With as many sequences at once as fit and divide a device's share evenly, or one."""
    own = max(1, work.batch_size // cluster.count)
    for at_once in range(min(own, work.at_once), 1, -1):
        tried = replace(work, at_once=at_once)
        if own % at_once == 0 and _memory(tried, cluster, method) < _USABLE * cluster.memory:
            return tried
    return replace(work, at_once=1)


def pretraining_work(config: Config) -> Work:
    """Pretraining as a project sets it, in bfloat16 with PyTorch's fused attention."""
    section = config.pretrain
    shape = project_shape(config.model, vocab_size=config.tokenizer.vocab_size)
    length = config.sequence_length(section, shape.context_length)
    hardware = Hardware(
        torch.device("cuda"), torch.bfloat16, "sdpa", True, 1,
        config.hardware.gradient_checkpointing,
    )  # fmt: skip
    at_once = section.micro_batch_size
    return Work(
        shape=shape,
        batch_size=section.batch_size,
        length=length,
        at_once=section.batch_size if at_once == "auto" else at_once,
        optimizer=section.optimizer,
        weight_bytes=2,
        recompute=config.hardware.gradient_checkpointing,
        sequence_bytes=sequence_bytes(shape, hardware, length),
    )
