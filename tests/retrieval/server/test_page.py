"""The search page, in headless Chromium."""

import shutil

import pytest
from retrieval.server.fixtures import png

pytestmark = [pytest.mark.server, pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


def test_the_page_finds_pictures_by_keyboard_alone(client, browser):
    """Type, see results, choose one, move the sliders, upload a picture; no request goes to another host."""
    page = browser.new_page(bypass_csp=True)  # for the test's own expressions
    errors, foreign = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: foreign.append(request.url) if "127.0.0.1" not in request.url else None)
    page.goto(str(client.base_url))
    page.keyboard.type("red")
    page.keyboard.press("Enter")
    page.wait_for_selector("#results li")
    assert page.locator("#results li").count() == 24
    assert page.locator("#results img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.locator("#results button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#query').textContent.startsWith('like ')")
    page.wait_for_function("document.querySelector('#results b').textContent === 'distance 0'")
    page.locator("#top").focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelectorAll('#results li').length === 21")
    page.locator("#radius").fill("0")
    page.wait_for_function("[...document.querySelectorAll('#results b')].every(b => b.textContent === 'distance 0')")
    page.set_input_files("#file", {"name": "own.png", "mimeType": "image/png", "buffer": png()})
    page.wait_for_function("document.querySelector('#query').textContent === 'like own.png'")
    assert not errors
    assert not [url for url in foreign if not url.startswith("blob:")]
