"""Mutated OTLP requests: each is made from a seed and its number alone, so that any of them can be made again."""

from __future__ import annotations

import gzip
import json
import random
import re
import zlib
from dataclasses import dataclass, field
from typing import Final

import zstandard
from google.protobuf.message import DecodeError

from comet_otel.receiver.errors import UndecodableError
from comet_otel.receiver.json_transcoder import transcode
from comet_otel.streams import Signal, route_of_signal
from tests.support.otlp_json import REQUESTS, Style, any_json, otlp_json, random_request

BASES: Final = 40
BASE_BYTES_MAX: Final = 6_000
BODY_BYTES_MAX: Final = 1 << 20
"""The receiver's limit in these campaigns: small, so that going beyond it is cheap."""

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

_ROOTS: Final = {Signal.TRACES: "resourceSpans", Signal.METRICS: "resourceMetrics", Signal.LOGS: "resourceLogs"}
_ODD_BYTES: Final = (
    *(b"\xff" * 10, b"\x80" * 9 + b"\x01", b"\xff\xff\xff\xff\x0f", b"\x0b", b"\x0c", b"\x00", b"\x07", b"\x0a\x7f"),
    *(
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\x1a\x02\xff\xfe",
        b"\xf8\x07\x01",
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"\\u",
        b",",
        b"null",
    ),
)
_CONTENT_TYPES: Final = (
    *(
        "application/x-protobuf; charset=utf-8",
        "APPLICATION/JSON",
        "application/json;a=b",
        "text/plain",
        "",
        "x",
        "*/*",
    ),
    *("application/x-protobuf,application/json", "application/grpc", "a" * 300, "\xe9", "application/json\t; x"),
)
_ENCODINGS: Final = ("gzip, zstd", "br", "GZIP", "identity", "", "x", "none", "x-gzip", "zstd,zstd", "\xe9")
_PATHS: Final = (
    "/",
    "/v1/trace",
    "/v1/traces/",
    "//v1/traces",
    "/v1/traces?x=1",
    "/v1/%74races",
    "/healthz",
    "*",
    "/" + "a" * 2000,
)
_METHODS: Final = ("GET", "PUT", "HEAD", "OPTIONS", "POST ", "post", "X", "DELETE", "CONNECT")


@dataclass
class FuzzedRequest:
    """One request, and what must come of it.

    Attributes:
        number: which one it is.
        protocol: ``http`` or ``grpc``.
        signal: whose path or method it goes to.
        body: what is sent.
        method: of HTTP.
        path: of HTTP, or the full name of a gRPC method.
        headers: of HTTP.
        chunked: whether the body goes in chunks.
        grpc_gzip: whether gRPC compresses the message.
        head_damage: bytes put into the head of an HTTP request, and where; the connection is then used up.
        expected: the entry that it becomes when it is acknowledged; None: it must not be acknowledged.
        may_be_refused: whether its headers are a reason to refuse it.
    """

    number: int
    protocol: str
    signal: Signal
    body: bytes
    method: str = "POST"
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    grpc_gzip: bool = False
    head_damage: tuple[float, bytes] | None = None
    expected: bytes | None = None
    may_be_refused: bool = False


