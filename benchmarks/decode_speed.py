"""Tokens a second: ours, Hugging Face's generate and llama.cpp, on the same random weights.

    python -m benchmarks.decode_speed [--quick] [--only 12M|100M|streams] [--json FILE]

Programs take turns, a few tokens each, and the best turn counts: what else the machine
does meanwhile then hits all alike. Every text is greedy, from a prompt of 64 tokens.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import Report, options
from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.config.schema import TokenizerSection
from chatgpt_cli.generation.engine import Engine
from chatgpt_cli.generation.sampling import Sampling
from chatgpt_cli.interop.gguf_writer import Quantization as FileQuantization
from chatgpt_cli.interop.gguf_writer import write_gguf
from chatgpt_cli.interop.huggingface import LoadedModel, save_model
from chatgpt_cli.model.inference import InferenceModel
from chatgpt_cli.model.native.library import load_library
from chatgpt_cli.model.packed_linear import Quantization
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.tokenizer.train import train_tokenizer

SIZES: dict[str, dict[str, int]] = {
    "12M": {
        "vocab_size": 4096, "hidden_size": 384, "num_layers": 6, "num_heads": 6,
        "num_kv_heads": 6, "intermediate_size": 1024, "context_length": 1024,
    },
    "100M": {
        "vocab_size": 16384, "hidden_size": 768, "num_layers": 12, "num_heads": 12,
        "num_kv_heads": 12, "intermediate_size": 2048, "context_length": 1024,
    },
}  # fmt: skip
PROMPT, LONG = 64, 480
# The format of ours and llama.cpp's nearest, and the share that is wanted of its speed.
PAIRS: tuple[tuple[str, FileQuantization, float], ...] = (
    ("bf16", "bf16", 0.9),
    ("int8", "q8_0", 1.0),
    ("int4", "q4_0", 1.0),
)
NEVER: frozenset[int] = frozenset()


@dataclass
class Contestant:
    """Something that writes: seconds for so many tokens, and for reading a long prompt."""

    decode: Callable[[int], float]
    prefill: Callable[[], float]
    decoded: list[float] = field(default_factory=list)
    prefilled: list[float] = field(default_factory=list)


def random_model(config: ModelConfig) -> Transformer:
    """Weights large enough that the texts vary."""
    model = Transformer(config)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.04
        else:
            parameter.data.fill_(1.0)
    return model.eval()


def any_tokenizer() -> Tokenizer:
    """Some tokenizer; the texts mean nothing, and most of the vocabulary has no token in it."""
    texts = ["the quick brown fox jumps over the lazy dog"] * 100
    return train_tokenizer(texts, TokenizerSection(type="bpe", vocab_size=320))


def ours(
    model: Transformer, tokenizer: Tokenizer, quantization: Quantization, streams: int = 1
) -> Contestant:
    """This project's engine, as the server uses it."""
    library = load_library(torch.device("cpu"), build=True)
    packed = InferenceModel(model, quantization, library=library)
    engine = Engine(packed, tokenizer, max_rows=streams)

    def decode(tokens: int) -> float:
        sampling = Sampling(max_tokens=tokens + 1, temperature=0)
        for stream in range(streams):
            prompt = [20 + stream, *range(20, 20 + PROMPT - 1)]
            engine.submit(prompt, sampling, stop_ids=NEVER, follow=False)
        engine.step()
        started = time.perf_counter()
        while engine.writing:
            engine.step()
        return time.perf_counter() - started

    def prefill() -> float:
        sampling = Sampling(max_tokens=1, temperature=0)
        engine.submit(list(range(20, 20 + LONG)), sampling, stop_ids=NEVER, follow=False)
        started = time.perf_counter()
        engine.step()
        return time.perf_counter() - started

    return Contestant(decode, prefill)


