"""The search page's dialog for one row, in headless Chromium."""

import re

import pytest

pytestmark = [pytest.mark.server, pytest.mark.browser, pytest.mark.slow]


def test_a_picture_is_opened_from_a_link_and_downloaded(visit, expect, tiny_dataset):
    page = visit({"open": "7.png"})
    expect(page.locator("#viewer")).to_be_visible()
    expect(page.locator("#viewerPicture")).to_have_attribute("src", re.compile("."))
    page.locator("#viewerPicture").evaluate("picture => picture.decode()")  # raises where it cannot be shown
    expect(page.locator("#viewerFacts")).to_contain_text("2024-08-15")
    with page.expect_download() as started:
        page.get_by_role("button", name="Download").click()
    assert started.value.suggested_filename == "7.png"
    assert started.value.path().read_bytes() == (tiny_dataset / "7.png").read_bytes()
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page).not_to_have_url(re.compile(r"\?"))


def test_of_a_row_that_is_not_there_nothing_similar_is_searched(visit, expect):
    page = visit({"open": "none.png"})
    expect(page.locator("#viewerWithout")).to_contain_text("no row has that id")
    expect(page.locator("#similar")).to_be_disabled()
    page.keyboard.press("s")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page).not_to_have_url(re.compile(r"\?"))
    expect(page.locator("#error")).to_be_hidden()


def test_a_row_that_could_not_be_fetched_is_filled_in_from_the_results(visit, expect):
    held = []
    routes = {
        "**/rows?*": lambda route: route.fulfill(status=503, json={"detail": "busy"}),
        "**/search/*": lambda route: held.append(route),
    }
    page = visit({"q": "a photo", "has.year": 2007, "open": "7.png"}, routes=routes)
    expect(page.locator("#viewerWithout")).to_contain_text("busy")
    expect(page.locator("#similar")).to_be_disabled()
    while not held:
        page.wait_for_timeout(50)
    held.pop().continue_()
    expect(page.locator("#similar")).to_be_enabled()
    expect(page.locator("#viewerFacts")).to_contain_text("distance")
    expect(page.locator("#viewerWithout")).to_be_hidden()
