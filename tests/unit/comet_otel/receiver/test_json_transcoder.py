"""OTLP/JSON by its rules: what is accepted, what it means, and how what is refused is named."""

from __future__ import annotations

import base64
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from comet_otel.receiver._json_fields import KEY_CHARACTERS_MAX, KEYS_KNOWN_MAX, _key_fields
from comet_otel.receiver.errors import UndecodableError
from comet_otel.receiver.json_transcoder import transcode
from comet_otel.streams import Signal
from tests.support.otlp_json import HEXADECIMAL_FIELDS, REQUESTS

TRACE_ID = "5b8efff798038103d269b633813fc60c"
SPAN_ID = "eee19b7ec3c1b174"


def parsed(signal, tree) -> Any:
    """Return the message that a request's JSON means to the transcoder."""
    body = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    return REQUESTS[signal].FromString(transcode(signal, body))


def span_of(fields) -> Any:
    """Return the one span of a request."""
    request = parsed(Signal.TRACES, {"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]})
    return request.resource_spans[0].scope_spans[0].spans[0]


def value_of(value) -> Any:
    """Return the value of the one attribute of a span."""
    return span_of({"attributes": [{"key": "k", "value": value}]}).attributes[0].value


def point_of(kind, fields) -> Any:
    """Return the one data point of a metric of some kind."""
    tree = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{kind: {"dataPoints": [fields]}}]}]}]}
    metric = parsed(Signal.METRICS, tree).resource_metrics[0].scope_metrics[0].metrics[0]
    return getattr(metric, metric.WhichOneof("data")).data_points[0]


def refusal(fields) -> str:
    """Return what the transcoder says of a span, from the span on."""
    with pytest.raises(UndecodableError) as caught:
        span_of(fields)
    place, _, reason = str(caught.value).partition(": ")
    prefix = "resourceSpans[0].scopeSpans[0].spans[0]"
    assert place.startswith(prefix)
    return f"{place[len(prefix) :].lstrip('.')}: {reason}"


class TestIdentifiers:
    """Trace and span ids."""

    @pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
    def test_ids_are_hexadecimal_in_either_case(self, change) -> None:
        """Not base64, which would take the same digits for other bytes."""
        span = span_of({"traceId": change(TRACE_ID), "spanId": change(SPAN_ID), "parentSpanId": change(SPAN_ID)})
        assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, SPAN_ID, SPAN_ID)

    def test_ids_of_links_log_records_and_exemplars_are_hexadecimal_too(self) -> None:
        """Wherever an id stands."""
        ids = {"traceId": TRACE_ID, "spanId": SPAN_ID}
        link = span_of({"links": [ids]}).links[0]
        logs = parsed(Signal.LOGS, {"resourceLogs": [{"scopeLogs": [{"logRecords": [ids]}]}]})
        record = logs.resource_logs[0].scope_logs[0].log_records[0]
        exemplar = point_of("gauge", {"exemplars": [ids]}).exemplars[0]
        for found in (link, record, exemplar):
            assert (found.trace_id.hex(), found.span_id.hex()) == (TRACE_ID, SPAN_ID)

    def test_an_empty_id_is_no_id(self) -> None:
        """A root span's parent is often written as an empty text."""
        assert span_of({"parentSpanId": ""}).parent_span_id == b""

    @pytest.mark.parametrize(
        "wrong", [TRACE_ID[:-2], TRACE_ID + "00", "g" * 32, " 0" * 16, SPAN_ID, 7, ["00"], "é" * 32]
    )
    def test_an_id_of_another_form_is_refused(self, wrong) -> None:
        """Also one that base64 would read, and one of another length."""
        assert refusal({"traceId": wrong}).endswith("is not an id of 32 hexadecimal digits")

    def test_every_field_that_holds_an_id_is_known(self) -> None:
        """A new field of bytes in the generated messages must be looked at: an id, or bytes in base64?"""
        found: set[str] = set()
        for request in REQUESTS.values():
            _collect_bytes_fields(request.DESCRIPTOR, found, set())
        assert found == {*HEXADECIMAL_FIELDS, "bytes_value"}


