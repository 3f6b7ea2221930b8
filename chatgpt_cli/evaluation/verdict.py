"""What the curves of a training say, in plain words, and which knob to turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

Kind = Literal["improving", "converged", "overfitting", "short", "diverged"]
Record = dict[str, Any]
Point = tuple[float, float]

# Evaluations, and steps, below which a trend is a guess.
_FEWEST = 4
_FEWEST_STEPS = 20
# A rise of the validation loss above its best, as a share of it, that is no accident.
_RISE = 0.01
# A fall over the last quarter of training, as a share, that is still worth going on for.
_FALL = 0.01


@dataclass(frozen=True)
class Verdict:
    """How training went: `text` in English, `chinese` the same in Chinese."""

    kind: Kind
    text: str
    chinese: str


def series(records: Sequence[Record], kind: str, key: str) -> list[Point]:
    """(step, value) of all records of a type; values that are not numbers become NaN."""
    return [
        (float(record["step"]), _number(record[key]))
        for record in records
        if record.get("type") == kind
        and isinstance(record.get("step"), int | float)
        and record.get(key) is not None
    ]


def smooth(points: Sequence[Point]) -> list[Point]:
    """An exponential moving average over about a fiftieth of the points, unbiased at the start.

    Points that are not finite are left out.
    """
    good = [(x, y) for x, y in points if math.isfinite(y)]
    decay = 1 - 1 / max(1.0, len(good) / 50)
    mean = weight = 0.0
    smoothed = []
    for x, y in good:
        mean = decay * mean + (1 - decay) * y
        weight = decay * weight + (1 - decay)
        smoothed.append((x, mean / weight))
    return smoothed


def verdict(metrics: Sequence[Record]) -> Verdict:
    """Judge the records of a metrics.jsonl."""
    settings = _settings(metrics)
    train = series(metrics, "train", "loss")
    validation = series(metrics, "validation", "loss")
    if _diverged(train, validation):
        return _diverged_words(settings)
    smoothed = smooth(train)
    judged = [(x, y) for x, y in validation if math.isfinite(y)] if validation else smoothed
    if len(judged) < _FEWEST:
        return _short_words(settings)
    steps = int(judged[-1][0])
    if steps < _FEWEST_STEPS:
        return _few_steps_words(steps, settings)
    if validation and (best := _overfit(judged, smoothed)) is not None:
        return _overfitting_words(best, judged[-1], settings)
    fall = _late_fall(judged)
    if fall > _FALL:
        return _improving_words(fall, settings, held_out=bool(validation))
    return _converged_words(settings, judged, smoothed, held_out=bool(validation))


def _number(value: object) -> float:
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return math.nan


def _settings(metrics: Sequence[Record]) -> dict[str, Any]:
    """What the last start of the run was configured with."""
    for record in reversed(metrics):
        if record.get("type") == "start" and isinstance(record.get("settings"), dict):
            return dict(record["settings"])
    return {}


def _diverged(train: Sequence[Point], validation: Sequence[Point]) -> bool:
    """The loss ends as no number, or has lost most of what was won."""
    if any(points and not math.isfinite(points[-1][1]) for points in (train, validation)):
        return True
    values = [y for _, y in train if math.isfinite(y)]
    if len(values) < 8:
        return False
    part = max(3, len(values) // 10)
    first, last = values[0], median(values[-part:])
    best = min(median(values[i : i + part]) for i in range(len(values) - part + 1))
    won = max(first - best, 0.0)
    return last - best > max(0.5 * won, 0.2 * abs(best))


def _overfit(validation: Sequence[Point], train: Sequence[Point]) -> Point | None:
    """The best evaluation, if the loss rose after it while training's own went on falling."""
    best = min(validation, key=lambda point: point[1])
    after = [y for x, y in validation if x > best[0]]
    if not after or min(after[-2:]) - best[1] <= _RISE * abs(best[1]):
        return None
    then = [y for x, y in train if x <= best[0]]
    since = [y for x, y in train if x > best[0]]
    falling = not then or not since or since[-1] < then[-1]
    return best if falling else None


def _late_fall(points: Sequence[Point]) -> float:
    """How much of the loss the last quarter of the steps took away, as a share."""
    border = points[0][0] + 0.75 * (points[-1][0] - points[0][0])
    before = [y for x, y in points if x <= border]
    late = [y for x, y in points if x > border]
    # A single last evaluation may be lucky or not; two say more.
    end = sum(late[-2:]) / len(late[-2:])
    reached = min(before[-3:])
    return (reached - end) / max(abs(reached), 1e-12)


def _now(settings: dict[str, Any], key: str, chinese: bool = False) -> str:
    """The present value of a setting, in brackets, if it is known."""
    value = settings.get(key)
    if value is None:
        return ""
    return f"（现为 {value}）" if chinese else f" (now {value})"


