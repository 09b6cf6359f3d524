"""The shipper's settings: flags, file, variables, defaults, and which of them wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from comet_otel.streams import Signal
from shipper.configuration.effective import MASK, effective_settings
from shipper.configuration.flags import Flags
from shipper.configuration.resolving import LoadedConfig, load_config
from shipper.errors import ConfigurationError
from shipper.settings import MAX_REQUEST_BYTES_DEFAULT, DestinationConfig

NEEDED = {"data_dir": Path("/log"), "endpoint": "http://collector:4317"}


def only(loaded: LoadedConfig) -> DestinationConfig:
    """Return the one destination."""
    (destination,) = loaded.config.destinations
    return destination


def from_file(folder: Path, text: str, variables: dict[str, str] | None = None, **flags) -> LoadedConfig:
    """Write a file of settings and load it."""
    file = folder / "shipper.toml"
    file.write_text(text)
    return load_config(Flags(config=file, **flags), variables or {})


def problems_of(folder: Path, text: str, variables: dict[str, str] | None = None, **flags) -> str:
    """Return what is wrong with a file, as one text."""
    with pytest.raises(ConfigurationError) as caught:
        from_file(folder, text, variables, **flags)
    return "\n".join(caught.value.problems)


def test_defaults_are_the_documented_ones() -> None:
    """Directory and endpoint are all that has to be said."""
    loaded = load_config(Flags(**NEEDED), {})
    destination = only(loaded)
    assert (destination.name, destination.group) == ("default", "shipper")
    assert [signal.signal for signal in destination.signals] == list(Signal)
    for signal in destination.signals:
        assert (signal.protocol, signal.compression, signal.timeout, signal.headers) == ("grpc", "gzip", 10.0, ())
        assert not signal.http_path_is_complete
    assert destination.max_request_bytes == MAX_REQUEST_BYTES_DEFAULT < 4 * 2**20
    assert (destination.window, destination.ordered, destination.order) == (4, True, "oldest-first")
    config = loaded.config
    assert (config.listen, config.assignment, config.shutdown_timeout, config.once) == (None, None, 5.0, False)
    assert (loaded.path, loaded.notices) == (None, ())


def test_standard_variables_are_understood_and_flags_win() -> None:
    """What works for an OpenTelemetry exporter works here."""
    environment = {
        "COMET_DATA_DIR": "/from/variable",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://variable:4318/base",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, other=2",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
    }
    loaded = load_config(Flags(), environment)
    signal = only(loaded).signals[0]
    assert str(loaded.config.data_dir) == "/from/variable"
    assert str(signal.endpoint) == "https://variable:4318/base"
    assert (signal.protocol, signal.compression, signal.timeout) == ("http/protobuf", "none", 2.5)
    assert signal.headers == (("api-key", "a b"), ("other", "2"))
    assert loaded.notices == ()

    flags = Flags(**NEEDED, protocol="grpc", compression="gzip", header=("x=1=2",), timeout="3")
    loaded = load_config(flags, environment)
    signal = only(loaded).signals[0]
    assert str(signal.endpoint) == "http://collector:4317"
    assert (signal.protocol, signal.compression, signal.timeout) == ("grpc", "gzip", 3.0)
    assert signal.headers == (("x", "1=2"),)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT has no effect: --endpoint comes first" in loaded.notices


def test_variables_of_one_signal_win_over_those_of_all() -> None:
    """Each of them, and headers as a whole; a signal's HTTP endpoint is used as it is, path and all."""
    environment = {
        "COMET_DATA_DIR": "/log",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://all:4318/base/",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_HEADERS": "a=1,b=2",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces:9/custom/",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "c=3",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://metrics",
        "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "500",
    }
    traces, metrics, logs = only(load_config(Flags(), environment)).signals
    assert (traces.endpoint.path, traces.http_path_is_complete) == ("/custom/", True)
    assert traces.headers == (("c", "3"),)
    assert (str(metrics.endpoint), metrics.http_path_is_complete) == ("http://metrics:80/", True)
    assert (str(logs.endpoint), logs.http_path_is_complete) == ("http://all:4318/base", False)
    assert (logs.protocol, logs.compression, logs.timeout) == ("grpc", "none", 0.5)
    assert logs.headers == (("a", "1"), ("b", "2"))


