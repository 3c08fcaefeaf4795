"""The commands and the Python of the pages, run in order in a folder that has what they name, in small.

Commands that are not run are listed with the reason, and still have to be accepted by the parser: `PARSED`. What is not
of this package, or is no command but a program's output, is left out: `ELSEWHERE`.
"""

import argparse
import ast
import doctest
import os
import re
import runpy
import shlex
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from conftest import make_tiny_dataset, tiny_clip
from PIL import Image

import math_hash
from math_hash.cli import main, main_py

ROOT = Path(__file__).resolve().parents[1]
# in the order in which they run: one page's run is another's model
PAGES = (
    "docs/training.md", "README.md", "docs/index.md", "docs/evaluation.md", "docs/methods.md", "docs/datasets.md",
    "docs/features.md", "docs/search.md", "docs/compare.md", "docs/encoders.md", "docs/launching.md", "docs/milvus.md",
    "docs/own_method.md", "docs/album.md", "docs/python.md", "docs/install.md", "docs/leaderboard.md",
    "docs/benchmarks.md", "CONTRIBUTING.md",
    "CHANGELOG.md", "cache/README.md",
)  # fmt: skip
OURS = re.compile(r"(?:math-hash|-m math_hash|main\.py|(?:tools|benchmarks)/\S+\.py)(?=\s)")
ELSEWHERE = re.compile(
    r"(make|pip|git|docker|curl|source|export) "  # make's targets: tests/test_documents.py; the others need the network
)
PARSED = {
    "--dataset demo": "trains the demo for minutes, as make demo does; tests/data/building/test_demo_dataset.py",
    "--methods": "tests/cli/test_benchmark.py",
    "--learning-rates": "tests/cli/test_benchmark.py",
    "benchmarks/": "downloads or measures for minutes",
    "--raw DOWNLOAD": "tests/data/building/test_flickr25k.py",
    "--encoder ": "downloads an encoder; tests/encoders",
    "--encoder-weights": "downloads an encoder; tests/encoders",
    "--runs RUN": "trains without four labels, of which tiny datasets have three; tests/cli/test_compare_command.py",
    "--align": "fits on a thousand rows; tests/cli/test_compare_command.py",
    "serve ": "runs until it is stopped; tests/retrieval/server",
    "album ": "runs until it is stopped; tests/cli/test_album_command.py",
    "sync ": "needs the album of that; tests/retrieval/test_album.py",
    "math-hash demo": "trains for minutes, and runs until it is stopped; tests/cli/test_shell.py",
    "--server": "needs a running server; tests/retrieval/server/test_search_client.py",
    "accelerate launch": "starts several processes; tests/training",
    "torchrun": "starts several processes; tests/training",
    "s3://": "network; tests/data/test_remote.py",
    "hf://": "network; tests/data/test_remote.py",
    "milvus://": "a server; tests/retrieval",
    "--leaks": "needs codes of a whole dataset; tests/cli/test_duplicates.py",
    "--format": "an export takes half a minute or goes to the hub; tests/models",
    "--method SCAHN": "a second training; tests/models/test_bit_order.py",
}
# sizes and names that the folder cannot have, by page
SMALL = {
    "docs/training.md": {"RUN_OR_FILE": "RUN"},
    "docs/evaluation.md": {"--unseen-labels 6": "--unseen-labels 2", "--rows 500": "--rows 10"},
    "docs/datasets.md": {"SOURCE": "images.csv", "DIR": "dataset/mine"},
    "docs/features.md": {"RUN": "VECTOR_RUN"},
    "docs/search.md": {
        "00099": "00001",
        "RESULT_MATH_DEMO/demo_16/first": "RUN",
        "photos2.codes": "photos.codes",
        "others.codes": "photos.codes",
        "labels=dog|cat": "image=beach.jpg|a.png",
        "labels!=sofa": "image!=b.png",
        "year>=2015": "image!=c.png",
        "label=dog": "image=beach.jpg",
        "photos.codes --mismatches": "images.codes --mismatches",
    },
}
TINY = {
    "query_num": 10, "train_num": 30, "val_num": 5, "epochs": 1, "batch_size": 10, "resolution": 32, "max_words": 12,
    "num_workers": 0,
}  # fmt: skip
FLAGS = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def blocks(page: str) -> list[str]:
    """Lines of a page that are indented as code, with those that they go on in, without comments and prompts."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    lines = re.findall(r"^ {4}(\S.*)", re.sub(r"\\\n\s*", "", text), re.MULTILINE)
    return [re.sub(r"\s{2,}#.*| # .*", "", line).removeprefix("$ ") for line in lines]


COMMANDS = [(page, line) for page in PAGES for line in blocks(page) if OURS.search(line) and not ELSEWHERE.match(line)]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """The folder that commands run in: what a reader of the pages would have, with a tiny CLIP and tiny datasets."""
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("house")
    make_tiny_dataset(folder / "dataset/flickr25k")
    shutil.copytree(folder / "dataset/flickr25k", folder / "dataset/demo")
    pictures = sorted((folder / "dataset/demo").glob("*.png"))
    for name in ("cache", "photos", "shards"):
        (folder / name).mkdir()
    torch.save(tiny_clip().state_dict(), folder / "cache/ViT-B-32.pt")
    for picture in pictures[:12]:
        shutil.copy(picture, folder / "photos")
    for name, picture in zip(("beach.jpg", "street.jpg"), pictures, strict=False):
        shutil.copy(picture, folder / name)
    for number in range(2):
        with tarfile.open(folder / f"shards/{number:05}.tar", "w") as archive:
            archive.add(pictures[number], f"{number}.png")
    rows = [
        f"{picture},{'red sky' if row % 2 else 'blue sea'},{'red' if row % 2 else 'blue'}"
        for row, picture in enumerate(pictures)
    ]
    (folder / "images.csv").write_text("\n".join(["image,text,labels", *rows]))

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 64), np.float32)
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / "embeddings" / name).mkdir(parents=True)
    np.save(folder / "embeddings/img_emb/img_emb_0.npy", vectors)
    np.save(folder / "embeddings/text_emb/text_emb_0.npy", vectors)
    described = {"image_path": [f"{row}.jpg" for row in range(60)], "caption": ["a picture"] * 60}
    described["tags"] = [["red"] if row % 2 else ["blue"] for row in range(60)]
    pq.write_table(pa.table(described), folder / "embeddings/metadata/metadata_0.parquet")
    pq.write_table(pa.table({"image_emb": [[*map(float, row)] for row in vectors]}), folder / "rows.parquet")
    before = os.getcwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def small(page: str, text: str) -> str:
    """The text with what the folder has in place of what it cannot have."""
    for whole, part in SMALL.get(page, {}).items():
        text = re.sub(rf"(?<![\w/]){re.escape(whole)}(?!\w)", part, text)
    return text


def run_words(words: list[str]) -> int:
    """Run what follows `math-hash`, `math_hash`, `main.py` or a tool in this process. Returns its exit code."""
    start = next(place for place, word in enumerate(words) if re.search(r"^math[-_]hash$|\.py$", word))
    program, arguments = words[start], words[start + 1 :]
    if program == "main.py":
        return main_py(arguments)
    if not program.endswith(".py"):
        return main(arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program, *arguments])
        patch.syspath_prepend((ROOT / program).parent)
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(str(ROOT / program), run_name="__main__")
    return exit.value.code or 0


@pytest.mark.slow
@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_commands_run(house, page, line, capsys, monkeypatch):
    line = small(page, line)
    words = shlex.split(line.replace("srun bash -c", "").replace("...", ""))
    if len(words) == 1:
        words = shlex.split(words[0])
    if any(part in line for part in PARSED):
        parse = argparse.ArgumentParser.parse_args

        class Accepted(Exception):
            pass

        def only_parse(*arguments):
            parse(*arguments)
            raise Accepted

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
        with pytest.raises(Accepted):
            run_words(words)
        return
    if " encode-features " in line:
        words += FLAGS[FLAGS.index("--resolution") :]
    elif re.search(r"main\.py| train ", line):
        words += FLAGS
    if "--is-train --dataset flickr25k --k-bits 16" in line:
        words += ["--save-dir", "RUN"]
    if "--features dataset/mine/features" in line:
        words += ["--save-dir", "VECTOR_RUN"]
    if (
        "--output" in words
        and "--update" not in words
        and (output := house / words[words.index("--output") + 1]).is_dir()
    ):
        shutil.rmtree(output)  # of an earlier page
    assert run_words(words) == 0, capsys.readouterr().err


def python_blocks(page: str) -> list[str]:
    """The page's blocks of Python; what a console shows becomes an assertion."""
    text = (ROOT / page).read_text()
    console = re.findall(r"```pycon\n(.*?)```", text, re.DOTALL)
    examples = [example for block in console for example in doctest.DocTestParser().get_examples(block)]
    code = [
        f"assert repr({ast.unparse(ast.parse(e.source))}) == {e.want.strip()!r}" if e.want else e.source
        for e in examples
    ]
    return [*re.findall(r"```python\n(.*?)```", text, re.DOTALL), *(["".join(code)] if code else [])]


