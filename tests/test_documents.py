"""Tables of documents are the output of the commands that they name, run anew on the committed archives."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "results").rglob("README.md"))]
DOCUMENTS = [*READMES, *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"`(dwfbench (?:compare|claims) [^`]*)`|^ *\$? *(dwfbench (?:compare|claims) .*)$", re.MULTILINE)
TABLE = re.compile(r"(?:^ *\|.*\n?)+", re.MULTILINE)
MADE = re.compile(r"dwfbench ((?:compare|claims) .*) > (\S+)")


def tables_of(text):
    """The tables that follow a command with ``--format markdown``, before the next heading, table or command: pairs of
    the command and the table.
    """
    found, end = [], 0
    for table in TABLE.finditer(text):
        before = re.split(r"^#.*$", text[end : table.start()], flags=re.MULTILINE)[-1]
        commands = [" ".join((quoted or line).split()) for quoted, line in COMMAND.findall(before)]
        if commands and "--format markdown" in commands[-1]:
            found.append((commands[-1], table[0]))
        end = table.end()
    return found


def cells(table):
    """The cells of a table in Markdown, whatever their padding; of the rule only which way its columns are flush."""
    rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in table.strip().splitlines()]
    return [
        [re.sub("-+", "-", cell.strip()) if number == 1 else cell.strip() for cell in row]
        for number, row in enumerate(rows)
    ]


NAMED = [
    pytest.param(command, table, id=f"{document.relative_to(ROOT)}: {command}")
    for document in DOCUMENTS
    for command, table in tables_of(document.read_text(encoding="utf-8"))
]


def test_a_table_belongs_to_the_last_command_before_it():
    first = "a `dwfbench compare --at 1\n--format markdown`:\n\n| a |\n| - |\n\n| b |\n"
    text = f"{first}\n    $ dwfbench claims --format markdown\n    | c |\n"
    assert tables_of(text) == [
        ("dwfbench compare --at 1 --format markdown", "| a |\n| - |\n"),
        ("dwfbench claims --format markdown", "    | c |\n"),
    ]
    assert tables_of("`dwfbench compare --format markdown`\n\n# Next\n\n| a |\n") == []
    assert tables_of("`dwfbench compare --format markdown`, `dwfbench compare --at 3`\n\n| a |\n") == []
    assert cells("| a \\| b | c |\n| :--- | --: |\n") == [["a \\| b", "c"], [":-", "-:"]]


def test_some_documents_name_the_commands_of_their_tables():
    assert NAMED


@pytest.mark.parametrize(("command", "table"), NAMED)
def test_a_table_of_a_document_is_the_output_of_its_command(command, table, call, monkeypatch):
    monkeypatch.chdir(ROOT)
    shown = call(*shlex.split(command)[1:])
    assert shown.exit_code == 0, shown.stderr
    assert cells(shown.stdout) == cells(table)


def anchors(text):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document):
    """The links of a document to files or headings that are not there. (Those within docs/ are MkDocs's to check.)"""
    broken = []
    for link in LINK.findall(document.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        file = document.parent / name if name else document
        if "://" not in link and not (
            file.exists() and (not anchor or anchor in anchors(file.read_text(encoding="utf-8")))
        ):
            broken.append(link)
    return broken


def test_a_link_to_what_is_not_there_is_named(tmp_path):
    document = tmp_path / "README.md"
    document.write_text(
        "# A set: of runs\n\n[a](#a-set-of-runs) [b](#b) [c](c.png) [d](README.md) [e](https://e.org)\n"
    )
    assert broken_links(document) == ["#b", "c.png"]


@pytest.mark.parametrize("document", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_readme_lead_somewhere(document):
    assert broken_links(document) == []


def printed(*words):
    """What a command prints at the root of the repository."""
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def made_tables():
    """What `make tables` writes of committed archives, with the words of its commands."""
    found = [(shlex.split(words), ROOT / file) for words, file in MADE.findall(printed("make", "--dry-run", "tables"))]
    return [(words, file) for words, file in found if file.exists()]


def test_committed_tables_are_what_make_tables_writes(call, monkeypatch):
    monkeypatch.chdir(ROOT)
    made = made_tables()
    assert made
    stale = [file.relative_to(ROOT) for words, file in made if call(*words).stdout != file.read_text(encoding="utf-8")]
    assert not stale, "make tables writes others"


def test_every_committed_picture_is_drawn_by_make():
    recipe = printed("make", "--dry-run", "tables", "pictures")
    pictures = printed("git", "ls-files", "docs/*.png", "results/*.png").split()
    assert pictures
    for picture in map(Path, pictures):
        by_default = picture.name == "accuracy.png" and f"plot all --results {picture.parent}.zip\n" in recipe
        assert by_default or re.search(rf"(-o |--screenshot=\S*){picture}\b", recipe), picture
