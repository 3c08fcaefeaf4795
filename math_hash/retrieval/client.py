"""Asking a server that `math-hash serve` started, over HTTP."""

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from math_hash.errors import InputError, one_line
from math_hash.retrieval.ids import Id
from math_hash.retrieval.results import Result, SearchResults

MOST_RESULTS = 1000  # that a server returns for one search
_SECONDS = 60.0  # until a server that does not answer is given up


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for the server that was named, and for no other."""

    def redirect_request(self, *arguments: Any) -> None:
        """Follow none: a redirection is reported as an error."""


class Client:
    """The searches of a running server.

    Args:
        url: of the server, such as http://127.0.0.1:8000.
        token: what `math-hash serve --token` was given; "": none.

    Raises:
        InputError: the URL is neither http:// nor https://.
    """

    def __init__(self, url: str, token: str = ""):
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise InputError(f"`server` {url}: expected http://HOST:PORT or https://...")
        self.url, self.token = url.rstrip("/"), token
        self._opener = urllib.request.build_opener(_NoRedirect)

    def search_text(self, text: str, top_k: int, radius: int | None, where: Mapping[str, Any]) -> SearchResults:
        """The rows nearest to a text; see `Searcher.search`.

        Raises:
            InputError: the server cannot be reached, refuses, or answers with something else.
        """
        body = json.dumps({"text": text, "top_k": top_k, "radius": radius, "where": dict(where)}).encode()
        return self._search("/search/text", body, "application/json")

    def search_id(self, row_id: Id, top_k: int, radius: int | None, where: Mapping[str, Any]) -> SearchResults:
        """The rows nearest to a row of the server's index; see `search_text`."""
        body = json.dumps({"id": str(row_id), "top_k": top_k, "radius": radius, "where": dict(where)}).encode()
        return self._search("/search/id", body, "application/json")

    def search_image(self, path: Path, top_k: int, radius: int | None, where: Mapping[str, Any]) -> SearchResults:
        """The rows nearest to a picture, which is uploaded; see `search_text`."""
        options = {"top_k": top_k, "where": json.dumps(dict(where))} | ({} if radius is None else {"radius": radius})
        boundary = os.urandom(16).hex()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"`image` {path}: cannot be read: {error.strerror}") from error
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="query"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        path_and_options = f"/search/image?{urllib.parse.urlencode(options)}"
        return self._search(path_and_options, body, f"multipart/form-data; boundary={boundary}")

    def picture(self, row_id: Id, side: int) -> bytes | None:
        """The picture of a row as a JPEG file, its longer side at most `side` pixels; None where there is none."""
        options = urllib.parse.urlencode({"id": row_id, "size": side})
        return self._ask(f"/image?{options}", absent=404)

    def _search(self, path: str, body: bytes, kind: str) -> SearchResults:
        content = self._ask(path, body, kind)
        try:
            answer = json.loads(content or b"")
            results = [Result(row["id"], row["distance"], row["metadata"]) for row in answer["results"]]
            return SearchResults(results, answer["notes"], answer["nothing_close"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"`server` {self.url}: no server of `math-hash serve` answers there") from error

    def _ask(self, path: str, body: bytes | None = None, kind: str = "", absent: int | None = None) -> bytes | None:
        """What the server answers to a request whose body is of a kind; None for the status `absent`."""
        headers = {"Content-Type": kind} if body else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            request = urllib.request.Request(self.url + path, body, headers)
            with self._opener.open(request, timeout=_SECONDS) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code == absent:
                return None
            raise InputError(f"`server` {self.url}: {_reason(error)}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:  # no connection, no valid URL, no HTTP
            reason = one_line(getattr(error, "reason", None) or error)
            raise InputError(f"`server` {self.url}: does not answer ({reason}); is it running there?") from error


def _reason(error: urllib.error.HTTPError) -> str:
    """What an answer that refuses says, on one line."""
    try:
        detail = json.loads(error.read())["detail"]
    except (OSError, ValueError, KeyError, TypeError):
        detail = error.reason
    hint = "; give --token, or set MATH_HASH_TOKEN" if error.code == 401 else ""
    return f"refuses with status {error.code} ({one_line(detail)}){hint}"
