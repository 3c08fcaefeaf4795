"""A headless Chromium, and a collection with metadata to search in it."""

import shutil
from urllib.parse import urlencode

import numpy as np
import pytest


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if path is None:
        pytest.skip("no Chromium here, and it could not be installed")
    sync_api.expect.set_options(timeout=10_000)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def expect():
    return pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect


@pytest.fixture(scope="module")
def collection(served_index, model, tmp_path_factory):
    """The rows of `served_index`, with a year and a day each."""
    from math_hash.retrieval import open_index

    ids = [f"{number}.png" for number in range(60)]
    codes, metadata = zip(*served_index.rows(ids), strict=True)
    more = [
        {**known, "year": 2000 + number % 20, "day": f"2024-{1 + number % 12:02d}-15", "checked": number % 3 == 0}
        for number, known in enumerate(metadata)
    ]
    with open_index(tmp_path_factory.mktemp("collection") / "index", 16, model.fingerprint) as opened:
        opened.add(ids, np.stack(codes), more)
        yield opened


@pytest.fixture(scope="module")
def site(collection, model, tiny_dataset, start_server):
    """The client of a server that does not rerank, so that its answers are the index's."""
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    from math_hash.retrieval.server.app import make_app

    return start_server(make_app(collection, model, tiny_dataset, rerank="none"))


@pytest.fixture
def visit(chromium, site):
    """A function that opens the page; afterwards, nothing may have failed or been asked of another host.

    `routes`: what answers requests in place of the server, from URL patterns to Playwright's handlers.
    """
    contexts, problems = [], []

    def open_page(query=(), width=1280, routes=()):
        context = chromium.new_context(viewport={"width": width, "height": 844}, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console", lambda message: problems.append(message.text) if "Content Security" in message.text else None
        )
        page.on("request", lambda request: check(request.url))
        for pattern, handler in dict(routes).items():
            page.route(pattern, handler)
        page.goto(f"{site.base_url}/?{urlencode(query)}")
        return page

    def check(url):
        if not url.startswith((str(site.base_url), "blob:", "data:")):
            problems.append(url)

    yield open_page
    for context in contexts:
        context.close()
    assert not problems
