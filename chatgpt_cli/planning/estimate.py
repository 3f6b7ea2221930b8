"""From what a rehearsal measured to what a stage will take: time, money, memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.planning.rehearsal import StageRehearsal
from chatgpt_cli.training.loop import AUTO_EVALUATIONS

# Training tokens for each parameter (without embeddings) at which compute is best spent:
# Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", table 3.
COMPUTE_OPTIMAL = 20
# Bytes for each weight: bfloat16; 8 or 4 bits with a scale for every group of weights.
_BYTES_PER_WEIGHT = {"bfloat16": 2.0, "int8": 1.06, "int4": 0.6}


@dataclass(frozen=True)
class StageEstimate:
    """What a stage will take if it runs to the end of its budget.

    Attributes:
        name: "pretrain" or "finetune".
        parameters: of the model; `trained` of them (or of an adapter beside them).
        steps, tokens, epochs: optimizer steps, tokens read (padding included), times that
            the data is seen.
        flops: floating-point operations of all steps.
        seconds: of the whole stage.
        tokens_per_second: while it steps.
        memory: bytes for training.
    """

    name: str
    parameters: int
    trained: int
    steps: float
    tokens: float
    epochs: float
    flops: float
    seconds: float
    tokens_per_second: float
    memory: int

    @classmethod
    def of(cls, measured: StageRehearsal) -> StageEstimate:
        """The estimate from measured parts."""
        steps, seconds = _length(measured)
        return cls(
            name=measured.name,
            parameters=measured.shape.num_parameters(),
            trained=measured.trained,
            steps=steps,
            tokens=steps * measured.step_tokens,
            epochs=steps / measured.batches_per_epoch,
            flops=steps * measured.step_tokens * measured.shape.flops_per_token(),
            seconds=seconds,
            tokens_per_second=measured.step_tokens / measured.step_seconds,
            memory=measured.memory,
        )

    def cost(self, price_per_hour: float) -> float:
        """Money, in the price's currency."""
        return self.seconds / 3600 * price_per_hour


def _length(measured: StageRehearsal) -> tuple[float, float]:
    """Steps and seconds of the whole stage."""
    amount, unit = measured.section.budget
    if unit == "minutes":
        # Everything counts in the budget: starting, evaluating and saving too.
        least, most = 0.0, 60 * amount / measured.step_seconds
        while most - least > 0.5:
            middle = (least + most) / 2
            inside = _seconds(measured, middle) < 60 * amount
            least, most = (middle, most) if inside else (least, middle)
        return least, 60 * amount
    steps = {
        "steps": amount,
        "tokens": amount / measured.step_tokens,
        "epochs": amount * measured.batches_per_epoch,
    }[unit]
    steps = float(max(1, math.ceil(steps - 1e-6)))
    return steps, _seconds(measured, steps)


def _seconds(measured: StageRehearsal, steps: float) -> float:
    """As if every evaluation were the best so far, which saves a checkpoint."""
    every = measured.section.eval_every
    evaluations = AUTO_EVALUATIONS if every == "auto" else steps / int(every)
    between = evaluations * (measured.evaluation_seconds + measured.save_seconds)
    return measured.start_seconds + steps * measured.step_seconds + between


def optimal_tokens(shape: ModelConfig) -> int:
    """The training tokens that spend compute best on a model of this size."""
    return COMPUTE_OPTIMAL * shape.num_parameters(embeddings=False)


def inference_bytes(shape: ModelConfig) -> dict[str, int]:
    """Memory for writing one text of full length, by the format of the weights."""
    # Keys and values are float32 on a CPU, and at most that.
    cache = 4 * 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * shape.context_length
    count = shape.num_parameters()
    return {name: round(count * size) + cache for name, size in _BYTES_PER_WEIGHT.items()}