def _diverged_words(settings: dict[str, Any]) -> Verdict:
    rate, muon = _now(settings, "learning_rate"), _now(settings, "muon_learning_rate")
    rate_zh = _now(settings, "learning_rate", True)
    muon_zh = _now(settings, "muon_learning_rate", True)
    return Verdict(
        "diverged",
        f"Diverged: the loss went up and did not come back. Lower learning_rate{rate} and "
        f"muon_learning_rate{muon} to a third, or raise warmup_fraction; if that does not help, "
        "set hardware.precision to float32.",
        f"训练发散：损失上升后没有回落。请把 learning_rate{rate_zh} 和 muon_learning_rate{muon_zh} "
        "降到三分之一，或增大 warmup_fraction；若仍无效，请将 hardware.precision 设为 float32。",
    )


def _short_words(settings: dict[str, Any]) -> Verdict:
    return Verdict(
        "short",
        f"Too short to tell: there are fewer than {_FEWEST} evaluations. For a trend, give it a "
        f"longer budget{_now(settings, 'budget')} or a smaller eval_every.",
        f"时间太短，无法判断：评估不足 {_FEWEST} 次。想看趋势，请增大 budget"
        f"{_now(settings, 'budget', True)} 或减小 eval_every。",
    )


def _few_steps_words(steps: int, settings: dict[str, Any]) -> Verdict:
    budget, batch = _now(settings, "budget"), _now(settings, "batch_size")
    budget_zh = _now(settings, "budget", True)
    batch_zh = _now(settings, "batch_size", True)
    return Verdict(
        "short",
        f"Too short to tell: {steps} steps. Give it a longer budget{budget} or a smaller "
        f"batch_size{batch}.",
        f"时间太短，无法判断：只有 {steps} 步。请增大 budget{budget_zh} "
        f"或减小 batch_size{batch_zh}。",
    )


def _overfitting_words(best: Point, last: Point, settings: dict[str, Any]) -> Verdict:
    dropout, decay = _now(settings, "dropout"), _now(settings, "weight_decay")
    dropout_zh = _now(settings, "dropout", True)
    decay_zh = _now(settings, "weight_decay", True)
    return Verdict(
        "overfitting",
        f"Overfitting: since step {best[0]:,.0f} the training loss still falls, but on text not "
        f"trained on it rises ({best[1]:.4g} to {last[1]:.4g}). The model learns by heart. The "
        f"checkpoint of step {best[0]:,.0f} is kept and used. What helps, best first: more data; "
        f"dropout of 0.1 to 0.2{dropout}; more weight_decay{decay}; a smaller model; a shorter "
        "budget. early_stopping ends such a run by itself.",
        f"过拟合：从第 {best[0]:,.0f} 步起，训练损失仍在下降，但在未训练过的文本上却在上升"
        f"（{best[1]:.4g} → {last[1]:.4g}），模型在死记硬背。"
        f"第 {best[0]:,.0f} 步的检查点已保留并会被使用。"
        f"改进办法（按效果排序）：增加数据；dropout 设为 0.1–0.2{dropout_zh}；增大 weight_decay"
        f"{decay_zh}；换更小的模型；缩短 budget。early_stopping 会自动结束这样的训练。",
    )


def _improving_words(fall: float, settings: dict[str, Any], *, held_out: bool) -> Verdict:
    what, what_zh = ("validation", "验证") if held_out else ("training", "训练")
    return Verdict(
        "improving",
        f"Still improving: the {what} loss fell by {fall:.1%} in the last quarter. A longer "
        f"budget{_now(settings, 'budget')} will make the model better; when it stops helping, "
        "use a larger model or more data." + _unseen(held_out)[0],
        f"仍在进步：{what_zh}损失在最后四分之一的训练中下降了 {fall:.1%}。增大 budget"
        f"{_now(settings, 'budget', True)} 模型还会更好；不再见效时，换更大的模型或增加数据。"
        + _unseen(held_out)[1],
    )


def _converged_words(
    settings: dict[str, Any],
    judged: Sequence[Point],
    train: Sequence[Point],
    *,
    held_out: bool,
) -> Verdict:
    end = judged[-1][1]
    gap = end - train[-1][1] if held_out and train and not settings.get("label_smoothing") else 0.0
    if gap > 0.15 * abs(end):
        more = (
            f" The training loss lies {gap:.2g} below: more data or dropout"
            f"{_now(settings, 'dropout')} will help more than a larger model."
        )
        more_zh = (
            f"训练损失比它低 {gap:.2g}：增加数据或 dropout{_now(settings, 'dropout', True)} "
            "比换更大的模型更有效。"
        )
    else:
        more = " A larger model will help more than a longer budget."
        more_zh = "换更大的模型比增大 budget 更有效。"
    return Verdict(
        "converged",
        f"Converged: the loss has settled at {end:.4g}.{more}" + _unseen(held_out)[0],
        f"已收敛：损失稳定在 {end:.4g}。{more_zh}" + _unseen(held_out)[1],
    )


def _unseen(held_out: bool) -> tuple[str, str]:
    if held_out:
        return "", ""
    return (
        " Without validation data nobody can tell whether it overfits: set validation_fraction.",
        "没有验证数据，无法判断是否过拟合：请设置 validation_fraction。",
    )
