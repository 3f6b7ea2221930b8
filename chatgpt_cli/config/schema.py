"""The schema of a project's YAML file: one tree, every key with its default.

Unknown keys are errors. Checks that need only the configuration stand here;
checks that need the text (vocabulary against its size) stand where it is read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from chatgpt_cli.config.budget import Budget
from chatgpt_cli.config.model import PRESETS, ModelConfig
from chatgpt_cli.config.paths import STAGES
from chatgpt_cli.config.task_templates import task_template
from chatgpt_cli.errors import ConfigError


class Section(BaseModel):
    """A part of the file: no unknown keys, no silent conversions of strings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HardwareSection(Section):
    """What the work runs on. `auto` picks what is fastest here and says so."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    attention: Literal["auto", "sdpa", "matmul"] = "auto"
    compile: Literal["auto"] | bool = "auto"
    threads: Literal["auto"] | Annotated[int, Field(gt=0)] = "auto"
    # Multiply the blocks' matrices in whole numbers of 8 bits in pretrain and finetune
    # (docs/speed.md), but for adapters. auto: on CPUs that do so faster, in runs that are
    # compiled, unless the model comes from elsewhere (model.from).
    int8_training: Literal["auto"] | bool = "auto"
    # Compute each block twice instead of keeping what it computed: a third more time,
    # a small part of the memory.
    gradient_checkpointing: bool = False
    # How several processes divide training (docs/scaling.md). ddp: each has a copy of the
    # model; fsdp: each keeps a part of it and of the optimizer's state; hybrid: fsdp within
    # a machine, copies across machines.
    parallel: Literal["auto", "ddp", "fsdp", "hybrid"] = "auto"
    # Seconds that a process may keep the others waiting before it counts as hanging.
    rank_timeout: float = Field(600.0, gt=0)


class TokenizerSection(Section):
    """How text becomes tokens (SentencePiece)."""

    type: Literal["unigram", "bpe", "char"] = "unigram"
    vocab_size: int = Field(4096, ge=16, le=1_000_000)
    byte_fallback: bool = True
    split_digits: bool = True
    character_coverage: float = Field(0.9995, gt=0.5, le=1.0)
    # How much text the tokenizer is trained on at most, sampled from all of it.
    sample_bytes: int = Field(10_000_000, ge=1_000)
    # A folder with the tokenizer of another run or model, used as it is; none is trained.
    path: Path | None = None


def _with_newlines(text: str) -> str:
    """As text is read: all line ends are one."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class SourceSection(Section):
    """Where text comes from: a file, folder, glob or URL (anything fsspec opens).

    `sample:` paths are the sample data that travels with the package.
    """

    path: str
    # The field that holds the text in rows of JSONL, JSON, CSV, TSV and Parquet.
    field: str = "text"
    # How often the source's documents are repeated in an epoch of training (whole
    # times, then a sampled share): 0.5 keeps half of them, 2 shows each one twice.
    weight: float = Field(1.0, gt=0, le=100)
    # What divides a .txt file into documents; without it a file is one document.
    separator: Annotated[str, Field(min_length=1), AfterValidator(_with_newlines)] | None = None