class Mutator:
    """Makes requests.

    Args:
        seed: of all of them.
        large: whether bodies around the receiver's limit are among them; a small log has them split.
    """

    def __init__(self, seed: int, *, large: bool = True) -> None:
        self._seed = seed
        self._large_share = 0.001 if large else 0.0
        choose = random.Random(f"{seed} bases")
        self._messages: dict[Signal, list[bytes]] = {signal: [] for signal in Signal}
        self._json: dict[Signal, list[bytes]] = {signal: [] for signal in Signal}
        for signal in Signal:
            while len(self._messages[signal]) < BASES:
                message = random_request(signal, choose, size=2)
                if 0 < message.ByteSize() <= BASE_BYTES_MAX:
                    self._messages[signal].append(message.SerializeToString())
                    self._json[signal].append(otlp_json(message, Style(choose)))

    def request(self, number: int) -> FuzzedRequest:
        """Return one request."""
        choose = random.Random(f"{self._seed} {number}")
        signal = choose.choice(list(Signal))
        if choose.random() < 0.4:
            return self._grpc(number, signal, choose)
        return self._http(number, signal, choose)

    def _grpc(self, number: int, signal: Signal, choose: random.Random) -> FuzzedRequest:
        request = FuzzedRequest(number, "grpc", signal, self._protobuf_body(number, signal, choose))
        request.path = route_of_signal(signal).grpc_method
        request.grpc_gzip = choose.random() < 0.2
        request.expected = _protobuf_entry(signal, request.body)
        if choose.random() < 0.01:
            request.path = choose.choice(
                ("/x/y", request.path + "x", "/opentelemetry.proto.collector.trace.v1.TraceService/")
            )
            request.expected, request.may_be_refused = None, True
        return request

    def _http(self, number: int, signal: Signal, choose: random.Random) -> FuzzedRequest:
        is_json = choose.random() < 0.5
        plain = (self._json_body if is_json else self._protobuf_body)(number, signal, choose)
        encoding = choose.choices(("", "gzip", "zstd", "deflate"), (70, 15, 10, 5))[0]
        body = _compressed(plain, encoding, choose)
        if encoding and choose.random() < 0.2:
            body = mutated(body, choose)
        request = FuzzedRequest(number, "http", signal, body, path=f"/{route_of_signal(signal).http_path}")
        request.headers = {"Content-Type": JSON if is_json else PROTOBUF}
        if encoding:
            request.headers["Content-Encoding"] = encoding
        request.chunked = choose.random() < 0.1
        entry_of = _json_entry if is_json else _protobuf_entry
        decompressed = _decompressed(body, encoding)
        if decompressed is not None and max(len(body), len(decompressed)) <= BODY_BYTES_MAX:
            request.expected = entry_of(signal, decompressed)
        if choose.random() < 0.06:
            self._mutate_headers(request, choose)
        if choose.random() < 0.03:
            damage = choose.choice(
                (choose.randbytes(choose.randint(1, 4)), b"\r\n", b":", b" ", b"\x00", b"9" * 30, b"")
            )
            request.head_damage = (choose.random(), damage)
        return request

    @staticmethod
    def _mutate_headers(request: FuzzedRequest, choose: random.Random) -> None:
        """Change what is said about the body; whether it is then understood is not foreseen here."""
        request.may_be_refused = True
        change = choose.randrange(6)
        if change == 0:
            request.headers["Content-Type"] = choose.choice(_CONTENT_TYPES)
        elif change == 1:
            request.headers["Content-Encoding"] = choose.choice(_ENCODINGS)
        elif change == 2:
            request.path = choose.choice(_PATHS)
        elif change == 3:
            request.method = choose.choice(_METHODS)
        elif change == 4:
            request.headers.pop("Content-Type")
        else:
            request.headers[choose.choice(("X-" + "y" * 100, "Expect", "TE", "Upgrade", "Accept"))] = (
                "z" * choose.choice((1, 40_000))
            )

    def _protobuf_body(self, number: int, signal: Signal, choose: random.Random) -> bytes:
        text = f"fuzz {number}".encode()
        resource = b"\x1a" + bytes([len(text)]) + text
        body = b"\x0a" + bytes([len(resource)]) + resource + choose.choice(self._messages[signal])
        if choose.random() < self._large_share:
            return body * (BODY_BYTES_MAX // len(body) + choose.randrange(3))
        return mutated(body, choose, choose.choice(self._messages[signal])) if choose.random() < 0.75 else body

    def _json_body(self, number: int, signal: Signal, choose: random.Random) -> bytes:
        body = choose.choice(self._json[signal])
        marker = f'{{"schemaUrl":"fuzz {number}"}}'.encode()
        body = re.sub(
            rb'("%s": ?\[)(.)' % _ROOTS[signal].encode(), lambda found: _with_first(found, marker), body, count=1
        )
        if choose.random() < self._large_share:
            return body.ljust(BODY_BYTES_MAX + choose.randrange(-1, 3))
        kind = choose.random()
        if kind < 0.35:
            return _with_another_value(body, choose)
        return mutated(body, choose, choose.choice(self._json[signal])) if kind < 0.75 else body


def _with_first(found: re.Match[bytes], marker: bytes) -> bytes:
    return found[1] + marker + (b"" if found[2] == b"]" else b",") + found[2]


_JSON_TOKEN: Final = re.compile(rb'"[^"\\]*"(?=[,\]}])|-?[0-9][0-9.eE+-]*|true|false|null|\[\]|\{\}')


def _with_another_value(body: bytes, choose: random.Random) -> bytes:
    """Put some other value in the place of one or two."""
    for _ in range(choose.randint(1, 2)):
        places = [found.span() for found in _JSON_TOKEN.finditer(body)]
        if not places:
            break
        start, end = choose.choice(places)
        body = body[:start] + json.dumps(any_json(choose)).encode() + body[end:]
    return body


def mutated(body: bytes, choose: random.Random, other: bytes = b"") -> bytes:
    """Return bytes changed in one to three places."""
    changed = bytearray(body)
    for _ in range(choose.randint(1, 3)):
        start = choose.randint(0, len(changed))
        end = min(len(changed), start + choose.choice((0, 1, 1, 2, 4, 16, 200)))
        match choose.randrange(8):
            case 0 if start < len(changed):
                changed[start] ^= 1 << choose.randrange(8)
            case 1 if start < len(changed):
                changed[start] = choose.randrange(256)
            case 2:
                del changed[start:end]
            case 3:
                changed[start:start] = choose.choice(_ODD_BYTES)
            case 4:
                changed[start:end] = changed[start:end] * 2
            case 5:
                del changed[start:]
            case 6:
                changed[start:end] = choose.randbytes(end - start)
            case _:
                at = choose.randint(0, len(other))
                changed[start:end] = other[at : at + choose.choice((1, 8, 64, 500))]
    return bytes(changed)


def _compressed(body: bytes, encoding: str, choose: random.Random) -> bytes:
    if encoding == "gzip":
        if choose.random() < 0.1:  # two members, as a client that appends has them
            half = len(body) // 2
            return gzip.compress(body[:half], 1) + gzip.compress(body[half:], 1)
        return gzip.compress(body, 1)
    if encoding == "zstd":
        return zstandard.compress(body, 1)
    return zlib.compress(body, 1) if encoding else body


def _decompressed(body: bytes, encoding: str) -> bytes | None:
    """Return what the standard library and zstandard's simplest way make of a body; None: they refuse it."""
    try:
        if encoding == "zstd":
            return (
                zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read()
                if _ends(body)
                else None
            )
        if encoding:
            return _inflated(body, 31 if encoding == "gzip" else 15)
    except (zlib.error, zstandard.ZstdError, EOFError, MemoryError):
        return None
    return body


def _ends(body: bytes) -> bool:
    """Whether there is a frame of zstd, and the last one is whole, which the reader of them does not tell."""
    ends = False
    while body:
        stream = zstandard.ZstdDecompressor().decompressobj()
        stream.decompress(body)
        ends = stream.eof
        if not ends:
            break
        body = stream.unused_data
    return ends


def _inflated(body: bytes, window_bits: int) -> bytes:
    found = b""
    while True:
        stream = zlib.decompressobj(window_bits)
        found += stream.decompress(body)
        if not stream.eof:
            raise EOFError
        body = stream.unused_data
        if not body:
            return found
        if window_bits == 15:
            raise EOFError


def _protobuf_entry(signal: Signal, body: bytes) -> bytes | None:
    if len(body) > BODY_BYTES_MAX:
        return None
    try:
        REQUESTS[signal].FromString(body)
    except DecodeError:
        return None
    return body


def _json_entry(signal: Signal, body: bytes) -> bytes | None:
    try:
        entry = transcode(signal, body)
    except UndecodableError:
        return None
    REQUESTS[signal].FromString(entry)  # what is stored can be read by everybody
    return entry