def _collect_bytes_fields(descriptor, found, seen) -> None:
    if descriptor.full_name in seen:
        return
    seen.add(descriptor.full_name)
    for field in descriptor.fields:
        if field.type == field.TYPE_BYTES:
            found.add(field.name)
        if field.message_type is not None:
            _collect_bytes_fields(field.message_type, found, seen)


class TestNumbers:
    """Integers, doubles and enums."""

    @pytest.mark.parametrize(
        "written", [1544712660300000000, "1544712660300000000", "1.5447126603e18", "1544712660300000000.0"]
    )
    def test_a_long_integer_is_text_or_a_number(self, written) -> None:
        """Both, and with an exponent if it is whole."""
        assert span_of({"startTimeUnixNano": written}).start_time_unix_nano == 1544712660300000000

    @pytest.mark.parametrize("written", [-5, "-5", "-5.0", -5.0, "-50e-1"])
    def test_an_attribute_s_integer_is_text_or_a_number(self, written) -> None:
        """Negative ones take ten bytes."""
        assert value_of({"intValue": written}).int_value == -5

    @pytest.mark.parametrize(
        "number", [0, 127, 128, 2047, 2048, 2**31, 2**53 + 1, 10**18 - 1, 10**18, 2**63 - 1, -(2**63)]
    )
    def test_integers_keep_all_their_digits(self, number) -> None:
        """At the limits of their encodings."""
        assert value_of({"intValue": number}).int_value == number
        assert value_of({"intValue": str(number)}).int_value == number

    @pytest.mark.parametrize("wrong", [2**63, str(2**63), -(2**63) - 1, 1e30])
    def test_an_integer_beyond_its_range_is_refused(self, wrong) -> None:
        """It is not cut to fit."""
        place = "attributes[0].value.intValue: "
        assert refusal({"attributes": [{"key": "k", "value": {"intValue": wrong}}]}).startswith(place)

    @pytest.mark.parametrize(
        "wrong", ["", " 1", "1_0", "0x10", "+1", "1.5", "\u0663", "\u00b2", "1e999999999", "9" * 500, 0.5, True, {}, []]
    )
    def test_what_is_no_integer_is_refused(self, wrong) -> None:
        """Also what Python would take for one."""
        assert refusal({"endTimeUnixNano": wrong}).endswith("is not an integer")

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            (5, 5.0),
            (637.704, 637.704),
            ("1.5", 1.5),
            ("-1e-3", -0.001),
            ("Infinity", math.inf),
            ("-Infinity", -math.inf),
        ],
    )
    def test_a_double_is_a_number_or_text(self, written, expected) -> None:
        """With the names of what JSON has no numbers for."""
        assert value_of({"doubleValue": written}).double_value == expected
        assert point_of("gauge", {"asDouble": written}).as_double == expected

    def test_not_a_number_is_text(self) -> None:
        """NaN in quotes."""
        assert math.isnan(value_of({"doubleValue": "NaN"}).double_value)

    @pytest.mark.parametrize("wrong", ["nan", "inf", "1e999", 10**400, "", "1,5", True, []])
    def test_what_is_no_double_is_refused(self, wrong) -> None:
        """Also what Python would take for one, and what is too large."""
        assert refusal({"attributes": [{"key": "k", "value": {"doubleValue": wrong}}]}).startswith(
            "attributes[0].value.doubleValue: "
        )

    @pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity"])
    def test_not_a_number_outside_quotes_is_not_json(self, literal) -> None:
        """As Python's own writer has it by default."""
        with pytest.raises(UndecodableError, match="stands outside quotes"):
            transcode(Signal.TRACES, b'{"x": ' + literal + b"}")

    def test_a_number_too_large_for_a_double_is_refused(self) -> None:
        """It does not become infinite."""
        point = b'{"gauge": {"dataPoints": [{"asDouble": 1e999}]}}'
        body = b'{"resourceMetrics": [{"scopeMetrics": [{"metrics": [' + point + b"]}]}]}"
        with pytest.raises(UndecodableError, match="beyond the range of a double"):
            transcode(Signal.METRICS, body)

    def test_enums_are_integers(self) -> None:
        """Also such as this version does not know."""
        assert (span_of({"kind": 2}).kind, span_of({"kind": 77}).kind) == (2, 77)

    @pytest.mark.parametrize("wrong", ["SPAN_KIND_SERVER", "2", 2.5, True])
    def test_names_of_enum_values_are_refused(self, wrong) -> None:
        """OTLP/JSON has integers alone, and a wrong guess would change what was sent."""
        assert refusal({"kind": wrong}).startswith("kind: ")

    def test_lists_of_numbers_name_the_element(self) -> None:
        """Packed fields, of which each element is checked."""
        histogram = point_of("histogram", {"bucketCounts": ["1", 2, "3"], "explicitBounds": [1, 2.5, "Infinity"]})
        assert (list(histogram.bucket_counts), list(histogram.explicit_bounds)) == ([1, 2, 3], [1.0, 2.5, math.inf])
        with pytest.raises(UndecodableError, match=r"dataPoints\[0\].bucketCounts\[2\]: -1 is not from 0"):
            point_of("histogram", {"bucketCounts": [1, 2, -1]})

    def test_a_list_of_doubles_keeps_infinity_and_refuses_what_is_too_large(self) -> None:
        """In quotes it is meant; a number that has become infinite is not."""
        assert list(point_of("histogram", {"explicitBounds": [1, "Infinity"]}).explicit_bounds) == [1.0, math.inf]
        point = b'{"histogram": {"dataPoints": [{"explicitBounds": [1e999]}]}}'
        body = b'{"resourceMetrics": [{"scopeMetrics": [{"metrics": [' + point + b"]}]}]}"
        for large in (b"1e999", b"1" + b"0" * 400):
            with pytest.raises(UndecodableError, match=r"explicitBounds\[0\]: .* is beyond the range of a double"):
                transcode(Signal.METRICS, body.replace(b"1e999", large))

    def test_zeros_with_presence_are_kept(self) -> None:
        """A sum of zero is not the same as no sum."""
        histogram = point_of("histogram", {"sum": 0, "min": 0.0})
        assert (histogram.HasField("sum"), histogram.HasField("min"), histogram.HasField("max")) == (True, True, False)
        assert point_of("sum", {"asInt": "0"}).WhichOneof("value") == "as_int"
        assert value_of({"stringValue": ""}).WhichOneof("value") == "string_value"


