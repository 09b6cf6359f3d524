"""Settings of one origin: each value read and checked by itself, with the place that it comes from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from shipper.configuration.schema import Keys

_SHOWN_MAX: Final = 120


@dataclass(frozen=True)
class Setting:
    """A value and where it was set.

    Attributes:
        value: as settings have it.
        origin: the flag, the variable, or the file and the key.
        of_signal: it was said of one signal and not of all.
    """

    value: Any
    origin: str
    of_signal: bool = False


Layer: TypeAlias = dict[str, Setting]
"""Settings by their key in the file, whichever origin they have."""


@dataclass
class Problems:
    """Everything that is wrong, one sentence each, so that nobody has to mend it one by one."""

    found: list[str] = field(default_factory=list)

    def add(self, origin: str, rule: str, *, shown: object = None) -> None:
        """Note what is wrong at `origin`.

        Args:
            origin: the flag, the variable, or the file and the key.
            rule: the rule that is broken.
            shown: the value, if it may be shown.
        """
        value = "" if shown is None else f"is {_shown(shown)}: "
        sentence = f"{origin} {value}{rule}"
        if sentence not in self.found:
            self.found.append(sentence)

    def unknown(self, origin: str, key: str, known: Iterable[str]) -> None:
        """Note a key that does not exist."""
        near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(sorted(known))}"
        self.add(f"{origin} {key!r}", f"is not a key that exists here{hint}")


def read_layer(
    raw: Mapping[str, Any], keys: Keys, problems: Problems, origins: Mapping[str, str], *, of_signal: bool = False
) -> Layer:
    """Read and check every value of one origin. What is wrong is noted and left out.

    Args:
        raw: the values by their key; each key is one of `keys`.
        keys: what each key's value must be.
        problems: where to note what is wrong.
        origins: where each key was set.
        of_signal: the values are said of one signal.
    """
    layer: Layer = {}
    for key, value in raw.items():
        kind = keys[key]
        try:
            layer[key] = Setting(kind.read(value), origins[key], of_signal)
        except ValueError as error:
            problems.add(origins[key], str(error), shown=None if kind.secret else value)
    return layer


def pick(key: str, *layers: Layer) -> Setting | None:
    """Return the setting of the first layer that has one."""
    return next((layer[key] for layer in layers if key in layer), None)


def _shown(value: object) -> str:
    text = repr(str(value) if not isinstance(value, int | float | list | dict) else value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
