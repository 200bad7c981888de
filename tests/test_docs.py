"""README.md, SKILL.md and docs/: their commands are understood, their Python prints what they show, and the site is
built. (Their tables are looked at by test_documents.py.)
"""

import doctest
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dwfbench.cli import app, options
from dwfbench.cli.methods import methods
from tests.show.test_report_browser import browser  # noqa: F401 (a fixture)
from tests.show.test_report_browser import pytestmark as needs_browser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SKILL.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
INDENTED = re.compile(r"^ {4}(?:\$ )?(dwfbench .*)$", re.MULTILINE)
FENCED = re.compile(r"```(?:sh|console)\n(.*?)```", re.DOTALL)
QUOTED = re.compile(r"`(dwfbench [a-z][^`]*)`")
KNOWN = {name for commands in app.COMMANDS.values() for name in commands}


def commands(text: str) -> list[list[str]]:
    """The words after ``dwfbench`` of every command on a line of its own, in the text or between backticks."""
    text = text.replace("\\\n", " ")  # a command that goes on in the next line
    fenced = [line for block in FENCED.findall(text) for line in block.splitlines() if line.startswith("dwfbench ")]
    found = [*INDENTED.findall(text), *fenced, *(line.replace("\n", " ") for line in QUOTED.findall(text))]
    words = [shlex.split(line, comments=True)[1:] for line in found if "..." not in line]
    return [list(itertools.takewhile(lambda word: word not in (">", "|"), each)) for each in words]


def understood(words: list[str]) -> None:
    """Fails for words that their command does not take; a word in capitals stands for something."""
    stubs = app.typer.main.get_group(app.app).commands.values()
    (stub,) = [stub for stub in stubs if stub.name == words[0]]
    context = app.loaded(stub).make_context(words[0], list(words[1:]))
    if words[0] in ("run", "tune"):
        methods(context.params.get("method"))
        options.leftover(context.args)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_is_one_that_is_understood(page):
    for words in commands(page.read_text(encoding="utf-8")):
        assert words[0] in {*KNOWN, "COMMAND", "--help", "--install-completion"}, words
        meant = {"--help", "-h"}.isdisjoint(words) and not any(word.isupper() and word.isalpha() for word in words)
        if len(words) > 1 and meant:
            understood(words)


def test_commands_are_found_where_they_stand():
    text = (
        "    dwfbench run --lr 1    # so\n    $ dwfbench plot\n`dwfbench list\nmodels`\n```sh\ndwfbench compare\n```\n"
    )
    assert sorted(commands(text)) == [["compare"], ["list", "models"], ["plot"], ["run", "--lr", "1"]]


PYTHON = [page for page in PAGES if ">>> " in page.read_text(encoding="utf-8")]
"""Pages with Python and what it prints."""


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.name)
def test_its_python_prints_what_stands_there(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    failed, tried = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert failed == 0
    assert tried >= 4


@pytest.mark.parametrize("page", [PAGES[0], PAGES[1]], ids=NAMES[:2])
def test_what_it_links_to_is_there(page):
    """Links of the pages in docs/ are looked at by mkdocs."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target


# ---------------------------------------------------------------- the site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built from the root of the repository; warnings are errors (``strict`` in mkdocs.yml)."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.mark.slow
def test_the_site_has_what_is_written_and_what_is_generated(site):
    assert {page.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for page in PAGES[2:]} <= {
        page.relative_to(site).as_posix() for page in site.rglob("*.html")
    }
    reference = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in reference for name in KNOWN)
    assert "--checkpoint-minutes" in reference
    assert "--min-abs" in (site / "reference" / "methods.html").read_text(encoding="utf-8")
    assert "vgg-19-cifar100" in (site / "reference" / "figures.html").read_text(encoding="utf-8")
    assert "Replace weights by products" in (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert not list(site.rglob("*.py"))


@pytest.mark.slow
def test_the_site_opens_from_disk_and_fetches_nothing(site):
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|iframe|source)[^>]*\ssrc="([^"]+)"', html)
        fetched += re.findall(r'<link[^>]*\shref="([^"]+)"[^>]*>', html)
        local = [name for name in fetched if not name.startswith(("data:", "#"))]
        assert local
        for name in local:
            assert not re.match(r"(https?:)?//", name), name
            if page.name != "404.html":  # which servers send, for any address
                assert (page.parent / name.partition("?")[0].partition("#")[0]).is_file(), (page.name, name)


@pytest.mark.slow
def test_pictures_of_terminals_are_what_is_printed_and_need_no_fonts(site):
    picture = (site / "pictures" / "claims.svg").read_text(encoding="utf-8")
    assert "depth-3-above-2" in picture
    assert not re.search(r"url\(['\"]?http|@import|@font-face", picture)


@pytest.mark.slow
@needs_browser
def test_the_search_works_from_disk(site, browser):  # noqa: F811
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get((site / "index.html").as_uri())
    browser.find_element("css selector", "label.md-header__button[for=__search]").click()
    browser.find_element("css selector", "input.md-search__input").send_keys("misalignment")
    shown = "return [...document.querySelectorAll('.md-search-result__link')].map(link => link.href)"
    links = WebDriverWait(browser, 20).until(lambda driver: driver.execute_script(shown))
    assert any("dwf.html" in link for link in links)
    assert all(link.startswith(site.as_uri()) for link in links)