def test_empty_variables_count_as_not_set() -> None:
    """As the specification says."""
    loaded = load_config(Flags(**NEEDED), {"OTEL_EXPORTER_OTLP_PROTOCOL": "", "OTEL_EXPORTER_OTLP_TIMEOUT": " "})
    assert only(loaded).signals[0].protocol == "grpc"


def test_insecure_by_variable_only_concerns_endpoints_without_scheme() -> None:
    """The scheme wins, as the specification says."""
    environment = {"OTEL_EXPORTER_OTLP_INSECURE": "true"}
    for endpoint, secure in (("host:4317", False), ("https://host", True)):
        loaded = load_config(Flags(data_dir=Path("/log"), endpoint=endpoint), environment)
        assert only(loaded).signals[0].endpoint.secure is secure
    loaded = load_config(Flags(data_dir=Path("/log"), endpoint="host:4317"), {"OTEL_EXPORTER_OTLP_INSECURE": "yes"})
    assert only(loaded).signals[0].endpoint.secure is True


def test_a_file_says_everything_and_paths_in_it_are_relative_to_it(tmp_path) -> None:
    """Sizes and durations as people write them."""
    (tmp_path / "token").write_text("secret\n")
    loaded = from_file(
        tmp_path,
        """
        data_dir = "log"
        listen = "[::1]:9464"
        log_format = "json"
        shutdown_timeout = "1m"
        assignment = "1/3"
        dead_letter_share = "8 MiB"

        [destination.central]
        endpoint = "https://collector:4317"
        bearer_token_file = "token"
        compression_level = 3
        max_request_bytes = "1 MiB"
        max_request_wait = "500ms"
        window = 8
        ordered = false
        order = "fresh-first"
        max_lag_bytes = "2 GiB"
        max_lag_age = "7d"
        dead_letters = false
        streams = { "traces:v1" = "traces", "shop-traces:v2" = "traces", "logs:v1" = "logs" }

        [destination.central.logs]
        endpoint = "http://logs:4318/in"
        protocol = "http/protobuf"
        proxy = "http://user:secret@proxy:3128"

        [destination.central.retry]
        longest = "1h"
        overrides = { "HTTP 500" = "retry", INTERNAL = "pause" }

        [destination.central.pacing]
        max_bytes_per_second = "2 MiB"
        max_requests_per_second = 5
        slow_start = false
        """,
    )
    config, destination = loaded.config, only(loaded)
    assert (config.data_dir, config.listen) == (tmp_path / "log", ("::1", 9464))
    assert (config.log_format, config.shutdown_timeout, config.assignment) == ("json", 60.0, (1, 3))
    assert config.dead_letter_share == 8 * 2**20
    assert (destination.name, destination.group) == ("central", "shipper-central")
    traces, logs = destination.signals
    assert (traces.bearer_token_file, traces.compression_level) == (tmp_path / "token", 3)
    assert (logs.endpoint.path, logs.http_path_is_complete, logs.proxy) == (
        "/in",
        True,
        "http://user:secret@proxy:3128",
    )
    assert (destination.max_request_bytes, destination.max_request_wait) == (2**20, 0.5)
    assert (destination.window, destination.ordered, destination.order) == (8, False, "fresh-first")
    assert (destination.max_lag_bytes, destination.max_lag_age) == (2 * 2**30, 7 * 86400.0)
    assert destination.dead_letters is False
    assert destination.streams[1] == ("shop-traces:v2", Signal.TRACES)
    assert (destination.retry.first, destination.retry.longest) == (0.5, 3600.0)
    assert destination.retry.pause_longest == 3600.0
    assert destination.retry.overrides == (("HTTP 500", "retry"), ("INTERNAL", "pause"))
    assert (destination.pacing.max_bytes_per_second, destination.pacing.max_requests_per_second) == (2 * 2**20, 5.0)
    assert destination.pacing.slow_start is False


