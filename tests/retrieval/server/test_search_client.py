"""`math-hash search --server`: the answers of a running server, without model or index."""

import base64
import json
import re

import pytest
from retrieval.server.fixtures import png

from math_hash.cli import main
from math_hash.retrieval.searcher import Searcher

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def public(served_index, model, tiny_dataset, start_server):
    """The URL of a server that wants its token for everything."""
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    from math_hash.retrieval.server.app import make_app

    client = start_server(make_app(served_index, model, tiny_dataset, token="secret", is_public=True))
    return str(client.base_url)


def search(url, *arguments):
    return main(["search", "--server", url, *map(str, arguments)])


def test_a_server_gives_the_answers_of_its_index(client, served_index, model, tmp_path, capsys):
    (tmp_path / "query.png").write_bytes(png("blue"))
    searcher, url = Searcher(served_index, model), str(client.base_url)
    asked = {"--text": searcher.query("text", "red"), "--image": searcher.query("image", tmp_path / "query.png")}
    for flag, query in asked.items():
        item = "red" if flag == "--text" else tmp_path / "query.png"
        for options, wanted in (
            (["--top-k", 7, "--filter", "label=red"], searcher.search(query, 7, None, {"label": "red"})),
            (["--radius", 6], searcher.search(query, None, 6)),
        ):
            assert search(url, flag, item, "--json", *options) == 0
            printed = capsys.readouterr()
            rows = [{"rank": rank, **vars(result)} for rank, result in enumerate(wanted.results, start=1)]
            assert json.loads(printed.out) == json.loads(json.dumps(rows))
            assert printed.err.splitlines() == [f"note: {note}" for note in wanted.notes]


def test_pictures_of_a_contact_sheet_come_from_the_server_and_it_replaces_no_other_file(client, tmp_path):
    assert search(str(client.base_url), "--text", "red", "--top-k", 3, "--output", tmp_path / "page.html") == 0
    assert search(str(client.base_url), "--text", "red", "--output", tmp_path / "page.html", "--top-k", 3) == 0
    (tmp_path / "photos.csv").write_text("image,text\n")
    assert search(str(client.base_url), "--text", "red", "--output", tmp_path / "photos.csv") == 2
    assert (tmp_path / "photos.csv").read_text() == "image,text\n"
    pictures = re.findall(r"data:image/jpeg;base64,([^\"]+)", (tmp_path / "page.html").read_text())
    assert len(pictures) == 3
    assert all(base64.b64decode(picture).startswith(b"\xff\xd8") for picture in pictures)


def test_the_token_comes_from_a_flag_or_from_the_environment(public, monkeypatch, capsys):
    monkeypatch.delenv("MATH_HASH_TOKEN", raising=False)
    assert search(public, "--text", "red") == 2
    assert re.search("refuses with status 401 .*; give --token, or set MATH_HASH_TOKEN", capsys.readouterr().err)
    assert search(public, "--text", "red", "--token", "secret") == 0
    monkeypatch.setenv("MATH_HASH_TOKEN", "secret")
    assert search(public, "--text", "red") == 0


def test_a_server_that_does_not_answer_or_refuses_is_one_line(client, tmp_path, capsys):
    for url, arguments, message in (
        ("http://127.0.0.1:1", ["--text", "x"], "does not answer"),
        ("file:///etc/passwd", ["--text", "x"], "expected http://HOST:PORT"),
        (f"{client.base_url}/image?id=3.png&", ["--text", "x"], "refuses with status 405"),
        (str(client.base_url), ["--text", "x", "--top-k", "1001"], "refuses with status 422"),
        (str(client.base_url), ["--image", __file__], "refuses with status 415"),
    ):
        assert search(url, *arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