def _as_source(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


Source = Annotated[SourceSection, BeforeValidator(_as_source)]


class NearDuplicatesSection(Section):
    """Documents that are nearly the same as an earlier one are left out (MinHash)."""

    # From which similarity on: shingles that both have, as a share of those that either has.
    threshold: float = Field(0.8, ge=0.3, le=1)
    # A shingle: so many words in a row, or characters of Chinese.
    shingle: int = Field(5, ge=1, le=50)


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class FiltersSection(Section):
    """What a document must be like; null switches a rule off. See docs/preprocessing.md.

    Words are also the single characters of scripts without spaces, such as Chinese.
    """

    min_words: Count | None = 50
    max_words: Count | None = 100_000
    # Of documents in words: letters in a word, on average.
    mean_word_length: tuple[float, float] | None = (3, 10)
    # The least share of words with a letter in them.
    min_lettered_words: Share | None = 0.8
    # Different words of stop_words, which prose can hardly do without.
    min_stop_words: Count | None = 2
    stop_words: list[str] = Field(
        default_factory=lambda: [
            *("the", "be", "to", "of", "and", "that", "have", "with"),
            *"的是了在不一有和我他这也",
        ]
    )
    # The largest share of words inside ten words in a row that occurred before.
    max_repeated_phrases: Share | None = 0.1
    # Hash signs and ellipses, as a share of the words.
    max_symbols: Share | None = 0.1
    # The largest or least share of lines: beginning with a bullet, ending with an ellipsis,
    # ending with a punctuation mark, and the same as one before.
    max_bullet_lines: Share | None = 0.9
    max_ellipsis_lines: Share | None = 0.3
    min_ended_lines: Share | None = 0.12
    max_repeated_lines: Share | None = 0.3
    # A document in which one of these occurs is left out, whatever their case.
    refused_phrases: list[str] | None = Field(default_factory=lambda: ["lorem ipsum"])

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.min_words and self.max_words is not None and self.max_words < self.min_words:
            raise ValueError(
                f"max_words ({self.max_words}) is less than min_words ({self.min_words})"
            )
        if self.mean_word_length and self.mean_word_length[0] > self.mean_word_length[1]:
            raise ValueError("mean_word_length is [least, most]; here the least is the larger")
        if self.min_stop_words and self.min_stop_words > len(self.stop_words):
            raise ValueError(
                f"min_stop_words ({self.min_stop_words}) is more than there are stop_words "
                f"({len(self.stop_words)})"
            )
        return self


# Settings of `data` that say how the work is done, and change nothing of what comes out.
HOW_IT_IS_DONE = frozenset({"workers", "in_parts", "engine"})


class DataSection(Section):
    """Raw text in, token shards out."""

    sources: list[Source] = Field(default_factory=list)
    # Text for validation only; when empty, a share of `sources` is kept aside.
    validation_sources: list[Source] = Field(default_factory=list)
    validation_fraction: float = Field(0.02, ge=0.0, lt=1.0)
    # hash: documents chosen by their content; tail: the last part of the text.
    split: Literal["hash", "tail"] = "hash"
    normalization: Literal["nfc", "nfkc", "none"] = "nfc"
    deduplicate: bool = True
    # Leave out what is nearly the same as an earlier document; `{}` takes the defaults.
    near_duplicates: NearDuplicatesSection | None = None
    # Keep documents in these languages only: ISO 639-1 codes such as [en, zh].
    languages: list[str] | None = Field(None, min_length=1)
    # Keep documents that look like prose; `{}` takes the usual limits.
    filters: FiltersSection | None = None
    min_chars: int = Field(1, ge=1)
    # Longer documents are cut, where a paragraph, line, sentence or word ends.
    max_chars: int = Field(100_000, ge=100)
    on_error: Literal["stop", "skip"] = "stop"
    # Processes on each machine.
    workers: Literal["auto"] | Annotated[int, Field(gt=0)] = "auto"
    # Whether the work is divided into parts that any worker or machine can do, and that need
    # not be done again after an interruption. auto: for a gigabyte or more, and where
    # several machines share the work.
    in_parts: Literal["auto"] | bool = "auto"
    # What runs the parts: processes of this program on each machine, or a Ray cluster.
    engine: Literal["processes", "ray"] = "processes"
    shard_tokens: int = Field(20_000_000, ge=1_000)


class ModelSection(Section):
    """The model's shape: a preset, and any choice of it changed; or a model to start from."""

    model_config = ConfigDict(serialize_by_alias=True)

    # A model to go on training: a folder, a .gguf file, a Hugging Face name (org/name) or
    # smollm2. It brings its own shape and tokenizer; of what follows, only
    # context_length (to limit it) and dropout can be set with it.
    from_: str | None = Field(None, alias="from", min_length=1)
    preset: str = "tiny"
    hidden_size: int | None = Field(None, gt=0)
    num_layers: int | None = Field(None, gt=0)
    num_heads: int | None = Field(None, gt=0)
    num_kv_heads: int | None = Field(None, gt=0)
    head_dim: int | None = Field(None, gt=0)
    intermediate_size: int | None = Field(None, gt=0)
    context_length: int | None = Field(None, gt=1)
    norm: Literal["rmsnorm", "layernorm"] | None = None
    positions: Literal["rope", "learned", "sinusoidal"] | None = None
    mlp: Literal["swiglu", "geglu", "gelu"] | None = None
    qk_norm: bool | None = None
    bias: bool | None = None
    tie_embeddings: bool | None = None
    causal: bool | None = None
    dropout: float | None = Field(None, ge=0.0, lt=1.0)
    rope_theta: float | None = Field(None, gt=0)
    norm_eps: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _builds(self) -> Self:
        if self.preset not in PRESETS:
            raise ValueError(f"preset {self.preset!r} is not one of {', '.join(PRESETS)}")
        if self.from_ is not None:
            fixed = {
                name
                for name, value in self.model_dump(exclude={"from_"}, exclude_none=True).items()
                if value != type(self).model_fields[name].default
            } - {"context_length", "dropout"}
            if fixed:
                raise ValueError(
                    f"the model that `from` names has its own {', '.join(sorted(fixed))}; "
                    "remove that here"
                )
        self.build(vocab_size=1)
        return self

    def build(self, vocab_size: int) -> ModelConfig:
        """The complete shape, with what was left open derived from what was said.

        Not for a model that starts `from` another: `interop.base.project_shape` is.

        Raises:
            ValueError: for choices that contradict each other.
        """
        values = dict(PRESETS[self.preset])
        values.update(self.model_dump(exclude={"preset", "from_"}, exclude_none=True))
        hidden, heads = int(str(values["hidden_size"])), int(str(values["num_heads"]))
        if "head_dim" not in values:
            if hidden % heads:
                raise ValueError(
                    f"hidden_size ({hidden}) is not a multiple of num_heads ({heads}); "
                    "change one of them or set head_dim"
                )
            values["head_dim"] = hidden // heads
        values.setdefault("num_kv_heads", heads)
        if "intermediate_size" not in values:
            # Two thirds of 4h for a gated MLP keeps its parameters equal to a plain
            # one of 4h (Shazeer 2020); rounded up to a multiple of 64 for the kernels.
            plain = values.get("mlp") == "gelu"
            values["intermediate_size"] = 4 * hidden if plain else -(-8 * hidden // 3 // 64) * 64
        return ModelConfig.model_validate({"vocab_size": vocab_size, **values})


class TrainingSection(Section):
    """What every kind of training has: budget, optimizer, schedule, care."""

    # How long: "3 epochs", "2000 steps", "10M tokens" or "20 minutes".
    budget: Budget = Budget(3, "epochs")
    # Sequences per optimizer step, and how many of them at once (memory).
    batch_size: int = Field(32, gt=0)
    micro_batch_size: Literal["auto"] | Annotated[int, Field(gt=0)] = "auto"
    # Tokens per sequence; the model's context_length when left out.
    sequence_length: int | None = Field(None, gt=1)

    optimizer: Literal["muon", "adamw"] = "muon"
    # AdamW's rate; with muon, for embeddings, norms and biases only.
    learning_rate: float = Field(3e-3, gt=0)
    # Muon's rate, for the matrices inside the blocks.
    muon_learning_rate: float = Field(0.02, gt=0)
    # How much of its direction Muon keeps from one step to the next.
    muon_momentum: float = Field(0.95, ge=0, lt=1)
    schedule: Literal["linear", "cosine", "wsd", "constant"] = "linear"
    # Shares of the budget: rising at its start, falling at its end (wsd only).
    warmup_fraction: float = Field(0.02, ge=0, le=1)
    decay_fraction: float = Field(0.4, ge=0, le=1)
    # The last learning rate as a share of the highest.
    min_lr_ratio: float = Field(0.0, ge=0, le=1)
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_clip: float = Field(1.0, ge=0)

    # Against overfitting. weight_decay is L2, decoupled (AdamW); l1 adds
    # l1 * sum|w| over the matrices to the loss; dropout replaces the model's.
    weight_decay: float = Field(0.1, ge=0)
    l1: float = Field(0.0, ge=0)
    dropout: float | None = Field(None, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    # Evaluations without improvement before training stops; 0 never stops early.
    early_stopping: int = Field(5, ge=0)

    # Steps between evaluations, checkpoints and samples; "auto" spreads about
    # twenty evaluations and four checkpoints over the budget.
    eval_every: Literal["auto"] | Annotated[int, Field(gt=0)] = "auto"
    save_every: Literal["auto"] | Annotated[int, Field(gt=0)] = "auto"
    log_every: int = Field(10, gt=0)
    # Validation tokens per evaluation, at most; "auto" takes so many that all evaluations
    # together cost about 4% of the run.
    eval_tokens: Literal["auto"] | Annotated[int, Field(gt=0)] = "auto"
    # Checkpoints kept: the newest, those with the lowest validation loss, and those of
    # every so many steps.
    keep_last: int = Field(2, gt=0)
    keep_best: int = Field(1, gt=0)
    keep_every: int | None = Field(None, gt=0)
    # Steps that may be left out because the loss or a gradient is not a number; one
    # more stops training.
    skip_bad_steps: int = Field(0, ge=0)
    # Prompts continued at each evaluation, shown and logged.
    sample_prompts: list[str] = Field(default_factory=list)
    sample_tokens: int = Field(60, gt=0)

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.schedule == "wsd" and self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                f"warmup_fraction ({self.warmup_fraction}) and decay_fraction "
                f"({self.decay_fraction}) add up to more than 1"
            )
        return self


class DistillSection(Section):
    """A larger model whose probabilities are learnt as well (Hinton et al. 2015)."""

    # A run directory, model folder, .gguf file or name, with the same tokenizer.
    teacher: str = Field(min_length=1)
    # The teacher's share of the gradient; the text's own next tokens have the rest.
    weight: float = Field(0.5, ge=0, le=1)
    # Above 1, what the teacher finds improbable counts more.
    temperature: float = Field(2.0, gt=0)


class PretrainSection(TrainingSection):
    """From token shards to a base model."""

    # AdamW's rate; with muon, for embeddings, norms and biases only. Left out, 0.003 where
    # optimizer: adamw trains all weights with it.
    learning_rate: float = Field(0.006, gt=0)
    # Sequences per optimizer step: few, since in a short run more steps help more than smoother
    # ones.
    batch_size: int = Field(16, gt=0)
    # How much of its direction Muon keeps from one step to the next: less than usual, since
    # a short run should turn quickly.
    muon_momentum: float = Field(0.9, ge=0, lt=1)
    # causal: predict the next token; masked: predict hidden tokens (BERT).
    objective: Literal["causal", "masked"] = "causal"
    mask_probability: float = Field(0.15, gt=0, lt=1)
    distill: DistillSection | None = None


Matrix = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class LoraSection(Section):
    """Small matrices trained beside frozen ones (LoRA; Hu et al. 2021)."""

    # Columns of each pair of small matrices, and alpha / rank, what they are scaled by.
    rank: int = Field(8, gt=0)
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    # Which matrices of every block get a pair; those a model lacks are left out.
    targets: list[Matrix] = Field(default_factory=lambda: list(get_args(Matrix)), min_length=1)
    # Whether the embeddings of special tokens are trained as well, and of those that the rows
    # hold and the text of the run's pretraining does not. Left out: where that pretraining is
    # what the adapter belongs to.
    special_tokens: bool | None = None


class ParallelFiles(Section):
    """Two text files, each line of the one translated by the same line of the other."""

    source: str
    target: str


# Files, folders, globs or URLs of rows, or two files that are read side by side.
Rows = str | ParallelFiles

Metric = Literal[
    "accuracy",
    "accuracy_normalized",
    "f1",
    "f1_micro",
    "f1_weighted",
    "precision",
    "recall",
    "calibration_error",
    "exact_match",
    "rouge_l",
    "bleu",
    "chrf",
    "chrf++",
    "ter",
    "distinct_1",
    "distinct_2",
    "repetition",
    "judge",
]


class BestBySection(Section):
    """A score of the model's own answers that says which checkpoint is the best."""

    # One of evaluate.tasks. Its rows decide, so the final scores need others.
    task: str = Field(min_length=1)
    metric: Metric
    # Rows answered at each evaluation, at most.
    rows: int = Field(100, gt=0)


# Kinds of rows that finetuning learns from: see docs/finetuning.md.
FinetuneTask = Literal[
    "chat",
    "instruction",
    "qa",
    "translation",
    "classification",
    "language_modeling",
    "masked_language_modeling",
]
Direction = Literal["forward", "backward", "both"]


class FinetuneSection(TrainingSection):
    """From a base model and rows to an assistant, a translator, a classifier."""

    learning_rate: float = Field(1e-3, gt=0)
    muon_learning_rate: float = Field(0.01, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    # What is learnt. chat takes rows of every kind that has an answer; instruction, qa and
    # translation take that kind only; classification trains a head with a score for each
    # label; the other two go on with plain text.
    task: FinetuneTask = "chat"
    # Files, folders or globs of rows, in any format that `chatgpt inspect` knows; or
    # {source, target}: two files whose lines are each other's translations.
    data: list[Rows] = Field(default_factory=list)
    validation_data: list[Rows] = Field(default_factory=list)
    validation_fraction: float = Field(0.02, ge=0, lt=1)
    # Translations: from the first language into the second, back, or both ways.
    direction: Direction = "forward"
    # Classification: the labels in the order of their numbers (0, 1, ...); those of the
    # training rows, sorted, when left out.
    labels: list[str] | None = Field(None, min_length=2)
    # Put before every conversation that has no system message of its own.
    system_prompt: str | None = None
    # Several conversations in one sequence, unable to see each other.
    packing: bool = True
    # Train an adapter instead of the whole model; `lora: {}` takes the defaults.
    lora: LoraSection | None = None
    distill: DistillSection | None = None
    # Leave so many of the first blocks as they are, and the embedding where it is not the
    # output too.
    freeze_layers: int = Field(0, ge=0)
    # The share of batches that are pretraining text instead, against forgetting it.
    replay: float = Field(0.0, ge=0, lt=1)
    # Which checkpoint is the best, and when to stop early; by the loss on the rows kept
    # aside when left out.
    best_by: BestBySection | None = None
    on_error: Literal["stop", "skip"] = "stop"

    @model_validator(mode="after")
    def _adapter_freezes_all(self) -> Self:
        if self.lora is not None and self.freeze_layers:
            raise ValueError("lora leaves all layers as they are; remove freeze_layers")
        return self


class PreferSection(TrainingSection):
    """From an assistant and pairs of a better and a worse answer to one that is preferred.

    Direct preference optimisation (DPO; Rafailov et al. 2023). label_smoothing is the
    share of pairs that may be the wrong way round (conservative DPO).
    """

    budget: Budget = Budget(2, "epochs")
    optimizer: Literal["muon", "adamw"] = "adamw"
    learning_rate: float = Field(1.5e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    # Files, folders or globs of rows: prompt, chosen, rejected.
    data: list[str] = Field(default_factory=list)
    validation_data: list[str] = Field(default_factory=list)
    validation_fraction: float = Field(0.05, ge=0, lt=1)
    # How closely the model is held to what it was before: higher is closer.
    beta: float = Field(0.1, gt=0)
    # How much the better answers are learnt as in finetuning besides, against forgetting.
    sft_weight: float = Field(0.2, ge=0)
    lora: LoraSection | None = None
    on_error: Literal["stop", "skip"] = "stop"

    @model_validator(mode="after")
    def _pairs_are_whole(self) -> Self:
        if self.batch_size % 2:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be even: half of the sequences are the "
                "better answers, half the worse ones"
            )
        return self


class ReinforceSection(TrainingSection):
    """From an assistant and questions whose answers can be checked to a better one.

    Group relative policy optimisation (GRPO; Shao et al. 2024) without its divisions by
    length and deviation, which favour long wrong answers (Dr. GRPO; Liu et al. 2025).
    """

    budget: Budget = Budget(1, "epochs")
    # Questions in a step; each is answered group_size times.
    batch_size: int = Field(16, gt=0)
    group_size: int = Field(8, gt=1)
    optimizer: Literal["muon", "adamw"] = "adamw"
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["linear", "cosine", "wsd", "constant"] = "constant"
    # Files, folders or globs of conversations; the last answer of each is the right one.
    data: list[str] = Field(default_factory=list)
    validation_data: list[str] = Field(default_factory=list)
    validation_fraction: float = Field(0.02, ge=0, lt=1)
    # What an answer earns. exact: 1 if it is the right one; number: 1 if its last number
    # is; pattern: 1 if what `pattern` finds in both is the same; module:function: your
    # own, called with (answer, row), the row as a dictionary, and returning a number.
    reward: str = "exact"
    pattern: str | None = None
    # Tokens of an answer at most, and how varied the answers are.
    max_tokens: int = Field(100, gt=0)
    temperature: float = Field(1.0, gt=0)
    # Updates made from each step's answers, and how far the probability of a token may
    # move in them before it stops counting.
    updates: int = Field(1, gt=0)
    clip: float = Field(0.2, gt=0)
    # Weight of the divergence from the model before; 0 does without.
    kl: float = Field(0.0, ge=0)
    lora: LoraSection | None = None
    on_error: Literal["stop", "skip"] = "stop"

    @model_validator(mode="after")
    def _reward_is_known(self) -> Self:
        named = self.reward in ("exact", "number", "pattern")
        if not named and not re.fullmatch(r"[\w.]+:\w+", self.reward):
            raise ValueError(
                f"reward {self.reward!r} is not exact, number, pattern or module:function"
            )
        if (self.reward == "pattern") != (self.pattern is not None):
            raise ValueError("reward: pattern and pattern belong together: set both or neither")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern is no regular expression: {error}") from None
        return self


# The learning rate of pretraining where AdamW has the matrices, too.
_OF_ALL_WEIGHTS = {"learning_rate": 3e-3}
# Learning rates for a model that learnt elsewhere and should not forget it; adapters,
# which start at zero, bear more.
_GENTLE = {"optimizer": "adamw", "learning_rate": 5e-5}
_GENTLER = {"optimizer": "adamw", "learning_rate": 5e-6}
_ADAPTER = {"optimizer": "adamw", "learning_rate": 5e-4}
# Tokens per sequence, where a foreign model's context would need too much memory.
_SEQUENCE_OF_FOREIGN = 1024


class TaskSection(Section):
    """One thing to measure: rows, how they are asked, and how answers are scored."""

    # A built-in description to begin from (configs/tasks/NAME.yaml), such as squad or
    # mmlu; what is set here takes precedence.
    like: str | None = None
    name: str
    data: str
    metrics: list[Metric] = Field(min_length=1)
    # Language of the answers: chooses BLEU's tokenizer and how F1 splits words.
    # auto decides row by row for F1, and by the majority for BLEU.
    language: Literal["auto", "en", "zh"] = "auto"
    # What of the answer counts: all of it, or the last number in it. With choice the
    # model does not write: of the choices (or labels), the most likely is its answer. Without
    # any of these its rows are pairs: the better answer is right, the worse one is not.
    answer: Literal["text", "number", "choice"] = "text"
    # Set for classification: an answer that is none of these counts as wrong.
    labels: list[str] | None = None

    # For rows that are no conversations, with fields of their own: what is asked and
    # what is right, as templates such as "{question}\nAnswer:". A field that is a list
    # holds several accepted answers.
    prompt: str | None = None
    reference: str | None = None
    # A template of a list ("{choices}"), or a list of templates. The reference may be a
    # choice's text, its letter, its number from 0, or one of choice_names.
    choices: str | list[str] | None = None
    choice_names: str | None = None
    # chat: as a user's turn. text: to be continued, as a base model is asked. auto is
    # chat for a finetuned model, and text for choices put to a base model.
    style: Literal["auto", "chat", "text"] = "auto"

    max_tokens: int = Field(100, gt=0)
    # 0 takes the most probable token each time.
    temperature: float = Field(0.0, ge=0)
    stop: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _from_template(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("like") is not None:
            return task_template(str(values["like"])) | values
        return values

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.prompt is None) != (self.reference is None):
            raise ValueError("prompt and reference belong together: set both or neither")
        if self.choices is not None and (self.answer != "choice" or self.prompt is None):
            raise ValueError("choices need answer: choice, and templates for prompt and reference")
        offers = self.choices is not None or self.labels is not None
        if self.answer == "choice" and self.prompt is not None and not offers:
            raise ValueError("answer: choice needs choices, or labels to choose from")
        for name in self.metrics:
            if not self.suits(name):
                needed = "answer: choice" if name == "accuracy_normalized" else "labels"
                raise ValueError(f"the metric {name} needs {needed}")
        return self

    def suits(self, metric: str) -> bool:
        """Whether a metric can be computed of this task's answers."""
        if metric == "accuracy_normalized":
            return self.answer == "choice"
        classes = ("f1_micro", "f1_weighted", "precision", "recall")
        return metric not in classes or self.labels is not None


class EndpointSection(Section):
    """A model behind an OpenAI-compatible address."""

    # Up to /v1, as in http://localhost:8000/v1.
    url: str
    model: str
    # The name of an environment variable; the key itself does not belong in a file.
    api_key_env: str = "OPENAI_API_KEY"
    # Questions asked at the same time.
    parallel: int = Field(4, gt=0)
    # Seconds to wait for an answer, and how often what may pass is tried again.
    timeout: float = Field(60.0, gt=0)
    retries: int = Field(4, ge=0)


class JudgeSection(EndpointSection):
    """A model that marks answers, for the metric judge."""

    # What is marked, from 1 to 10.
    instruction: str = (
        "Is the answer correct, complete and fluent? Judge it as a strict but fair examiner."
    )


class DistillDataSection(EndpointSection):
    """A model that answers prompts, for rows to finetune on."""

    # Files, folders or globs: a prompt a line (.txt), or rows with a prompt or messages.
    prompts: list[str] = Field(default_factory=list)
    # The .jsonl file that rows are added to.
    to: Path | None = None
    system_prompt: str | None = None
    # Whether the rows hold the system message too.
    keep_system: bool = False
    temperature: float = Field(0.7, ge=0)
    max_tokens: int = Field(500, gt=0)
    # Money per million tokens, to know what the rows cost.
    price_prompt: float = Field(0.0, ge=0)
    price_completion: float = Field(0.0, ge=0)


def _as_sources(value: object) -> object:
    return value if isinstance(value, list) else [value]


class TextSection(Section):
    """A text to measure that training does not see: its perplexity and bits per byte."""

    name: str = Field(min_length=1)
    # Files, folders or globs, as under data.sources; a weight means nothing here.
    data: Annotated[list[Source], BeforeValidator(_as_sources)] = Field(min_length=1)


class EvaluateSection(Section):
    """How a model is measured."""

    tasks: list[TaskSection] = Field(default_factory=list)
    # Texts that training does not see, such as a test split: perplexity, bits per byte.
    texts: list[TextSection] = Field(default_factory=list)
    # Rows per task, at most; all of them when left out.
    max_rows: int | None = Field(None, gt=0)
    batch_size: int = Field(64, gt=0)
    # Look for the rows in the text and rows that the model was trained on.
    contamination: bool = True
    judge: JudgeSection | None = None

    @model_validator(mode="after")
    def _judge_is_named(self) -> Self:
        if self.judge is None and any("judge" in task.metrics for task in self.tasks):
            raise ValueError("the metric judge needs evaluate.judge, with url and model")
        return self

    @model_validator(mode="after")
    def _texts_have_names(self) -> Self:
        names = [task.name for task in self.tasks] + [text.name for text in self.texts]
        for text in self.texts:
            if names.count(text.name) > 1:
                raise ValueError(f"there are two texts or tasks of the name {text.name}")
        return self


class GenerateSection(Section):
    """How text is drawn from a model."""

    max_tokens: int = Field(200, gt=0)
    # 0 takes the most probable token each time.
    temperature: float = Field(0.8, ge=0)
    # 0 keeps all tokens.
    top_k: int = Field(0, ge=0)
    top_p: float = Field(0.95, ge=1e-4, le=1)
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, ge=1e-4)
    stop: list[str] = Field(default_factory=list)
    seed: int | None = None
    # Weights in 8 or 4 bits: less to read for each token, a little less exact.
    quantize: Literal["none", "int8", "int4"] = "none"
    # A small model with the same tokenizer (run directory, folder) that guesses ahead for a
    # large one: the same text, in fewer steps.
    draft: str | None = Field(None, min_length=1)
    # Above 1: follow the most probable texts instead of drawing one.
    beams: int = Field(1, ge=1, le=64)
    # Beam search divides by length^this: 0 prefers short texts, above 1 long ones.
    length_penalty: float = 1.0
    system_prompt: str | None = None
    # Shown by `chatgpt generate --samples`.
    sample_prompts: list[str] = Field(default_factory=list)


class ServeSection(Section):
    """The HTTP server. Out of the box it is open to this machine only."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    # What clients call the model; the run directory's name when left out.
    model_name: str | None = None
    # Without keys everyone who can reach the server may use it.
    api_keys: list[str] = Field(default_factory=list)
    # Web pages elsewhere that may call the server from a browser.
    cors_origins: list[str] = Field(default_factory=list)
    # Texts written at a time, and texts that may wait; more are refused with 429.
    parallel: int = Field(16, ge=1, le=1024)
    max_queue: int = Field(64, ge=0)
    # For each key, or address where there are no keys; 0 sets no limit.
    requests_per_minute: int = Field(0, ge=0)
    max_body_kb: int = Field(1000, gt=0)
    # Memory for texts read before, so that a conversation is not read anew each turn.
    prefix_cache_mb: int = Field(256, ge=0)
    # After SIGTERM, requests under way may take so long to end.
    drain_seconds: int = Field(30, ge=0)


def _with_defaults(section: Any, defaults: dict[str, Any]) -> Any:
    """A section's values over other defaults than its own."""
    if section is None:
        return dict(defaults)
    return {**defaults, **section} if isinstance(section, dict) else section


Service = Literal["tensorboard", "wandb", "trackio"]


class Config(Section):
    """A whole project."""

    run_dir: Path = Path("runs/default")
    seed: int = Field(1234, ge=0, lt=2**31)
    # Where the curves of training go while it runs, besides metrics.jsonl.
    trackers: list[Service] = Field(default_factory=list)
    hardware: HardwareSection = Field(default_factory=HardwareSection)
    tokenizer: TokenizerSection = Field(default_factory=TokenizerSection)
    data: DataSection = Field(default_factory=DataSection)
    model: ModelSection = Field(default_factory=ModelSection)
    pretrain: PretrainSection = Field(default_factory=PretrainSection)
    finetune: FinetuneSection = Field(default_factory=FinetuneSection)
    prefer: PreferSection = Field(default_factory=PreferSection)
    reinforce: ReinforceSection = Field(default_factory=ReinforceSection)
    distill_data: DistillDataSection | None = None
    evaluate: EvaluateSection = Field(default_factory=EvaluateSection)
    generate: GenerateSection = Field(default_factory=GenerateSection)
    serve: ServeSection = Field(default_factory=ServeSection)

    @model_validator(mode="before")
    @classmethod
    def _suit_the_start(cls, values: Any) -> Any:
        """Other defaults for another optimizer, for what is trained already, and for adapters."""
        if not isinstance(values, dict):
            return values
        model = values.get("model")
        foreign = isinstance(model, dict) and model.get("from") is not None
        changed = dict(values)
        section = values.get("pretrain")
        if isinstance(section, dict) and section.get("optimizer") == "adamw":
            changed["pretrain"] = _with_defaults(section, _OF_ALL_WEIGHTS)
        if foreign:
            changed["pretrain"] = _with_defaults(values.get("pretrain"), _GENTLE)
            changed["finetune"] = _with_defaults(values.get("finetune"), _GENTLE)
            for name in ("prefer", "reinforce"):
                changed[name] = _with_defaults(values.get(name), _GENTLER)
        for name in ("finetune", "prefer", "reinforce"):
            section = values.get(name)
            if isinstance(section, dict) and section.get("lora") is not None:
                changed[name] = _with_defaults(section, _ADAPTER)
        return changed

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        for name in ("finetune", "prefer", "reinforce"):
            section = getattr(self, name)
            if section.lora is not None and section.optimizer != "adamw":
                raise ValueError(
                    f"{name}.lora trains with adamw: Muon's updates are made for whole matrices; "
                    f"remove {name}.optimizer"
                )
        if self.model.from_ is not None:
            if self.pretrain.objective != "causal":
                raise ValueError(
                    "pretrain.objective is masked, but model.from starts from a causal model"
                )
            return self
        shape = self.model.build(vocab_size=self.tokenizer.vocab_size)
        for name in STAGES:
            stage: TrainingSection = getattr(self, name)
            length = stage.sequence_length
            if length is not None and length > shape.context_length:
                raise ValueError(
                    f"{name}.sequence_length ({length}) is longer than the model's "
                    f"context_length ({shape.context_length})"
                )
        if self.pretrain.objective == "causal" and not shape.causal:
            raise ValueError(
                "pretrain.objective is causal, but model.causal is false: a bidirectional "
                "model sees the token it should predict; use objective: masked"
            )
        if self.pretrain.objective == "masked" and shape.causal:
            raise ValueError(
                "pretrain.objective is masked, but the model is causal: it cannot look to the "
                "right of a mask; use model.preset: bert or model.causal: false"
            )
        return self

    def sequence_length(self, stage: TrainingSection, context_length: int) -> int:
        """Tokens per sequence in a stage of training a model of this context.

        Raises:
            ConfigError: if more are set than the model can read.
        """
        if stage.sequence_length is not None:
            if stage.sequence_length > context_length:
                name = next(name for name in STAGES if getattr(self, name) is stage)
                raise ConfigError(
                    f"{name}.sequence_length ({stage.sequence_length}) is longer than the "
                    f"model's context ({context_length})",
                    remedy="Set a shorter one, or leave it out.",
                )
            return stage.sequence_length
        if self.model.from_ is None or self.model.context_length is not None:
            return context_length
        return min(context_length, _SEQUENCE_OF_FOREIGN)