def test_a_flag_wins_over_the_file_and_the_file_over_variables(tmp_path) -> None:
    """With one destination; what the file leaves out is filled in by variables."""
    loaded = from_file(
        tmp_path,
        'data_dir = "/file"\n[destination.central]\nendpoint = "http://file:1"\ntimeout = 4',
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://variable:1",
            "OTEL_EXPORTER_OTLP_HEADERS": "key=1",
            "COMET_DATA_DIR": "/variable",
        },
        timeout="5",
    )
    signal = only(loaded).signals[0]
    assert loaded.config.data_dir == Path("/file")
    assert (str(signal.endpoint), signal.timeout, signal.headers) == ("http://file:1", 5.0, (("key", "1"),))
    assert any("OTEL_EXPORTER_OTLP_ENDPOINT has no effect" in notice for notice in loaded.notices)


def test_with_several_destinations_variables_reach_only_the_one_without_an_endpoint(tmp_path) -> None:
    """So that no token of theirs is sent to another."""
    text = 'data_dir = "/log"\n[destination.own]\nendpoint = "http://own:1"\n[destination.other]\nsignals = ["logs"]'
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://variable:1", "OTEL_EXPORTER_OTLP_HEADERS": "key=secret"}
    own, other = from_file(tmp_path, text, variables).config.destinations
    assert [signal.headers for signal in own.signals] == [(), (), ()]
    assert [str(signal.endpoint) for signal in own.signals] == ["http://own:1"] * 3
    (logs,) = other.signals
    assert (str(logs.endpoint), logs.headers) == ("http://variable:1", (("key", "secret"),))
    assert {own.group, other.group} == {"shipper-own", "shipper-other"}

    text = 'data_dir = "/log"\n[destination.a]\nendpoint = "http://a:1"\n[destination.b]\nendpoint = "http://b:1"'
    loaded = from_file(tmp_path, text, variables)
    assert all(signal.headers == () for each in loaded.config.destinations for signal in each.signals)
    assert any("OTEL_EXPORTER_OTLP_HEADERS has no effect" in notice for notice in loaded.notices)


