"""Who does what to which thing, where and when: the facts that all texts are made of."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sample_world.lexicon import (
    COLOURED,
    COLOURS,
    PEOPLE,
    PLACES,
    QUALITIES,
    THINGS,
    TIMES,
    VERBS,
    Pair,
    Person,
    Thing,
    Verb,
)

T = TypeVar("T")

# One pair of a person and a thing in sixteen is kept for the tests.
_TEST_SHARE = 16

_SHOPS = ("market", "shop", "street", "village", "museum", "square", "airport", "station")
_INDOORS = ("kitchen", "basement", "attic", "office", "barn", "living room", "bedroom", "classroom")
_OUTDOORS = ("garden", "park", "yard", "farm", "lake", "river", "village", "zoo", "balcony", "barn")
_WHERE: dict[str, tuple[str, ...]] = {
    "buy": _SHOPS,
    "sell": ("market", "street", "square", "village", "shop", "beach"),
    "choose": _SHOPS,
    "borrow": ("library", "school", "classroom", "office", "village"),
    "wash": ("kitchen", "yard", "river", "lake"),
    "clean": _INDOORS,
    "repair": (*_INDOORS, "yard", "garden"),
    "feed": _OUTDOORS,
    "follow": _OUTDOORS,
    "cut": ("kitchen", "cafe", "tent", "yard"),
    "copy": ("library", "classroom", "office", "bedroom", "cafe", "window"),
}


# Bringing goes to a place and counting needs several: neither suits a plain event.
_SINGLE = [verb for verb in VERBS if verb.base not in ("bring", "count")]
_NOT_REPAIRED = {"rope", "candle", "spoon", "pillow", "blanket", "bottle", "balloon", "whistle"}


def places_for(verb: Verb) -> list[Pair]:
    """Where it makes sense to do this."""
    words = _WHERE.get(verb.base)
    if words is None:
        return PLACES
    return [place for place in PLACES if any(place.en.endswith(word) for word in words)]


def held_out(person: Person, what: str) -> bool:
    """Whether a person together with a thing (or place) belongs to the tests alone."""
    digest = hashlib.sha256(f"{person.en}|{what}".encode()).digest()
    return digest[0] % _TEST_SHARE == 0


@dataclass(frozen=True)
class Item:
    """A thing with at most one quality: "a red kite", 一只红色的风筝."""

    thing: Thing
    quality: Pair | None

    @property
    def en(self) -> str:
        words = self.thing.en if self.quality is None else f"{self.quality.en} {self.thing.en}"
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

    @property
    def zh(self) -> str:
        return f"一{self.thing.measure}{self._quality_zh}{self.thing.zh}"

    @property
    def the(self) -> str:
        """With the article of what is known."""
        return "the " + (
            self.thing.en if self.quality is None else f"{self.quality.en} {self.thing.en}"
        )

    @property
    def that(self) -> str:
        """那只红色的风筝."""
        return f"那{self.thing.measure}{self._quality_zh}{self.thing.zh}"

    @property
    def _quality_zh(self) -> str:
        if self.quality is None:
            return ""
        return self.quality.zh + ("的" if self.quality in COLOURS else "")


@dataclass(frozen=True)
class Event:
    """A person did something to a thing, somewhere, at some time."""

    person: Person
    verb: Verb
    item: Item
    place: Pair
    time: Pair

    @property
    def en(self) -> str:
        """The core without time: "Lily found a red kite in the garden"."""
        return f"{self.person.en} {self.verb.past} {self.item.en} {self.place.en}"

    @property
    def zh(self) -> str:
        """The core without time: 莉莉在花园里找到了一只红色的风筝."""
        return f"{self.person.zh}在{self.place.zh}{self.verb.zh_past}{self.item.zh}"


class NothingFitsError(Exception):
    """The people that were drawn leave no thing on the right side of the split."""


class World:
    """Draws people, things and events, of the tests or of training, never of both."""

    def __init__(self, seed: int, *, test: bool) -> None:
        self.random = random.Random(f"{seed} {test}")
        self.test = test

    def person(self, *others: Person) -> Person:
        """Somebody who is none of `others`."""
        while (found := self.random.choice(PEOPLE)) in others:
            pass
        return found

    def draw(self, make: Callable[[World], T]) -> T:
        """What `make` makes, tried again where the split leaves it no choice."""
        while True:
            try:
                return make(self)
            except NothingFitsError:
                continue

    def item(self, person: Person, kinds: tuple[str, ...], *, plain: bool = False) -> Item:
        """A thing of some kinds, together with this person on the right side of the split.

        Raises:
            NothingFitsError: if there is none.
        """
        right = [
            thing
            for thing in THINGS
            if thing.kind in kinds and held_out(person, thing.en) == self.test
        ]
        if not right:
            raise NothingFitsError
        thing = self.random.choice(right)
        quality = None
        if not plain and self.random.random() < 0.6:
            choices = COLOURS if thing.kind in COLOURED else QUALITIES.get(thing.kind, [])
            quality = self.random.choice(choices) if choices else None
        return Item(thing, quality)

    def place(self, person: Person, choices: list[Pair]) -> Pair:
        """A place; with this person on the right side of the split if one is."""
        right = [place for place in choices if held_out(person, place.en) == self.test]
        return self.random.choice(right or choices)

    def event(self, *others: Person) -> Event:
        """Somebody (none of `others`) doing something sensible."""
        while True:
            person, verb = self.person(*others), self.random.choice(_SINGLE)
            try:
                item = self.item(person, verb.kinds)
            except NothingFitsError:
                continue
            if verb.base != "repair" or item.thing.en not in _NOT_REPAIRED:
                break
        place = self.random.choice(places_for(verb))
        return Event(person, verb, item, place, self.random.choice(TIMES))

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability
