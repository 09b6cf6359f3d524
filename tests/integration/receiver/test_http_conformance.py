"""What the receiver's HTTP side answers to what; a row of the table in `docs/receiver.md` for each test."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
import zstandard
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.otlp_requests import (
    JSON,
    PROTOBUF,
    ask,
    log_request,
    metric_request,
    post,
    raw_connection,
    trace_request,
    trace_request_of,
)

pytestmark = pytest.mark.integration

KIB = 1024
MIB = 1024 * KIB


def head(*lines: str) -> bytes:
    """Return the beginning of a request, up to its body."""
    return "\r\n".join([*lines, "", ""]).encode()


def status_of(answer) -> Status:
    """Return the google.rpc.Status of an error that was answered in protobuf."""
    assert answer.headers["content-type"] == PROTOBUF
    status = Status.FromString(answer.body)
    assert status.message
    return status


def test_protobuf_is_stored_unchanged_and_answered_in_protobuf(node) -> None:
    """Each signal's bytes go to its stream as they came; the answer is an empty response, of the same type."""
    bodies = {"traces": trace_request(3), "metrics": metric_request(), "logs": log_request()}
    for signal, body in bodies.items():
        answer = post(node.http, f"/v1/{signal}", body)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", PROTOBUF)
        assert node.stored(f"{signal}:v1") == [body]


@pytest.mark.parametrize("content_type", [JSON, "application/json; charset=utf-8", "Application/JSON;v=1"])
def test_json_is_stored_as_protobuf_and_answered_in_json(node, content_type) -> None:
    """A JSON body becomes the protobuf that it means; parameters and case of the content type do not matter."""
    span = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "EEE19B7EC3C1B174", "name": "a"}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    answer = post(node.http, "/v1/traces", body, content_type)
    assert (answer.status, answer.body) == (200, b"{}")
    [stored] = node.stored()
    [found] = ExportTraceServiceRequest.FromString(stored).resource_spans[0].scope_spans[0].spans
    assert (found.name, found.span_id.hex()) == ("a", "eee19b7ec3c1b174")


@pytest.mark.parametrize("content_type", ["application/x-protobuf; charset=utf-8", "APPLICATION/X-PROTOBUF"])
def test_parameters_of_the_content_type_are_no_matter(node, content_type) -> None:
    """Protobuf with parameters, or in capitals, is protobuf."""
    assert post(node.http, "/v1/traces", trace_request(), content_type).status == 200


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/octet-stream", "application/json5"])
def test_another_content_type_is_not_supported(node, content_type) -> None:
    """Any other content type, or none, gets 415 and is not stored."""
    answer = post(node.http, "/v1/traces", trace_request(), content_type)
    assert answer.status == 415
    assert json.loads(answer.body)["code"] == 12
    assert node.stored() == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_another_method_is_not_allowed(node, method) -> None:
    """Only POST exports; the answer names it."""
    answer = ask(node.http, method, "/v1/traces", content_type=PROTOBUF)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert status_of(answer).code == 12


@pytest.mark.parametrize(
    "path", ["/", "/v1/traces/x", "/v1/trace", "/V1/traces", "/v2/logs", "/v1development/profiles"]
)
def test_another_path_is_not_found(node, path) -> None:
    """There are the paths of the three signals, and no others."""
    answer = post(node.http, path, trace_request())
    assert answer.status == 404
    assert status_of(answer).code == 12


@pytest.mark.parametrize("path", ["/v1/traces/", "//v1/traces", "http://shop.example:4318/v1/traces"])
def test_other_ways_to_write_a_path_are_no_matter(node, path) -> None:
    """A slash too many, or the server's name in front, is what clients and proxies send that mean the same."""
    assert post(node.http, path, trace_request()).status == 200
    assert len(node.stored()) == 1


def test_a_query_is_no_matter(node) -> None:
    """What stands behind the question mark is not looked at."""
    assert post(node.http, "/v1/traces?tenant=a", trace_request()).status == 200


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
        ("", bytes),
    ],
)
def test_encoded_bodies_are_stored_decoded(node, encoding, encode) -> None:
    """Gzip, zstd, deflate and nothing: the entry is the message itself."""
    body = trace_request(5)
    assert post(node.http, "/v1/traces", encode(body), content_encoding=encoding).status == 200
    assert node.stored() == [body]


def test_several_gzip_members_are_one_body(node) -> None:
    """Gzip members one after the other are, as RFC 1952 has it, the joined content."""
    first, second = trace_request(name="a"), trace_request(name="b")
    joined = gzip.compress(first) + gzip.compress(second)
    assert post(node.http, "/v1/traces", joined, content_encoding="gzip").status == 200
    assert node.stored() == [first + second]