def hugging_face(folder: Path) -> Contestant:
    """`generate` with its own cache, in bfloat16."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.eval()
    model.generation_config.eos_token_id = None

    @torch.inference_mode()
    def generate(prompt: int, tokens: int) -> float:
        ids = torch.arange(20, 20 + prompt)[None]
        started = time.perf_counter()
        model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens,
            do_sample=False, pad_token_id=0,
        )  # fmt: skip
        return time.perf_counter() - started

    return Contestant(
        lambda tokens: generate(PROMPT, tokens + 1) - generate(PROMPT, 1),
        lambda: generate(LONG, 1),
    )


def llama_cpp(path: Path) -> Contestant:
    """llama.cpp through llama-cpp-python, all cores."""
    from llama_cpp import Llama

    threads = torch.get_num_threads()
    llama: Any = Llama(
        str(path), n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads,
        verbose=False,
    )  # fmt: skip

    def decode(tokens: int) -> float:
        llama.reset()
        llama.eval(list(range(20, 20 + PROMPT)))
        started = time.perf_counter()
        for token in range(tokens):
            llama.eval([20 + token])
        return time.perf_counter() - started

    def prefill() -> float:
        llama.reset()
        started = time.perf_counter()
        llama.eval(list(range(20, 20 + LONG)))
        return time.perf_counter() - started

    return Contestant(decode, prefill)


def contest(contestants: dict[str, Contestant], *, tokens: int, seconds: float) -> None:
    """Let them take turns until the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for one in contestants.values():
            one.decoded.append(one.decode(tokens) / tokens)
            one.prefilled.append(one.prefill() / LONG)


def measure(report: Report, size: str, *, seconds: float) -> None:
    """All programs at one size."""
    config = ModelConfig.model_validate(SIZES[size])
    model = random_model(config)
    tokenizer = any_tokenizer()
    loaded = LoadedModel(model, tokenizer, config)
    contestants: dict[str, Contestant] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(model, tokenizer, folder)
        contestants["Hugging Face bf16"] = hugging_face(folder)
        for _, kind, _ in PAIRS:
            write_gguf(loaded, folder / f"{kind}.gguf", quantization=kind, name=size)
            contestants[f"llama.cpp {kind}"] = llama_cpp(folder / f"{kind}.gguf")
        contestants["ours fp32"] = ours(model, tokenizer, "none")
        model = model.to(torch.bfloat16)
        contestants["ours bf16"] = ours(model, tokenizer, "none")
        contestants["ours int8"] = ours(model, tokenizer, "int8")
        contestants["ours int4"] = ours(model, tokenizer, "int4")
        contest(contestants, tokens=16 if size == "100M" else 48, seconds=seconds)
    for who, one in contestants.items():
        report.figure(f"{size} {who}, tokens/s", 1 / min(one.decoded))
        report.figure(f"{size} {who}, median tokens/s", 1 / statistics.median(one.decoded))
        report.figure(f"{size} {who}, prompt tokens/s", 1 / min(one.prefilled))
    for form, kind, share in PAIRS:
        mine, theirs = contestants[f"ours {form}"], contestants[f"llama.cpp {kind}"]
        ratio = min(theirs.decoded) / min(mine.decoded)
        report.target(f"{size} {form} of llama.cpp {kind}", ratio, least=share)
        ratio = min(theirs.prefilled) / min(mine.prefilled)
        report.target(f"{size} {form} prompt, of llama.cpp {kind}", ratio, least=1.0)


def measure_streams(report: Report, *, seconds: float) -> None:
    """Sixteen texts at a time against one."""
    model = random_model(ModelConfig.model_validate(SIZES["12M"])).to(torch.bfloat16)
    tokenizer = any_tokenizer()
    one, sixteen = ours(model, tokenizer, "none"), ours(model, tokenizer, "none", streams=16)
    contest({"one": one, "sixteen": sixteen}, tokens=48, seconds=seconds)
    total = 16 / min(sixteen.decoded)
    report.figure("12M ours bf16, 16 texts, tokens/s", total)
    report.target("12M, 16 texts against one", total * min(one.decoded), least=6.0)


def main() -> None:
    """Measure and report."""
    parser = options(__doc__)
    parser.add_argument("--only", choices=[*SIZES, "streams"], help="a part of it")
    arguments = parser.parse_args()
    report = Report("decode_speed")
    for size in SIZES:
        if arguments.only in (None, size):
            measure(report, size, seconds=30 if arguments.quick else 120)
    if arguments.only in (None, "streams"):
        measure_streams(report, seconds=10 if arguments.quick else 30)
    report.write(arguments.json)


if __name__ == "__main__":
    main()
