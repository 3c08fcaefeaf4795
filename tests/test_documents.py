"""Everything that the pages name exists: commands and their flags, files, links, make targets."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from math_hash.cli import main, main_py

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "cache/README.md"]
COMMAND = re.compile(r"math-hash |-m math_hash |(?:python |launch |\S )(?:main\.py|tools/\S+\.py|benchmarks/\S+\.py)")


def commands() -> list[str]:
    """Lines of code blocks and words in backticks that run something of this project, without their comments."""
    lines = []
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        blocks = re.findall(r"^ {4,}(.*)", text, re.MULTILINE)
        lines += [line for line in (*blocks, *re.findall(r"`([^`\n]+)`", text)) if COMMAND.search(f" {line}")]
    return sorted({line.split("  #")[0].strip() for line in lines})


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit:
        main_py(["--help"]) if words[0] == "main.py" else main([*words, "--help"])
    assert exit.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", commands())
def test_commands_have_the_flags_that_the_pages_use(command, capsys):
    words = [word for word in shlex.split(command.replace("...", "").replace("'", "")) if word not in {"[", "]"}]
    start = next(i for i, word in enumerate(words) if re.fullmatch(r"(\S*/)?(math-hash|math_hash|\w+\.py)", word))
    flags = re.findall(r"--[A-Za-z][\w-]*", " ".join(words[start:]))
    if words[start].endswith(".py") and words[start] != "main.py":
        source = (ROOT / words[start]).read_text()
        source += "".join(path.read_text() for path in (ROOT / "math_hash/data/building").glob("*.py"))
        assert all(f'"{flag}"' in source for flag in flags)
        return
    if words[start] == "main.py":
        named = ["main.py"]
    elif words[start + 1] == "dataset":
        named = words[start + 1 : start + 3 + (words[start + 2] == "make")]
    else:
        named = words[start + 1 : start + 2]
    if not named:
        return
    text = help_of(named, capsys)
    for flag in flags:
        assert re.search(rf"{flag}(?![\w-])", text), f"{' '.join(named)} has no {flag}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_the_pages_name_exist(page):
    for name in re.findall(r"`((?:math_hash|tools|tests|benchmarks|docs)/[\w/.]+)`", page.read_text()):
        assert (ROOT / name).exists(), name


def test_make_has_the_targets_that_the_pages_name():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"(?:`|^ {4})make ([\w-]+)", page.read_text(), re.MULTILINE)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_the_pages_compiles(page):
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(code, str(page), "exec")


def test_the_readme_has_the_first_rows_of_the_leaderboard():
    readme, page = (ROOT / "README.md").read_text(), (ROOT / "docs/leaderboard.md").read_text()
    source = runpy.run_path(str(ROOT / "tools/readme_leaderboard.py"))
    assert source["with_rows"](readme, page) == readme, "run: python tools/readme_leaderboard.py"
    ours = [line.split(" | ") for line in readme.splitlines() if re.match(r"\| [\w-]+ \| 0\.\d{4}", line)]
    theirs = [line.split(" | ") for line in page.splitlines() if re.match(r"\| [\w-]+ \| 0\.\d{4}", line)]
    assert [row[:3] for row in ours] == [row[:3] for row in theirs[: len(ours)]]
    assert len(readme.splitlines()) <= 60  # one screen