def test_variables_may_stand_in_texts_of_the_file(tmp_path) -> None:
    """For what does not belong into a file; two dollar signs are one."""
    text = """
        data_dir = "${STATE}/log"
        [destination.central]
        endpoint = "https://collector:4317"
        headers = { api-key = "${KEY}", price = "$$5" }
        """
    loaded = from_file(tmp_path, text, {"KEY": "secret", "STATE": "/state"})
    assert loaded.config.data_dir == Path("/state/log")
    assert only(loaded).signals[0].headers == (("api-key", "secret"), ("price", "$5"))
    assert "'KEY', which is not set" in problems_of(tmp_path, text, {"STATE": "/state"})


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        ({"data_dir": None}, {}, ["--data-dir", "COMET_DATA_DIR"]),
        ({"endpoint": None}, {}, ["--endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT"]),
        ({"endpoint": "ftp://x"}, {}, ["--endpoint", "'ftp://x'", "http or https"]),
        ({"endpoint": "http://me:secret@x"}, {}, ["--endpoint", "'http://***@x'", "no user"]),
        ({"endpoint": None}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://x"}, ["OTEL_EXPORTER_OTLP_ENDPOINT", "'ftp://x'"]),
        (
            {"endpoint": None},
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"},
            ["--endpoint of metrics and logs", "--signal"],
        ),
        ({"protocol": "http/json"}, {}, ["--protocol", "'http/json'", "grpc, http/protobuf"]),
        ({}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}, ["OTEL_EXPORTER_OTLP_PROTOCOL", "'smoke'"]),
        ({}, {"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "smoke"}, ["OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "'smoke'"]),
        ({"compression": "zip"}, {}, ["--compression", "'zip'", "gzip, none"]),
        ({"header": ("bad name=1",)}, {}, ["--header", "'bad name'"]),
        ({"header": ("x=a\r\nb",)}, {}, ["--header", "'x'", "printable"]),
        ({"certificate": Path("/does/not/exist.pem")}, {}, ["--certificate", "exist.pem", "readable"]),
        ({"client_certificate": Path("/no.pem")}, {}, ["--client-certificate", "client_key is not given"]),
        ({}, {"OTEL_EXPORTER_OTLP_CLIENT_KEY": "/no.pem"}, ["OTEL_EXPORTER_OTLP_CLIENT_KEY", "client_certificate"]),
        ({"bearer_token_file": Path("/no/token")}, {}, ["--bearer-token-file", "/no/token", "readable"]),
        ({"endpoint": "https://x", "insecure": True}, {}, ["--insecure", "https://x"]),
        ({"max_request_bytes": "10"}, {}, ["--max-request-bytes", "10", "bytes"]),
        ({"timeout": "0"}, {}, ["--timeout", "0", "seconds"]),
        ({"timeout": "nan"}, {}, ["--timeout", "nan"]),
        ({}, {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, ["OTEL_EXPORTER_OTLP_TIMEOUT", "'soon'", "milliseconds"]),
        ({"retry_max": "1e9"}, {}, ["--retry-max", "seconds"]),
        ({"group": "no spaces"}, {}, ["--group", "'no spaces'"]),
        ({"signal": ("smells",)}, {}, ["--signal", "smells", "traces, metrics, logs"]),
        ({"assignment": "2/2"}, {}, ["--assignment", "'2/2'", "below the total"]),
        ({"listen": "nowhere"}, {}, ["--listen", "'nowhere'", "HOST:PORT"]),
        ({"listen": "70000"}, {}, ["--listen", "HOST:PORT"]),
        ({"proxy": "socks5://x"}, {}, ["--proxy", "http://proxy:3128"]),
        ({"window": 0}, {}, ["--window", "0", "1 to 64"]),
        ({"order": "random"}, {}, ["--order", "'random'", "oldest-first, fresh-first"]),
        ({"config": Path("/no/such.toml")}, {}, ["/no/such.toml", "readable"]),
        ({}, {"COMET_SHIPPER_CONFIG": "/no/such.toml"}, ["/no/such.toml", "readable"]),
    ],
)
def test_wrong_settings_are_named_with_value_and_rule(flags, environment, expected) -> None:
    """The message says which flag or variable is wrong, how, and what would be right."""
    with pytest.raises(ConfigurationError) as caught:
        load_config(Flags(**{**NEEDED, **flags}), environment)
    for part in expected:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data_dir = ", ["must be a readable file of TOML"]),
        ("dat_dir = '/log'", ["'dat_dir'", "did you mean 'data_dir'?"]),
        ("[destination.a]\nendpont = 'http://a'", ["destination.a 'endpont'", "did you mean 'endpoint'?"]),
        ("[destination.a.retry]\nlongst = 1", ["destination.a.retry 'longst'", "did you mean 'longest'?"]),
        ("[destination.a.trace]\nendpoint = 'http://a'", ["'trace'", "did you mean 'traces'?"]),
        ("[destinations.a]\nendpoint = 'http://a'", ["'destinations'", "did you mean 'destination'?"]),
        ("[[destination]]\nname = 'a'", ["destination", "tables with a name each"]),
        ("[destination.'a b']\nendpoint = 'http://a'", ["'a b'", "must be a name"]),
        ("[destination.a]\nretry = 5", ["destination.a.retry", "must be a table"]),
        ("[destination.a]\nwindow = '4'", ["destination.a.window", "'4'", "whole number"]),
        ("[destination.a]\nordered = 1", ["destination.a.ordered", "true or false"]),
        ("[destination.a]\ndead_letters = 'no'", ["destination.a.dead_letters", "'no'", "true or false"]),
        ("[destination.a]\nsignals = []", ["destination.a.signals"]),
        ("[destination.a]\nstreams = {'deadletter:v1' = 'logs'}", ["streams", "dead letters"]),
        ("[destination.a]\nstreams = {'traces' = 'traces'}", ["streams", "'traces'"]),
        ("[destination.a]\nstreams = {'traces:v1' = 'x'}", ["streams", "'x'"]),
        ("[destination.a.retry]\noverrides = {'HTTP 500' = 'ignore'}", ["overrides", "'HTTP 500'", "'ignore'"]),
        ("[destination.a.retry]\noverrides = {'http 500' = 'retry'}", ["overrides", "'http 500'"]),
        ("[destination.a.retry]\nfirst = 5\nlongest = 1", ["retry", "first <= longest"]),
        ("[destination.a]\nmax_lag_age = 'soon'", ["max_lag_age", "'soon'"]),
        ("[destination.a]\nmax_lag_bytes = true", ["max_lag_bytes"]),
        ("[destination.a]\ngroup = 'x'\n[destination.b]\ngroup = 'x'\nendpoint = 'http://b'", ["group 'x'", "its own"]),
        ("[destination.a]\n[destination.b]\n", ["destinations a, b", "have no endpoint"]),
        ("[destination.a]\nheaders = 5", ["destination.a.headers", "table"]),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_file_key_and_rule(tmp_path, text, expected) -> None:
    """And a misspelt key with the one that was probably meant."""
    found = problems_of(tmp_path, text, {"COMET_DATA_DIR": "/log", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"})
    assert str(tmp_path / "shipper.toml") in found
    for part in expected:
        assert part in found


def test_all_wrong_settings_are_named_at_once(tmp_path) -> None:
    """Nobody has to mend them one by one, wherever they stand."""
    found = problems_of(
        tmp_path,
        "listen = 'x'\n[destination.a]\nwindow = 0\ncolour = 'red'",
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"},
        compression="zip",
    )
    for part in ("listen", "window", "'colour'", "OTEL_EXPORTER_OTLP_PROTOCOL", "--compression", "--data-dir"):
        assert part in found
    assert len(found.splitlines()) == 7


def test_flags_of_a_destination_are_refused_where_the_file_has_several(tmp_path) -> None:
    """Nobody could say which is meant."""
    text = 'data_dir = "/log"\n[destination.a]\nendpoint = "http://a:1"\n[destination.b]\nendpoint = "http://b:1"'
    found = problems_of(tmp_path, text, endpoint="http://x:1", header=("k=v",), retry_max="2")
    assert [line.split()[0] for line in found.splitlines()] == ["--endpoint", "--header", "--retry-max"]
    assert from_file(tmp_path, text, listen="9464", once=True).config.once is True


def test_a_certificate_that_is_none_is_refused(tmp_path) -> None:
    """It is found at the start, not by the first connection."""
    file = tmp_path / "ca.pem"
    file.write_text("hello")
    with pytest.raises(ConfigurationError, match="PEM"):
        load_config(Flags(**NEEDED, certificate=file), {})
    with pytest.raises(ConfigurationError, match="PEM"):
        load_config(Flags(**NEEDED, client_certificate=file, client_key=file), {})


@pytest.mark.parametrize("content", ["", "\n", "two\nlines", "\u20ac"])
def test_a_token_file_without_a_token_is_refused(tmp_path, content) -> None:
    """An empty one is a mistake, and more than a line cannot be sent; the content is not shown."""
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match="one line, the token"):
        load_config(Flags(**NEEDED, bearer_token_file=file), {})


def test_secrets_are_neither_in_messages_nor_in_representations_nor_in_what_is_shown(tmp_path) -> None:
    """Headers, tokens and passwords end up nowhere but in requests."""
    (tmp_path / "token").write_text("s3cret")
    loaded = from_file(
        tmp_path,
        """
        data_dir = "/log"
        [destination.a]
        endpoint = "https://a:1"
        proxy = "http://user:s3cret@proxy:1"
        headers = { authorisation = "Bearer s3cret" }
        bearer_token_file = "token"
        """,
    )
    assert "s3cret" not in repr(loaded)
    shown = {each.place: each.value for each in effective_settings(loaded)}
    assert "s3cret" not in str(shown)
    assert shown["a.traces.headers"] == {"authorisation": MASK}
    assert shown["a.traces.proxy"] == "http://***@proxy:1"
    wrong = "[destination.a]\nheaders = { 'bad name' = 's3cret' }\nproxy = 'socks://user:s3cret@x'"
    assert "s3cret" not in problems_of(tmp_path, wrong)
    for header in ("s3cret-without-a-name", "bad name=s3cret"):
        with pytest.raises(ConfigurationError) as caught:
            load_config(Flags(**NEEDED, header=(header,)), {})
        assert "s3cret-" not in str(caught.value)


def test_what_is_in_effect_is_shown_with_where_it_is_from(tmp_path) -> None:
    """Flag, variable, file and key, or default."""
    loaded = from_file(
        tmp_path,
        'data_dir = "/log"\n[destination.a]\nendpoint = "http://a:1"\n[destination.a.pacing]\nslow_start = false',
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "1000"},
        window=7,
    )
    origins = {each.place: (each.value, each.origin) for each in effective_settings(loaded)}
    file = tmp_path / "shipper.toml"
    assert origins["data_dir"] == ("/log", f"{file}: data_dir")
    assert origins["a.window"] == (7, "--window")
    assert origins["a.traces.endpoint"] == ("http://a:1", f"{file}: destination.a.endpoint")
    assert origins["a.traces.timeout"] == (1.0, "OTEL_EXPORTER_OTLP_TIMEOUT")
    assert origins["a.pacing.slow_start"] == (False, f"{file}: destination.a.pacing.slow_start")
    assert origins["a.order"] == ("oldest-first", "default")


