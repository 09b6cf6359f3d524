"""Whatever a client may write in OTLP/JSON, the transcoder gives the protobuf message that it stands for."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comet_otel.receiver.errors import UndecodableError
from comet_otel.receiver.json_transcoder import transcode
from comet_otel.streams import Signal
from tests.support.otlp_json import REQUESTS, Style, any_json, otlp_json, random_request

SIGNALS = st.sampled_from(Signal)
SEEDS = st.integers(0, 2**64 - 1)


@given(signal=SIGNALS, seed=SEEDS)
def test_a_request_written_as_json_is_transcoded_to_itself(signal, seed) -> None:
    """All fields of all messages, in every form that the rules allow, between unknown fields."""
    choose = random.Random(seed)
    request = random_request(signal, choose)
    found = transcode(signal, otlp_json(request, Style(choose)))
    # Compared as bytes: a NaN is not equal to itself in a message.
    parsed = REQUESTS[signal].FromString(found)
    assert parsed.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)
    assert len(found) == request.ByteSize()  # nothing is written twice, and no zero that is left out by rule


@given(signal=SIGNALS, seed=SEEDS, damage=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3)), max_size=4))
def test_a_damaged_body_is_transcoded_or_refused(signal, seed, damage) -> None:
    """Whatever becomes of the bytes, the answer is a well-formed request or the one error."""
    choose = random.Random(seed)
    body = bytearray(otlp_json(random_request(signal, choose, size=2), Style(choose)))
    for place, inserted in damage:
        at = int(place * len(body))
        body[at : at + choose.randint(0, 3)] = inserted
    try:
        found = transcode(signal, bytes(body))
    except UndecodableError:
        return
    REQUESTS[signal].FromString(found)


@given(signal=SIGNALS, seed=SEEDS)
def test_a_value_of_a_wrong_type_anywhere_is_read_as_its_rules_say_or_refused(signal, seed) -> None:
    """Some value of a good request is replaced by any other."""
    choose = random.Random(seed)
    tree = json.loads(otlp_json(random_request(signal, choose, size=2), Style(choose)))
    _replace_one(tree, choose, any_json(choose))
    body = json.dumps(tree).encode()
    try:
        found = transcode(signal, body)
    except UndecodableError:
        return
    REQUESTS[signal].FromString(found)


def _replace_one(tree: object, choose: random.Random, wrong: object) -> None:
    """Walk down at random and put a value in the place of another."""
    while True:
        places = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        if not places:
            return
        place = choose.choice(places)
        if not isinstance(tree[place], dict | list) or not tree[place] or choose.random() < 0.1:
            tree[place] = wrong
            return
        tree = tree[place]


@pytest.mark.parametrize("signal", Signal)
def test_the_writer_reaches_every_field(signal) -> None:
    """The random requests of the tests above set every field of every message, so that none goes untested."""
    choose = random.Random(signal.value)
    expected, seen = set(), set()
    _collect_fields(REQUESTS[signal].DESCRIPTOR, expected)
    for _ in range(500):
        _collect_set_fields(random_request(signal, choose), seen)
    assert seen == expected


def _collect_fields(descriptor, found: set[str]) -> None:
    for field in descriptor.fields:
        if field.full_name not in found:
            found.add(field.full_name)
            if field.message_type is not None:
                _collect_fields(field.message_type, found)


def _collect_set_fields(message, found: set[str]) -> None:
    for field, value in message.ListFields():
        found.add(field.full_name)
        if field.message_type is not None:
            for child in value if field.is_repeated else [value]:
                _collect_set_fields(child, found)
