"""The encoder's caches: they never mix up what differs, and never take more memory than they may."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import tracemalloc
import weakref

import pytest
from opentelemetry.exporter.otlp.proto.common import trace_encoder
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from comet_otel.encoding import _budget, _wire, encode_logs, encode_spans
from tests.unit.comet_otel.telemetry import log_record, span


@pytest.fixture(autouse=True)
def _empty_caches() -> None:
    """Begin with nothing cached."""
    _budget.clear()


def stock(spans) -> bytes:
    """Return the stock encoder's request."""
    payload: bytes = trace_encoder.encode_spans(spans).SerializeToString()
    return payload


@pytest.mark.parametrize("values", list(itertools.permutations([True, 1, 1.0])))
def test_values_that_python_calls_equal_stay_apart(values) -> None:
    """True, 1 and 1.0 are one key of a dict; on the wire they are three things, whichever comes first."""
    for value in values:
        one = [span(1, attributes={"a": value, "list": (value,), "map": {"b": value}})]
        assert encode_spans(one) == stock(one)


def test_zeros_of_both_signs_stay_apart() -> None:
    """0.0 and -0.0 are equal as well."""
    for value in (0.0, -0.0, 0, False):
        one = [span(1, attributes={"a": value})]
        assert encode_spans(one) == stock(one)


def test_keys_and_texts_of_one_spelling_do_not_meet() -> None:
    """A cached field belongs to its key, its value and its place in the message."""
    one = [span(1, name="a", attributes={"a": "b", "b": "a", "c": ("a", "b"), "d": ("b", "a")})]
    assert encode_spans(one) == stock(one)
    assert encode_spans(one) == stock(one)


def test_a_new_resource_at_the_address_of_an_old_one_is_not_mistaken_for_it() -> None:
    """A cache by identity holds what it knows, so that its address is not given to another."""
    for number in range(1_000):
        one = span(1)
        one._resource = Resource({"number": number})
        one._instrumentation_scope = InstrumentationScope(f"scope {number}")
        payload = encode_spans([one])
        del one
        assert f"scope {number}".encode() in payload
        assert b"number\x12" in payload
    assert payload.count(b"scope ") == 1


def test_resources_that_are_not_used_any_more_are_let_go() -> None:
    """An application that makes a resource per batch does not fill its memory with them."""
    alive = []
    for number in range(8_000):
        resource = Resource({"number": number})
        alive.append(weakref.ref(resource))
        one = span(1)
        one._resource = resource
        encode_spans([one])
    del resource, one
    gc.collect()
    assert sum(reference() is not None for reference in alive) < 5_000


def grown_by(run) -> int:
    """Return by how many bytes the memory in use is larger after a call."""
    gc.collect()
    tracemalloc.start()
    try:
        run()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["values", "keys", "names", "long texts", "tuples"])
def test_memory_stays_flat_under_values_that_never_come_again(what) -> None:
    """Whatever is unique, all caches together stay within their budget."""

    def run() -> None:
        for number in range(3_000):
            one = {
                "values": lambda n: span(1, attributes={f"key {k}": f"value {k} {n}" for k in range(8)}),
                "keys": lambda n: span(1, attributes={f"key {n}": n, f"text {n}": "x", f"flag {n}": True}),
                "names": lambda n: span(1, name=f"name {n}"),
                "long texts": lambda n: span(1, attributes={"a": "x" * n}),
                "tuples": lambda n: span(1, attributes={f"a {n % 50}": (f"{n}", "b" * 50)}),
            }[what](number)
            encode_spans([one])
            encode_logs([log_record(f"body {number}", attributes={f"key {number}": 0.5})])

    assert grown_by(run) < _budget.CACHE_BYTES_MAX


def test_a_cache_that_filled_with_single_values_becomes_useful_again() -> None:
    """After enough misses it forgets what it kept, and keeps what comes then."""
    names = _wire.TextFields(b"\x2a")
    for number in range(_wire.MISSES_STORED):
        assert names[f"start {number}"] == b"\x2a" + bytes((len(f"start {number}"),)) + f"start {number}".encode()
    assert "start 0" in names
    for number in range(_wire.MISSES_FORGOTTEN):
        assert names[f"single {number}"].endswith(f"single {number}".encode())
    assert len(names) <= _wire.MISSES_STORED
    assert names["often"] == b"\x2a\x05often"
    assert "often" in names
    assert "start 0" not in names


def test_threads_share_the_caches_while_they_are_emptied(monkeypatch) -> None:
    """With a budget that is spent at every turn, no thread ever gets another's bytes or an error."""
    monkeypatch.setattr(_budget, "CACHE_BYTES_MAX", 10_000)
    _budget.clear()
    batches = [
        [
            span(n, name=f"name {n % 7}", attributes={f"key {n % 5}": n % 3, "text": f"{n % 11}"})
            for n in range(k, k + 40)
        ]
        for k in range(1, 9)
    ]
    expected = [stock(batch) for batch in batches]
    wrong: list[object] = []
    go = threading.Barrier(4)

    def encode() -> None:
        go.wait()
        try:
            for _ in range(10):
                wrong.extend(
                    batch for batch, request in zip(batches, expected, strict=True) if encode_spans(batch) != request
                )
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=encode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_forked_child_encodes_its_own_resource() -> None:
    """The SDK gives a child another resource object; what the parent cached is not taken for it."""
    one = span(1)
    before = encode_spans([one])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        one._resource = Resource({"service.name": "child"})
        os.write(write, encode_spans([one]))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        from_child = pipe.read()
    os.waitpid(child, 0)
    assert b"child" in from_child
    assert encode_spans([one]) == before
    one._resource = Resource({"service.name": "child"})
    assert from_child == stock([one])
