"""How long to train, as people say it: "3 epochs", "2000 steps", "10M tokens", "20 minutes"."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Literal, NamedTuple, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

Unit = Literal["steps", "tokens", "epochs", "minutes"]

_PATTERN = re.compile(r"([\d_,]*\.?\d+(?:e\+?\d+)?)\s*([kKmMbB]?)\s+([A-Za-z]+)")
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_UNITS = {
    **{name: name for name in get_args(Unit)},
    **{name.removesuffix("s"): name for name in get_args(Unit)},
    "min": "minutes",
    "hour": "hours",
    "hours": "hours",
}


class Budget(NamedTuple):
    """An amount of training and its unit."""

    amount: float
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read a budget such as "2.5 epochs" or "10M tokens".

        Raises:
            ValueError: if the text is not an amount and a unit.
        """
        match = _PATTERN.fullmatch(text.strip())
        unit = _UNITS.get(match[3].lower()) if match else None
        if match is None or unit is None:
            raise ValueError(
                'expected an amount and a unit, such as "3 epochs", "2000 steps", '
                f'"10M tokens" or "20 minutes", got {text!r}'
            )
        # In decimals: 1.1k is 1100, to the last digit.
        amount = Decimal(match[1].replace(",", "").replace("_", "")) * _SCALE[match[2].lower()]
        if unit == "hours":
            amount, unit = amount * 60, "minutes"
        if amount <= 0:
            raise ValueError(f"a budget must be more than zero, got {text!r}")
        return cls(float(amount), unit)  # type: ignore[arg-type]

    def __str__(self) -> str:
        # Exactly, and without an exponent.
        return f"{Decimal(repr(self.amount)).normalize():f} {self.unit}"

    @classmethod
    def _validate(cls, value: object) -> Budget:
        if isinstance(value, Budget):
            return value
        if not isinstance(value, str):
            raise ValueError(
                'expected an amount and a unit, such as "3 epochs", "2000 steps", '
                f'"10M tokens" or "20 minutes", got {value!r}'
            )
        return cls.parse(value)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: type[Any], _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "examples": ["3 epochs", "2000 steps", "10M tokens"]}