class TestTextsAndBytes:
    """Strings and base64."""

    @pytest.mark.parametrize(
        "text", ["", "GET", "naïve", "日本語", "\U0001f600", "\x00", "x" * 125, "x" * 126, "x" * 20_000]
    )
    def test_texts_arrive_as_they_are(self, text) -> None:
        """At the limits of their encodings."""
        assert value_of({"stringValue": text}).string_value == text
        assert span_of({"name": text}).name == text

    def test_half_a_character_becomes_the_replacement_character(self) -> None:
        """JavaScript cuts texts so; UTF-8 cannot hold it, and the batch is not refused for it."""
        assert value_of({"stringValue": "ab\ud83d"}).string_value == "ab\ufffd"
        assert span_of({"attributes": [{"key": "\udc00", "value": {}}]}).attributes[0].key == "\ufffd"

    @pytest.mark.parametrize("written", ["+/+/AQ==", "+/+/AQ", "-_-_AQ==", "-_-_AQ"])
    def test_bytes_are_base64_in_either_alphabet(self, written) -> None:
        """Padded or not."""
        assert value_of({"bytesValue": written}).bytes_value == b"\xfb\xff\xbf\x01"

    @pytest.mark.parametrize("wrong", ["a", "a b=", "é", "AQ=A", 5])
    def test_what_is_not_base64_is_refused(self, wrong) -> None:
        """Nothing is skipped over."""
        assert refusal({"attributes": [{"key": "k", "value": {"bytesValue": wrong}}]}).endswith(
            "is not bytes in base64"
        )

    @pytest.mark.parametrize("wrong", [5, True, [], {}])
    def test_what_is_not_text_is_refused(self, wrong) -> None:
        """Nothing is made into text."""
        assert refusal({"name": wrong}).endswith("is not a string")

    @pytest.mark.parametrize("wrong", ["true", 1, "", []])
    def test_what_is_neither_true_nor_false_is_refused(self, wrong) -> None:
        """Truth is no matter of interpretation here."""
        assert refusal({"attributes": [{"key": "k", "value": {"boolValue": wrong}}]}).endswith("is not true or false")


class TestObjects:
    """Fields, and what is no field."""

    def test_unknown_fields_are_ignored(self) -> None:
        """Whatever they hold, and also names with underscores, which are not the fields' names here."""
        span = span_of({"name": "a", "future": [{"traceId": 1}], "trace_id": TRACE_ID, "": {"": None}})
        assert (span.name, span.trace_id) == ("a", b"")

    def test_null_is_the_same_as_absent(self) -> None:
        """For fields of every kind."""
        names = ["traceId", "name", "kind", "startTimeUnixNano", "attributes", "status", "flags"]
        assert span_of(dict.fromkeys(names)) == span_of({})
        assert value_of({"stringValue": None, "intValue": 1}).int_value == 1
        assert value_of(None).WhichOneof("value") is None

    def test_null_in_an_array_is_refused(self) -> None:
        """There it is no element and no absence."""
        assert refusal({"events": [{}, None]}) == "events[1]: null is not an object"

    def test_values_inside_values(self) -> None:
        """Arrays and lists of pairs."""
        found = value_of(
            {"arrayValue": {"values": [{"kvlistValue": {"values": [{"key": "a", "value": {"boolValue": True}}]}}, {}]}}
        ).array_value.values
        assert found[0].kvlist_value.values[0].value.bool_value is True
        assert found[1].WhichOneof("value") is None

    @pytest.mark.parametrize(
        ("fields", "place"),
        [
            ({"attributes": {"k": "v"}}, "attributes: an object is not an array"),
            ({"attributes": [{"key": 1, "value": {"intValue": 1}}]}, "attributes[0].key: 1 is not a string"),
            ({"attributes": [{"key": "k", "value": "v"}]}, "attributes[0].value: 'v' is not an object"),
            ({"attributes": ["k"]}, "attributes[0]: 'k' is not an object"),
            ({"status": []}, "status: an array is not an object"),
            ({"events": [{}, {"name": False}]}, "events[1].name: false is not a string"),
        ],
    )
    def test_a_wrong_type_is_refused_with_its_place(self, fields, place) -> None:
        """Fields by name, elements by index."""
        assert refusal(fields) == place

    def test_two_members_of_one_oneof_are_refused(self) -> None:
        """A reader of the wire format would keep the last and drop the other unseen."""
        fields = {"attributes": [{"key": "k", "value": {"stringValue": "a", "intValue": 1}}]}
        assert refusal(fields) == "attributes[0].value: has stringValue and intValue, which exclude each other"
        with pytest.raises(UndecodableError, match="gauge and sum"):
            parsed(Signal.METRICS, {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"gauge": {}, "sum": {}}]}]}]})

    def test_a_key_twice_in_one_object_is_refused(self) -> None:
        """One of the two would be lost unseen."""
        body = b'{"resourceSpans": [{"schemaUrl": "a", "scopeSpans": [], "schemaUrl": "b"}]}'
        with pytest.raises(
            UndecodableError, match=r"resourceSpans\[0\]: the key 'schemaUrl' stands in one object more"
        ):
            transcode(Signal.TRACES, body)

    def test_a_key_twice_inside_an_unknown_field_is_ignored_with_it(self) -> None:
        """Unknown fields are not looked into."""
        assert transcode(Signal.TRACES, b'{"unknown": {"a": 1, "a": 2}}') == b""

    @pytest.mark.parametrize(
        ("signal", "name"), [(s, n) for s in Signal for n in ("resourceSpans", "resourceLogs", "resourceMetrics")]
    )
    def test_each_signal_has_its_own_root(self, signal, name) -> None:
        """Another signal's root is an unknown field."""
        expected = {"resourceSpans": Signal.TRACES, "resourceLogs": Signal.LOGS, "resourceMetrics": Signal.METRICS}[
            name
        ]
        assert bool(transcode(signal, json.dumps({name: [{}]}).encode())) is (signal is expected)