def test_two_readings_of_the_same_settings_are_equal(tmp_path) -> None:
    """That is how a reload finds out which destinations go on undisturbed."""
    text = 'data_dir = "/log"\n[destination.a]\nendpoint = "http://a:1"\n[destination.b]\nendpoint = "http://b:1"'
    first, again = from_file(tmp_path, text).config, from_file(tmp_path, text).config
    assert first == again
    assert {each: each.name for each in first.destinations}[again.destinations[0]] == "a"
    changed = from_file(tmp_path, text.replace("b:1", "b:2")).config
    assert (changed.destinations[0], changed.destinations[1]) != first.destinations
    assert changed.destinations[0] == first.destinations[0]


@pytest.mark.parametrize(
    "endpoint",
    ["https://one/?key=S3CRET", "https://one#S3CRET", "https://me:S3CRET@one", "https://me:S3C?RET@one?S3CRET"],
)
def test_secrets_in_an_endpoint_are_not_shown(endpoint) -> None:
    """Also not by the line that says that they have no place there."""
    with pytest.raises(ConfigurationError) as raised:
        load_config(Flags(data_dir=Path("log"), endpoint=endpoint), {})
    assert "S3C" not in str(raised.value)
    assert "RET" not in str(raised.value)


@pytest.mark.parametrize(
    ("protocol", "endpoint", "notice"),
    [
        ("http/protobuf", "http://collector:4318/v1/traces", "appended to it once more"),
        ("http/protobuf", "http://collector:4318/otlp/v1/logs/", "appended to it once more"),
        ("grpc", "http://collector:4318/v1/traces", "is the protocol http/protobuf?"),
        ("grpc", "http://collector:4317/tenant", "no use for the path"),
        ("http/protobuf", "http://collector:4318/otlp", None),
        ("grpc", "http://collector:4317/", None),
    ],
)
def test_a_path_that_is_probably_not_meant_is_pointed_out(protocol: str, endpoint: str, notice: str | None) -> None:
    """It is used as the specification says all the same: the endpoint of all signals gets the path of each appended."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    loaded = load_config(Flags(data_dir=Path("/log")), variables)
    assert len(loaded.notices) == (notice is not None)
    assert all(notice is not None and notice in found for found in loaded.notices)


def test_the_endpoint_of_one_signal_is_used_as_it_is_and_not_pointed_out() -> None:
    """That is what its path is for."""
    variables = {
        f"OTEL_EXPORTER_OTLP_{signal.name}_ENDPOINT": f"http://collector:4318/v1/{signal.value}" for signal in Signal
    }
    loaded = load_config(Flags(data_dir=Path("/log")), {**variables, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})
    assert loaded.notices == ()
    assert [str(each.endpoint) for each in only(loaded).signals] == list(variables.values())


@pytest.mark.parametrize(
    ("headers", "protocol", "problem"),
    [
        ("x-bin=abc", "grpc", "'x-bin': cannot be sent by gRPC"),
        ("a!b=c", "grpc", "'a!b': cannot be sent by gRPC"),
        ("a!b=c", "http/protobuf", None),
        ("X-Tenant=shop%2017", "grpc", None),
        ("grpc-timeout=1S", "grpc", "needs for itself"),
        ("Content-Length=3", "http/protobuf", "needs for itself"),
        ("comet-request-id=1", "grpc", "needs for itself"),
        ("a=1,A=2", "grpc", "more than once"),
        (" api-key = a%20b ,, x-y=1=2 , ", "grpc", None),
        ("key", "grpc", "must be NAME=VALUE"),
        ("key=%C3%A4", "grpc", "printable ASCII"),
    ],
)
def test_headers_that_could_not_be_sent_are_refused_at_once(headers: str, protocol: str, problem: str | None) -> None:
    """A request with one of them would never be taken, and it would not be the request's fault."""
    variables = {"OTEL_EXPORTER_OTLP_HEADERS": headers, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    flags = Flags(**NEEDED)
    if problem is None:
        assert only(load_config(flags, variables)).signals[0].headers
        return
    with pytest.raises(ConfigurationError) as caught:
        load_config(flags, variables)
    (found,) = caught.value.problems
    assert problem in found
    assert found.startswith("OTEL_EXPORTER_OTLP_HEADERS")


@pytest.mark.parametrize("text", ["0", "-1", "10s", "nan", "inf", "99999999999", "0x10"])
def test_a_timeout_that_is_none_is_refused_in_its_own_unit(text: str) -> None:
    """The variable counts milliseconds, and so does what is said of it."""
    with pytest.raises(ConfigurationError) as caught:
        load_config(Flags(**NEEDED), {"OTEL_EXPORTER_OTLP_TIMEOUT": text})
    (found,) = caught.value.problems
    assert found == f"OTEL_EXPORTER_OTLP_TIMEOUT is {text!r}: must be a number of milliseconds from 100 to 3600000"


def test_a_unix_socket_is_an_endpoint_for_grpc_alone() -> None:
    """As gRPC names it, with or without slashes, by its whole path."""
    for text in ("unix:/run/collector.sock", "unix:///run/collector.sock"):
        endpoint = only(load_config(Flags(data_dir=Path("/log"), endpoint=text), {})).signals[0].endpoint
        assert (endpoint.target, str(endpoint), endpoint.secure) == (*["unix:/run/collector.sock"] * 2, False)
    for text, protocol in (("unix:collector.sock", "grpc"), ("unix:/run/collector.sock", "http/protobuf")):
        with pytest.raises(ConfigurationError, match="Unix socket"):
            load_config(Flags(data_dir=Path("/log"), endpoint=text, protocol=protocol), {})
