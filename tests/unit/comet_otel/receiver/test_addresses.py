"""Where the receiver can be told to listen."""

from __future__ import annotations

from pathlib import Path

import pytest

from comet_otel.receiver.addresses import Address, parse_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:4317", Address("127.0.0.1", 4317)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:4318", Address("::1", 4318)),
        ("http://127.0.0.1:4318/", Address("127.0.0.1", 4318)),
        ("unix:/run/otlp.sock", Address("", path=Path("/run/otlp.sock"))),
        ("unix:///run/otlp.sock", Address("", path=Path("/run/otlp.sock"))),
        ("unix:otlp.sock", Address("", path=Path("otlp.sock"))),
    ],
)
def test_addresses_are_read(text, expected) -> None:
    """Hosts with ports, IPv6 in brackets, URLs and paths are taken."""
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "4317", "localhost", "localhost:", ":4317", "::1:4317", "h:65536", "h:-1", "h:1/v1", "unix:", "unix://h/p"],
)
def test_other_text_is_refused(text) -> None:
    """What names no place to listen is a ValueError that says the rule."""
    with pytest.raises(ValueError, match="must"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.8.9.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/x", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.0.2.7:1", False),
        ("no-such-host.invalid:1", False),
    ],
)
def test_it_is_known_who_can_reach_an_address(text, local) -> None:
    """Loopback and sockets in the file system are local; all else, and what cannot be resolved, is not."""
    assert parse_address(text).is_local() is local


@pytest.mark.parametrize("text", ["127.0.0.1:4317", "[::1]:4318", "unix:/run/otlp.sock"])
def test_an_address_reads_as_it_was_written(text) -> None:
    """The text of an address can be read again."""
    assert str(parse_address(text)) == text