@pytest.mark.parametrize("encoding", ["br", "snappy", "gzip, gzip", "compress"])
def test_an_unknown_encoding_is_not_supported(node, encoding) -> None:
    """Another content encoding gets 415, and the answer lists those that are taken."""
    answer = post(node.http, "/v1/traces", trace_request(), content_encoding=encoding)
    assert (answer.status, "gzip" in answer.headers["accept-encoding"]) == (415, True)
    assert node.stored() == []


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"no gzip"),
        ("gzip", gzip.compress(trace_request(20))[:-9]),
        ("gzip", gzip.compress(trace_request()) + b"trailing"),
        ("gzip", b""),
        ("zstd", zstandard.ZstdCompressor().compress(trace_request(20))[:-3]),
        ("zstd", b"no zstd"),
        ("deflate", zlib.compress(trace_request()) + b"x"),
    ],
)
def test_a_body_that_is_not_of_its_encoding_is_bad(node, encoding, body) -> None:
    """What cannot be decompressed, or not to its end, gets 400."""
    answer = post(node.http, "/v1/traces", body, content_encoding=encoding)
    assert answer.status == 400
    assert status_of(answer).code == 3
    assert node.stored() == []


@pytest.mark.parametrize(("content_type", "body"), [(PROTOBUF, b""), (JSON, b"{}"), (JSON, b'{"resourceSpans": []}')])
def test_an_empty_request_succeeds_and_is_not_stored(node, content_type, body) -> None:
    """A message without a resource is a success, and nothing to keep."""
    assert post(node.http, "/v1/traces", body, content_type).status == 200
    assert node.stored() == []


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"resourceSpans":', b"\xff{}", b'{"resourceSpans": 7}'])
def test_what_is_not_a_json_request_is_bad(node, body) -> None:
    """An empty body, broken JSON, and JSON of another shape get 400, with a status in JSON."""
    answer = post(node.http, "/v1/traces", body, JSON)
    assert (answer.status, answer.headers["content-type"]) == (400, JSON)
    status = json.loads(answer.body)
    assert status["code"] == 3
    assert status["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert node.stored() == []


def test_unknown_fields_are_kept_in_protobuf_and_ignored_in_json(node) -> None:
    """A newer client's fields are no error: protobuf keeps them, JSON leaves them out."""
    body = trace_request() + b"\xaa\x06\x03new"
    assert post(node.http, "/v1/traces", body).status == 200
    assert post(node.http, "/v1/traces", b'{"newField": 1, "resourceSpans": [{"other": {}}]}', JSON).status == 200
    assert node.stored()[0] == body


def test_text_that_is_not_utf8_is_bad(node) -> None:
    """Bytes that are no UTF-8 in a text deep inside the message get 400."""
    body = trace_request(2, name="caf\u00e9").replace("caf\u00e9".encode(), b"caf\xc3\x28", 1)
    answer = post(node.http, "/v1/traces", body)
    assert answer.status == 400
    assert status_of(answer).details[0].type_url.endswith("google.rpc.BadRequest")
    assert node.stored() == []


def test_truncated_protobuf_is_bad(node) -> None:
    """A body without its last byte gets 400."""
    assert post(node.http, "/v1/traces", trace_request(2)[:-1]).status == 400
    assert node.stored() == []


@pytest.mark.parametrize("trace_id", ["5b8efff798038103d269b633813fc60", "W47/95gDgQPSabYzgT/GDA==", "zz" * 16])
def test_a_wrong_id_in_json_is_bad(node, trace_id) -> None:
    """An id of a wrong length, in base64, or that is no number gets 400."""
    span = {"traceId": trace_id, "spanId": "eee19b7ec3c1b174", "name": "a"}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    assert post(node.http, "/v1/traces", body, JSON).status == 400
    assert node.stored() == []


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_stops_at_the_limit(node, encoding) -> None:
    """1 GiB of zeros in 1 MiB of gzip (less in zstd) gets 413, without being decompressed beyond the limit."""
    piece = bytes(16 * MIB)
    compressed = gzip.compress(piece) if encoding == "gzip" else zstandard.ZstdCompressor().compress(piece)
    answer = post(node.http, "/v1/traces", compressed * 64, content_encoding=encoding)
    assert answer.status == 413
    assert status_of(answer).code == 8


def test_a_body_at_the_limit_is_taken_and_one_over_it_is_not(start) -> None:
    """The limit counts bytes of the body; one more gets 413, and no hint to try again."""
    node = start(max_body_bytes=100 * KIB)
    body = trace_request_of(100 * KIB)
    assert post(node.http, "/v1/traces", body).status == 200
    answer = post(node.http, "/v1/traces", trace_request_of(100 * KIB + 1))
    assert answer.status == 413
    assert status_of(answer).code == 8
    assert "retry-after" not in answer.headers
    assert node.stored() == [body]


def test_the_limit_holds_after_decompression_too(start) -> None:
    """A compressed body is measured as it comes and decompressed."""
    node = start(max_body_bytes=100 * KIB)
    for size, status in ((100 * KIB, 200), (100 * KIB + 1, 413)):
        body = gzip.compress(trace_request_of(size))
        assert post(node.http, "/v1/traces", body, content_encoding="gzip").status == status


def test_a_chunked_body_is_taken_and_measured(start) -> None:
    """A body in chunks, without a Content-Length, is one body; over the limit it gets 413."""
    node = start(max_body_bytes=100 * KIB)
    for size, status in ((100 * KIB, 200), (100 * KIB + 1, 413)):
        body = trace_request_of(size)
        with raw_connection(node.http) as connection:
            connection.send(
                head("POST /v1/traces HTTP/1.1", "Host: x", f"Content-Type: {PROTOBUF}", "Transfer-Encoding: chunked")
            )
            for start_of_chunk in range(0, size, 7000):
                chunk = body[start_of_chunk : start_of_chunk + 7000]
                connection.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            connection.send(b"0\r\n\r\n")
            assert connection.read_answer().status == status


def test_a_client_that_expects_to_be_asked_is_asked(node) -> None:
    """Expect: 100-continue gets 100, and after the body the answer."""
    body = trace_request()
    with raw_connection(node.http) as connection:
        connection.send(
            head(
                "POST /v1/traces HTTP/1.1",
                "Host: x",
                f"Content-Type: {PROTOBUF}",
                f"Content-Length: {len(body)}",
                "Expect: 100-continue",
            )
        )
        assert connection.read_answer().status == 100
        connection.send(body)
        assert connection.read_answer().status == 200


def test_a_client_that_expects_to_be_asked_is_refused_before_it_sends(node) -> None:
    """Expect: 100-continue with a body over the limit gets 413 at once, and the connection ends."""
    with raw_connection(node.http) as connection:
        connection.send(
            head(
                "POST /v1/traces HTTP/1.1",
                "Host: x",
                f"Content-Type: {PROTOBUF}",
                f"Content-Length: {65 * MIB}",
                "Expect: 100-continue",
            )
        )
        answer = connection.read_answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert connection.at_end()


def test_http_1_0_is_answered_and_closed(node) -> None:
    """A client of HTTP/1.0 gets its answer, and the connection ends with it."""
    body = trace_request()
    with raw_connection(node.http) as connection:
        connection.send(
            head("POST /v1/traces HTTP/1.0", f"Content-Type: {PROTOBUF}", f"Content-Length: {len(body)}") + body
        )
        assert connection.read_answer().status == 200
        assert connection.at_end()


def test_a_connection_is_kept_for_more_requests(node) -> None:
    """Requests on one connection of HTTP/1.1 are answered in order, also when they come all at once."""
    bodies = [trace_request(name=f"request {number}") for number in range(3)]
    with raw_connection(node.http) as connection:
        for body in bodies:
            request = head(
                "POST /v1/traces HTTP/1.1", "Host: x", f"Content-Type: {PROTOBUF}", f"Content-Length: {len(body)}"
            )
            connection.send(request + body)
        assert [connection.read_answer().status for _ in bodies] == [200, 200, 200]
    assert node.stored() == bodies


def test_a_connection_outlives_a_refusal_whose_body_was_read(node) -> None:
    """After 400 the same connection takes the next request."""
    good = trace_request()
    with raw_connection(node.http) as connection:
        for body, status in ((b"\xff\xff", 400), (good, 200)):
            request = head(
                "POST /v1/traces HTTP/1.1", "Host: x", f"Content-Type: {PROTOBUF}", f"Content-Length: {len(body)}"
            )
            connection.send(request + body)
            assert connection.read_answer().status == status
    assert node.stored() == [good]


@pytest.mark.parametrize("line", ["NONSENSE", "POST  /v1/traces HTTP/1.1", "\x16\x03\x01\x02\x00\x01\x00"])
def test_what_is_no_http_is_bad(node, line) -> None:
    """Bytes that are no HTTP get 400 and the end of the connection."""
    with raw_connection(node.http) as connection:
        connection.send(head(line, "Host: x"))
        assert connection.read_answer().status == 400
        assert connection.at_end()


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: -1",),
        ("Content-Length: five",),
        ("Transfer-Encoding: gzip, chunked",),
    ],
)
def test_an_ambiguous_length_is_bad(node, headers) -> None:
    """Lengths that two servers could read in two ways are refused."""
    with raw_connection(node.http) as connection:
        connection.send(head("POST /v1/traces HTTP/1.1", "Host: x", f"Content-Type: {PROTOBUF}", *headers))
        answer = connection.read_answer()
        assert answer.status in {400, 501}
        assert connection.at_end()


def test_headers_over_the_limit_are_bad(start) -> None:
    """Headers of more than the limit get 431, or 400 while they are still coming and already too long."""
    node = start(max_header_bytes=4 * KIB)
    with raw_connection(node.http) as connection:
        connection.send(head("POST /v1/traces HTTP/1.1", "Host: x", "Content-Length: 0", "X-Long: " + "x" * 8 * KIB))
        assert connection.read_answer().status in {400, 431}


def test_health_readiness_and_metrics_are_pages(node) -> None:
    """The pages answer GET and HEAD; the metrics count what was stored."""
    post(node.http, "/v1/traces", trace_request())
    for page in ("/healthz", "/readyz"):
        assert ask(node.http, "GET", page).status == 200
        assert ask(node.http, "HEAD", page).body == b""
        assert ask(node.http, "POST", page).status == 405
    metrics = ask(node.http, "GET", "/metrics").body.decode()
    assert 'comet_receiver_requests_total{outcome="stored",protocol="http",signal="traces"}' in metrics
    assert "comet_receiver_bytes_in_flight 0.0" in metrics
