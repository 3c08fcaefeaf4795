"""Write the first rows of docs/leaderboard.md into the README, between the two comments that mark the place."""

import re
from pathlib import Path
from textwrap import wrap

from math_hash.files import write_text

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("method", "image->text", "text->image", "against MATH")
ROWS = 5
PLACE = re.compile(r"(<!-- leaderboard: .*? -->\n).*?(<!-- end of leaderboard -->)", re.DOTALL)


def cells(line: str) -> list[str]:
    """The cells of a row of a Markdown table."""
    return [cell.strip() for cell in line.split("|")[1:-1]]


def part(page: str, pattern: str) -> str:
    """The first place of a page that matches a pattern."""
    match = re.search(pattern, page, re.MULTILINE)
    if match is None:
        raise SystemExit(f"docs/leaderboard.md: holds no {pattern}; make it anew with `math-hash benchmark`")
    return match.group()


def first_rows(page: str) -> str:
    """Caption and table for the README: the first methods of the page's first table, and its chance level.

    Args:
        page: text of a page that `math-hash benchmark` wrote.
    """
    title, bits = (part(page, rf"^{mark} .*").lstrip("# ") for mark in ("#", "##"))
    setting = part(page, r"^Protocol (?s:.*?)\sEncoder: (?s:.*?)\.(?=\s)")
    heading, _, *rows = part(page, r"^\| method \|(?:.*\n)(?:\|.*(?:\n|$))+").splitlines()
    places = [cells(heading).index(name) for name in COLUMNS]
    chosen = [*rows[:ROWS], *(row for row in rows if cells(row)[0] == "chance level")]
    caption = f"mAP over the whole database, {bits}: the first rows of [{title}](docs/leaderboard.md). {setting}"
    lines = [*wrap(caption, 120, break_long_words=False), ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    lines += [f"| {' | '.join(cells(row)[place] for place in places)} |" for row in chosen]
    return "\n".join(lines) + "\n"


def with_rows(readme: str, page: str) -> str:
    """The README's text with the rows of today's leaderboard."""
    return PLACE.sub(lambda match: f"{match[1]}{first_rows(page)}{match[2]}", readme)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    write_text(readme, with_rows(readme.read_text(), (ROOT / "docs/leaderboard.md").read_text()))
