"""The site that `make docs` builds from the guides and the docstrings."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import pytest

inventory = pytest.importorskip("mkdocstrings").Inventory

ROOT = Path(__file__).resolve().parents[1]
# the hosts of external links, which no test fetches
HOSTS = {"github.com", "arxiv.org", "milvus.io", "squidfunk.github.io"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site. Dead links and anchors, pages without a place and damaged docstrings are warnings, thus errors."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    # a proxy that nothing listens at: what would fetch something fails
    offline = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")} | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_public_name_is_in_the_reference(site):
    documented = set(inventory.parse_sphinx((site / "objects.inv").open("rb")))
    packages = [
        import_module(f"math_hash{name}") for name in ("", ".evaluation", ".retrieval", ".methods", ".encoders")
    ]
    public = [getattr(package, name) for package in packages for name in package.__all__]
    for value in (*public, *packages[3].METHODS.values()):
        if isinstance(value, type) or callable(value):
            assert f"{value.__module__}.{value.__qualname__}" in documented
    assert {"math_hash.config.Config.k_bits", "math_hash.training.code_bank.CodeBank"} <= documented


def test_pages_load_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|source|iframe)\b[^>]*\bsrc=\"?([^\"\s>]+)", text)
        loaded += re.findall(r"<link\b[^>]*\bhref=\"?([^\"\s>]+)", text)
        assert not [address for address in loaded if urlsplit(address).netloc], page
        assert 'data-md-component="source"' not in text  # it would ask GitHub's API
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\W?(?:https?:)?//|@import", sheet.read_text()), sheet


def test_external_links_lead_to_known_hosts(site):
    links = {
        link
        for page in site.rglob("*.html")
        for link in re.findall(r"<a\b[^>]*\bhref=\"(\w+:[^\"]+)", page.read_text())
    }
    assert {urlsplit(link).netloc for link in links} <= HOSTS
    assert all(link.startswith("https://") for link in links)