# a method's page is installed and trained with by tests/methods/test_own_method.py
PYTHON = [page for page in PAGES if page != "docs/own_method.md" and python_blocks(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", PYTHON)
def test_python_in_the_pages_runs(house, page):
    """The blocks of a page run one after the other, with the names that they take from the reader."""
    AcceleratorState._reset_state(reset_partial_state=True)  # one process trains in one precision
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, 256, (2000, 8), np.uint8), rng.integers(0, 2, (2000, 3), np.uint8)
    signs = codes[:, :2].astype(float) - 127
    names = {"math_hash": math_hash, "codes": codes[:2], "query_codes": codes[:5], "run": house / "RUN"}
    names |= {"database_codes": codes, "query_labels": labels[:5], "database_labels": labels}
    names |= {"image_codes": codes, "text_codes": codes, "images": signs, "texts": signs, "targets": labels}
    picture = Image.open(house / "beach.jpg")
    names |= {"picture": picture, "array": np.asarray(picture), "arrays": np.stack([picture] * 2)}
    names["captions"] = ["a dog"]
    names |= {"their_model": lambda images, texts, targets: (images, texts), "TINY": TINY}
    for code in python_blocks(page):
        code = re.sub(r"math_hash\.(train|evaluate)\((.*)\)", r"math_hash.\1(\2, **TINY)", code)
        code = code.replace("RESULT_MATH_DEMO/demo_16/first", "RUN")
        code = code if page == "docs/python.md" else code.replace("photos.index", "python.index")
        code = code.replace("a.jpg", "beach.jpg").replace("photo.jpg", "beach.jpg").replace('{"label": "dog"}', "None")
        exec(compile(code, page, "exec"), names)
