"""Makers of random objects, which Hypothesis drives in one of two ways.

In the short form it draws each decision of a maker, and can shrink what fails. In the deep form it draws one seed per
object, which costs a tenth and lets a test see tens of thousands of large objects; a failure is repeated by its seed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

DEEP = settings.get_current_profile_name() == "deep"


class Maker:
    """Makes objects from a source of random decisions."""

    def __init__(self, make: Callable[[Random], Any]) -> None:
        """Make objects by `make`."""
        self.make = make

    def map(self, function: Callable[[Any], Any]) -> Maker:
        """Make what `function` returns for an object."""
        return Maker(lambda random: function(self.make(random)))

    @property
    def strategy(self) -> st.SearchStrategy[Any]:
        """The strategy with which Hypothesis makes such objects."""
        return st.randoms(use_true_random=DEEP).map(self.make)


def pool(*values: Any) -> Maker:
    """Give one of some values."""
    return Maker(lambda random: values[random.randrange(len(values))])


def one_of(*makers: Maker) -> Maker:
    """Let one of some makers make the object."""
    return Maker(lambda random: makers[random.randrange(len(makers))].make(random))


def lists(members: Maker, max_size: int) -> Maker:
    """Make lists of at most so many members."""
    return Maker(lambda random: [members.make(random) for _ in range(random.randrange(max_size + 1))])


def tuples(*members: Maker) -> Maker:
    """Make tuples of one object of each maker."""
    return Maker(lambda random: tuple(member.make(random) for member in members))


def integers(lowest: int, highest: int) -> Maker:
    """Make integers, of each length about as often."""

    def make(random: Random) -> int:
        if random.randrange(8) == 0:
            return lowest if random.randrange(2) else highest
        bits = random.randrange(max(abs(lowest), abs(highest)).bit_length() + 1)
        number = random.randrange(1 << bits)
        if lowest < 0 and random.randrange(2):
            number = -number
        return min(max(number, lowest), highest)

    return Maker(make)


def _float(random: Random) -> float:
    if random.randrange(2):
        return struct.unpack("<d", random.getrandbits(64).to_bytes(8, "little"))[0]  # type: ignore[no-any-return]
    return random.choice([0.0, -0.0, 1.0, 0.5, 1e308, 5e-324, float("inf"), float("-inf"), float("nan")])


def _text(random: Random) -> str:
    ranges = ((0x20, 0x7F), (0x00, 0x100), (0x100, 0xD800), (0xE000, 0x110000))
    return "".join(chr(random.randrange(*ranges[random.randrange(4)])) for _ in range(random.randrange(7)))


FLOATS = Maker(_float)
SHORT_TEXT = Maker(_text)
SHORT_BYTES = Maker(lambda random: bytes(random.randrange(256) for _ in range(random.randrange(9))))


def built(factory: Callable[..., Any], **fields: tuple[Maker, Maker]) -> Maker:
    """Build objects by keyword: most have ordinary values in every field, some an odd one in one of them.

    Args:
        factory: what makes an object.
        fields: the ordinary and the odd values of each field.
    """
    choices = [*[""] * (3 * len(fields)), *fields]

    def make(random: Random) -> Any:
        odd_field = choices[random.randrange(len(choices))]
        return factory(
            **{name: (odd if name == odd_field else usual).make(random) for name, (usual, odd) in fields.items()}
        )

    return Maker(make)