class TestBodies:
    """The body as a whole."""

    @pytest.mark.parametrize("body", [b"{}", b" {} \n", b'{"resourceSpans": []}', b"\xef\xbb\xbf{}"])
    def test_an_empty_request_is_no_bytes(self, body) -> None:
        """As in protobuf's own encoding; a byte order mark is tolerated."""
        assert transcode(Signal.TRACES, body) == b""

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"{}{}", b"nope", b"{'a': 1}", b'{"a": 01}', b'{"a": "\n"}', b"{}\x00"]
    )
    def test_what_is_not_json_is_refused(self, body) -> None:
        """With the parser's place of it."""
        with pytest.raises(UndecodableError, match=r"^the body is not JSON: "):
            transcode(Signal.TRACES, body)

    @pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"a"'])
    def test_what_is_not_an_object_is_refused(self, body) -> None:
        """JSON, but no request."""
        with pytest.raises(UndecodableError, match=r"^the body: .* is not an object$"):
            transcode(Signal.TRACES, body)

    @pytest.mark.parametrize("body", [b'{"a": "\xff"}', "{}".encode("utf-16"), b"\xed\xa0\x80"])
    def test_bytes_that_are_not_utf_8_are_refused(self, body) -> None:
        """They are not guessed at."""
        with pytest.raises(UndecodableError, match=r"^the body is not UTF-8: byte"):
            transcode(Signal.TRACES, body)

    @pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"resourceSpans":[{"x":'])
    def test_bottomless_bodies_are_refused(self, opening) -> None:
        """No other error, whatever the parser would have run into."""
        with pytest.raises(UndecodableError, match="nested too deeply"):
            transcode(Signal.TRACES, opening * 200_000)

    @pytest.mark.parametrize(("levels", "accepted"), [(47, True), (48, False), (150, False)])
    def test_values_are_nested_as_deeply_as_protobuf_s_readers_take_them(self, levels, accepted) -> None:
        """What is stored can be parsed by whoever gets it."""
        value: dict = {}
        for _ in range(levels):
            value = {"arrayValue": {"values": [value]}}
        if accepted:
            assert value_of(value).ByteSize() > levels
        else:
            assert refusal({"attributes": [{"key": "k", "value": value}]}).endswith(
                "stands more than 100 messages deep"
            )

    def test_a_number_of_millions_of_digits_is_refused(self) -> None:
        """Reading it would take time that grows with its square."""
        with pytest.raises(UndecodableError):
            transcode(Signal.TRACES, b'{"x": ' + b"9" * 4_000_000 + b"}")

    def test_messages_stay_short(self) -> None:
        """What is quoted is cut."""
        assert len(refusal({"kind": "x" * 1_000_000})) < 300
        assert len(refusal({"name": 10**4000})) < 300

    def test_keys_that_never_come_again_take_no_memory(self) -> None:
        """What is kept of keys is bounded in number and length."""
        long_key = "k" * (KEY_CHARACTERS_MAX + 1)
        keys = [long_key, *(f"key {number}" for number in range(2 * KEYS_KNOWN_MAX + 10))]
        span = span_of({"attributes": [{"key": key, "value": {"intValue": 1}} for key in keys]})
        assert [attribute.key for attribute in span.attributes] == keys
        assert len(_key_fields) <= KEYS_KNOWN_MAX
        assert long_key not in _key_fields


SAMPLES = os.environ.get("COMET_OTLP_JSON_SAMPLES")


@pytest.mark.skipif(SAMPLES is None, reason="no samples: COMET_OTLP_JSON_SAMPLES names no folder of OTLP/JSON files")
@pytest.mark.parametrize(
    ("name", "signal"),
    [
        ("trace.json", Signal.TRACES),
        ("metrics.json", Signal.METRICS),
        ("logs.json", Signal.LOGS),
        ("events.json", Signal.LOGS),
    ],
)
def test_the_protocol_s_own_samples_equal_their_protobuf_meaning(name, signal) -> None:
    """Protobuf's reader agrees, once the ids are in the form that it takes."""
    body = Path(SAMPLES or "", name).read_bytes()
    expected = json_format.ParseDict(_with_base64_ids(json.loads(body)), REQUESTS[signal]())
    assert expected.ByteSize() > 100
    assert parsed(signal, body) == expected


def _with_base64_ids(tree) -> Any:
    if isinstance(tree, list):
        return [_with_base64_ids(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        name: base64.b64encode(bytes.fromhex(item)).decode()
        if name in {"traceId", "spanId", "parentSpanId"}
        else _with_base64_ids(item)
        for name, item in tree.items()
    }
