"""The interface that the server describes in `/openapi.json`."""

import socket

import pytest
from retrieval.server.fixtures import TOKEN

from math_hash.errors import InputError

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
from math_hash.retrieval.server.app import make_app, serve

LOCAL = {"Host": "localhost"}
pytestmark = pytest.mark.server


def test_routes_and_field_names_are_those_that_clients_rely_on(served_index, model):
    schema = make_app(served_index, model).openapi()
    routes = {(method, path) for path, operations in schema["paths"].items() for method in operations}
    assert routes == {
        ("post", "/search/text"), ("post", "/search/image"), ("post", "/search/id"), ("post", "/search/code"),
        ("post", "/search/combined"), ("get", "/facets"), ("post", "/rows"), ("delete", "/rows"), ("get", "/rows"),
        ("get", "/image"), ("get", "/image/file"), ("get", "/health"), ("get", "/metrics"),
    }  # fmt: skip
    fields = {name: set(model.get("properties", ())) for name, model in schema["components"]["schemas"].items()}
    options = {"top_k", "radius", "where", "offset", "fold"}
    assert fields["TextQuery"] == {"text", *options}
    assert fields["IdQuery"] == {"id", *options}
    assert fields["CodeQuery"] == {"code", *options}
    assert fields["SearchResponse"] == {"results", "nothing_close", "notes", "seconds"}
    assert fields["Result"] == {"id", "distance", "metadata", "duplicate_of"}
    assert fields["Facets"] == {"rows", "counted", "facets", "examples", "fold"}
    assert fields["Facet"] == {"field", "kind", "values", "distinct", "min", "max"}


@pytest.mark.slow
def test_no_request_of_the_described_kind_ends_in_500(served_index, model, tiny_dataset):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    app = make_app(served_index, model, tiny_dataset, token="secret")
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=LOCAL)
    tried = 0
    for operation in schema.get_all_operations():

        @settings(max_examples=25, deadline=None, database=None, derandomize=True,
                  suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])  # fmt: skip
        @given(case=operation.ok().as_strategy())
        def check(case):
            nonlocal tried
            tried += 1
            answer = case.call(headers={**TOKEN, **LOCAL})
            assert answer.status_code < 500, (case, answer.text)

        check()
    assert tried > 100


def test_an_address_in_use_is_named(served_index, model):
    pytest.importorskip("uvicorn")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"`host` 127.0.0.1, `port` {port}: cannot be listened on"):
            serve(make_app(served_index, model), "127.0.0.1", port)
