"""The search page, in headless Chromium."""

import base64
import re
from collections import Counter
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np
import pytest
from retrieval.server.fixtures import png

import math_hash

pytestmark = [pytest.mark.server, pytest.mark.browser, pytest.mark.slow]

TILES = "#results li:not([hidden]) > .tile"
DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), character => character.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], "own.png", {type: "image/png"}));
  const options = {bubbles: true, cancelable: true, dataTransfer: files, clipboardData: files};
  const kind = name === "paste" ? ClipboardEvent : DragEvent;
  document.body.dispatchEvent(new kind(name, options));
}"""


def query_of(page):
    return parse_qsl(urlsplit(page.url).query)


def ids_of(page):
    return page.locator(TILES).evaluate_all("tiles => tiles.map(tile => tile.dataset.id)")


def nearest(collection, code, top_k=48, where=None):
    return collection.search(code, top_k, where)[0].ids.tolist()


def test_the_keyboard_is_enough(visit, expect, collection, model):
    """From the words to a result, opened, closed, and searched with; Back leads through the same steps."""
    page = visit()
    page.keyboard.press("/")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("red")
    page.keyboard.press("Enter")
    by_text = nearest(collection, model.encode_text(["red"]))
    expect(page.locator("#status")).to_contain_text("48+ results")
    assert ids_of(page) == by_text
    page.keyboard.press("ArrowDown")
    columns = page.locator("#results").evaluate("list => getComputedStyle(list).gridTemplateColumns.split(' ').length")
    for key, place in (
        ("ArrowRight", 1),
        ("ArrowDown", columns + 1),
        ("ArrowUp", 1),
        ("ArrowLeft", 0),
        ("ArrowRight", 1),
    ):
        page.keyboard.press(key)
        expect(page.locator(TILES).nth(place)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    expect(page.locator("#similar")).to_be_focused()
    assert query_of(page) == [("q", "red"), ("open", by_text[1])]
    page.keyboard.press("ArrowRight")
    expect(page.locator("#viewerFacts")).to_contain_text(by_text[2])
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator(TILES).nth(2)).to_be_focused()
    page.keyboard.press("s")
    by_id = nearest(collection, collection.rows([by_text[2]])[0][0][None])
    expect(page.locator(TILES).first).to_be_focused()
    assert query_of(page) == [("like", by_text[2])]
    assert ids_of(page) == by_id
    page.go_back()
    expect(page.locator("#text")).to_have_value("red")
    expect(page.locator(TILES).nth(2)).to_be_focused()
    assert ids_of(page) == by_text
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.go_back()
    expect(page.locator("#welcome")).to_be_visible()
    page.go_forward()
    expect(page.locator("#status")).to_contain_text("48+ results")


def test_scrolling_loads_all_results_in_order(visit, expect, collection, model):
    page = visit({"q": "red"})
    expect(page.locator(TILES)).to_have_count(48)
    page.locator(TILES).last.scroll_into_view_if_needed()
    expect(page.locator(TILES)).to_have_count(60)
    expect(page.locator("#more")).to_be_hidden()
    assert ids_of(page) == nearest(collection, model.encode_text(["red"]), 60)
    image = page.locator(f"{TILES} img").last
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_filters_are_counted_sent_and_kept_in_the_address(visit, expect, collection, model):
    page = visit({"q": "red"})
    rows = [row[1] for row in collection.rows([f"{number}.png" for number in range(60)])]
    counts = Counter(label for row in rows for label in row["labels"])
    chip = page.get_by_role("group", name="labels").get_by_role("button", name=re.compile("^blue"))
    expect(chip).to_have_text(f"blue {counts['blue']}")
    chip.click()
    expected = nearest(collection, model.encode_text(["red"]), 60, {"labels": "blue"})
    expect(page.locator(TILES)).to_have_count(len(expected))
    assert ids_of(page) == expected
    expect(chip).to_have_attribute("aria-pressed", "true")
    expect(chip).to_be_focused()
    page.reload()
    expect(page.locator(TILES)).to_have_count(len(expected))
    page.get_by_role("group", name="checked").get_by_role("button", name="yes").click()
    where = {"labels": "blue", "checked": True}
    expected = nearest(collection, model.encode_text(["red"]), 60, where)
    expect(page.locator(TILES)).to_have_count(len(expected))
    assert ids_of(page) == expected
    page.get_by_role("button", name="Remove checked: yes").click()
    with page.expect_request("**/search/text") as searched:
        page.get_by_role("group", name="labels").get_by_role("button", name=re.compile("^green")).click()
    assert searched.value.post_data_json["where"] == {"labels": ["blue", "green"]}  # one of them
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator("#active")).to_be_hidden()
    with page.expect_request("**/search/text") as searched:
        page.get_by_role("group", name="day").get_by_label("from").fill("2024-03-01")
        page.get_by_role("group", name="day").get_by_label("from").blur()
    assert searched.value.post_data_json["where"] == {"day": {"min": "2024-03-01"}}
    with page.expect_request("**/search/text") as searched:
        page.get_by_role("group", name="year").get_by_label("to").fill("2010")
        page.get_by_role("group", name="year").get_by_label("to").blur()
    assert searched.value.post_data_json["where"] == {"day": {"min": "2024-03-01"}, "year": {"max": 2010}}
    page.go_back()
    assert query_of(page) == [("q", "red"), ("min.day", "2024-03-01")]


def test_filters_alone_show_the_rows_that_pass(visit, expect, collection):
    page = visit()
    page.get_by_role("group", name="labels").get_by_role("button", name=re.compile("^blue")).click()
    expected = nearest(collection, np.zeros((1, 2), np.uint8), 60, {"labels": "blue"})
    expect(page.locator(TILES)).to_have_count(len(expected))
    assert sorted(ids_of(page)) == sorted(expected)
    expect(page.locator("#status")).to_contain_text("no particular order")


@pytest.mark.parametrize("way", ["file", "drop", "paste"])
def test_pictures_are_searched_with_and_combined_with_words(visit, expect, collection, model, tmp_path, way):
    page, content = visit(), png("green")
    expect(page.locator("#welcome")).to_be_visible()
    if way == "file":
        page.set_input_files("#file", {"name": "own.png", "mimeType": "image/png", "buffer": content})
    else:
        page.evaluate(DROP, [way, base64.b64encode(content).decode()])
    expect(page.locator("#chosenName")).to_have_text("own.png")
    expect(page.locator(TILES)).to_have_count(48)
    (tmp_path / "own.png").write_bytes(content)
    [image] = model.encode_image([tmp_path / "own.png"], output="continuous")
    assert ids_of(page) == nearest(collection, np.packbits(image >= 0)[None])
    page.locator("#text").fill("red")
    with page.expect_response("**/search/combined*") as answered:
        page.keyboard.press("Enter")
    [text] = model.encode_text(["red"], output="continuous")
    both = np.packbits(text / np.linalg.norm(text) + image / np.linalg.norm(image) >= 0)[None]
    expected = nearest(collection, both)
    assert [result["id"] for result in answered.value.json()["results"]] == expected
    expect(page.locator(TILES).first).to_have_attribute("data-id", expected[0])
    page.get_by_role("button", name="Search without this picture").click()
    expect(page.locator("#chosen")).to_be_hidden()
    expect(page.locator(TILES).first).to_have_attribute("data-id", nearest(collection, model.encode_text(["red"]))[0])
    page.go_back()
    expect(page.locator("#chosenName")).to_have_text("own.png")
    assert ids_of(page) == expected


def test_near_duplicates_fold_into_the_first(visit, expect, collection, model):
    page = visit({"q": "red"})
    expect(page.locator(TILES)).to_have_count(48)
    page.get_by_label("Fold near duplicates").check()
    [found] = collection.search(model.encode_text(["red"]), 60)
    codes = [code.tobytes() for code in found.codes]
    firsts = [row for place, row in enumerate(found.ids.tolist()) if codes[place] not in codes[:place]]
    expect(page.locator("#results .tile")).to_have_count(60)  # pages follow until the screen is full
    assert ids_of(page) == firsts
    place = next(place for place, code in enumerate(codes) if codes.count(code) > 1)
    button = page.locator(".folded").first
    expect(button).to_have_text(f"+{codes.count(codes[place]) - 1}")
    button.click()
    expect(page.locator(TILES)).to_have_count(len(firsts) + codes.count(codes[place]) - 1)
    page.get_by_label("Fold near duplicates").uncheck()
    expect(page.locator("#results .duplicate")).to_have_count(0)


def test_an_error_is_shown_and_can_be_tried_again(visit, expect):
    page = visit()
    expect(page.locator("#welcome")).to_be_visible()
    page.route("**/search/text", lambda route: route.abort())
    page.locator("#text").fill("red")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.unroute("**/search/text")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(TILES)).to_have_count(48)
    expect(page.locator("#error")).to_be_hidden()


def test_a_picture_that_cannot_be_used_is_left_out_instead_of_tried_again(visit, expect):
    page = visit({"q": "red", "like": "none.png"})
    expect(page.get_by_role("alert")).to_contain_text("no row has that id")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    page.get_by_role("button", name="Search without it").click()
    expect(page.locator(TILES)).to_have_count(48)
    page.locator("#file").set_input_files(files=[{"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}])
    expect(page.get_by_role("alert")).to_contain_text("no picture that can be read")
    page.get_by_role("button", name="Search without it").click()
    expect(page.locator(TILES)).to_have_count(48)
    expect(page.locator("#error")).to_be_hidden()


def test_until_the_server_answers_the_page_says_that_it_opens(chromium, expect, site):
    page = chromium.new_page()
    page.route("**/health", lambda route: None)  # no answer
    page.goto(str(site.base_url))
    expect(page.locator("#status")).to_have_text("Opening…")
    page.close()


def test_the_page_says_that_nothing_is_close(chromium, expect, collection, trained_run, tiny_dataset, start_server):
    from math_hash.retrieval.server.app import make_app

    strict = math_hash.load_model(trained_run)
    strict.results = {"k_bits": 16, "thresholds": {"false_positive_rate": 0.01, "text->image": 0, "image->image": 0}}
    client = start_server(make_app(collection, strict, tiny_dataset))
    page = chromium.new_page()
    page.goto(f"{client.base_url}/?q=red")
    expect(page.locator("#note")).to_contain_text("Nothing close was found")
    expect(page.locator(TILES)).to_have_count(48)
    page.goto(f"{client.base_url}/?like=7.png")
    expect(page.locator("#status")).to_contain_text("48+ results")
    expect(page.locator("#note")).to_be_hidden()
    page.close()


def test_a_server_for_others_asks_for_its_token(chromium, expect, collection, model, tiny_dataset, start_server):
    from math_hash.retrieval.server.app import make_app

    client = start_server(make_app(collection, model, tiny_dataset, is_public=True, token="secret"))
    page = chromium.new_page()
    page.goto(f"{client.base_url}/?q=red")
    expect(page.get_by_role("alert")).to_contain_text("Bearer TOKEN")
    expect(page.locator("#token")).to_be_focused()
    page.keyboard.type("secret")
    page.keyboard.press("Enter")
    expect(page.locator(TILES)).to_have_count(48)
    image = page.locator(f"{TILES} img").first
    expect(image).to_have_attribute("src", re.compile("^blob:"))
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.close()


STATES = {
    "welcome": ({}, "#welcome"),
    "results": ({"q": "red", "has.labels": "red", "duplicates": "fold"}, ".tile img"),
    "viewer": ({"q": "red", "has.labels": "none", "open": "7.png"}, "#viewer[open]"),
    "nothing": ({"q": "red", "has.labels": "none"}, "#nothing button"),
    "error": ({"upload": "9"}, "#error p"),
}


@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing(visit, width):
    """In every state, at two widths and in both themes: names, roles, contrasts, landmarks."""
    sync_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    axe, page = sync_playwright.Axe(), visit(width=width)
    for query, sign in STATES.values():
        page.goto(f"{page.url.partition('?')[0]}?{urlencode(query)}")
        page.locator(sign).first.wait_for()
        if width == 390:
            page.locator("#filters").evaluate("details => details.open = true")
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            found = axe.run(page)
            assert not found.violations_count, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
