"""The files of the page: complete, kept by browsers, and allowed to load nothing from elsewhere."""

import re
from pathlib import Path

import pytest

import math_hash

pytestmark = pytest.mark.server

STATIC = Path(math_hash.__file__).parent / "retrieval/server/static"


def test_every_file_is_served_and_not_sent_again(client):
    names = {"/": "index.html", **{f"/static/{path.name}": path.name for path in STATIC.iterdir()}}
    assert len(names) > 5
    for address, name in names.items():
        answer = client.get(address)
        assert answer.content == (STATIC / name).read_bytes()
        kind = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
        assert answer.headers["content-type"].startswith(kind[Path(name).suffix])
        assert answer.headers["cache-control"] == "no-cache"
        again = client.get(address, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    for address in ("/static/none.js", "/static/..%2fpage.py", "/static/"):
        assert client.get(address).status_code == 404


def test_the_page_may_load_from_this_server_only(client):
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.search("unsafe|http|\\*", policy)
    for path in STATIC.iterdir():
        addresses = set(re.findall(r"https?://[^\s\"']+", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path.name  # a name, from which nothing is loaded


def test_modules_import_files_that_exist():
    for path in STATIC.glob("*.js"):
        for name in re.findall(r'^import .*?"\./(.+)";$', path.read_text(), re.MULTILINE):
            assert (STATIC / name).is_file()
    for name in re.findall(r'(?:src|href)="static/(.+?)"', (STATIC / "index.html").read_text()):
        assert (STATIC / name).is_file()
