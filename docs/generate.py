"""What mkdocs makes of the code, for the site: the help of every command, the methods, the figures of papers, and
pictures of what commands print and draw.

Pictures are of committed results, made anew with each build, so that they show what the commands print today.
"""

import io
import os
import re
import shlex
import tempfile
from importlib import import_module
from pathlib import Path
from unittest import mock

from mkdocs.structure.files import File
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from typer.testing import CliRunner

import dwfbench
from dwfbench.cli import app, info
from dwfbench.experiments import reproduce

ROOT = Path(__file__).parents[1]
REFERENCE = "results/starved/lenet-300-100.zip"
SCREENS = {
    "compare": f'compare --results {REFERENCE} --at 30,100 --tolerance 5 --columns "Method,Runs,CR 30,CR 100,CR@-5pt"',
    "claims": f"claims --results {REFERENCE} --columns Claim,Measure,Verdict,Effect,Seeds",
}
"""Commands whose output is shown as a picture of a terminal, by the picture's name."""
COLUMNS = 116

PUBLIC = {
    "dwfbench": [name for name in dir(dwfbench) if callable(getattr(dwfbench, name))],
    "dwfbench.show.notebook": ["Results"],
    "dwfbench.analysis.resultset": ["ResultSet"],
    "dwfbench.method": ["Method", "Pruner", "Moment", "Stage"],
    "dwfbench.sparsity": ["top_k_masks"],
    "dwfbench.export": ["export"],
    "dwfbench.sparsefile": ["load_sparse"],
}
"""What the page on Python has, by the module from which it is imported."""

FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


def on_files(files, config):
    """mkdocs calls this with the files of docs/; what is generated is added to them."""
    pages = {"commands": commands(), "methods": methods(), "figures": figures(), "python": python()}
    made = {f"reference/{name}.md": text for name, text in pages.items()}
    made |= {f"pictures/{name}.svg": terminal(words) for name, words in SCREENS.items()}
    made["pictures/budget.png"] = (ROOT / "results" / "budget" / "budget.png").read_bytes()
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")
"""A link to a file of the repository that is no page."""


def on_page_markdown(markdown, page, **others):
    """mkdocs calls this with the text of every page. The site has no other files of the repository: it names them."""
    return markdown if "/" in page.file.src_uri else OUTSIDE.sub(r"`\1`", markdown)


def printed(words: str, columns: int = 80) -> str:
    """What ``dwfbench WORDS`` prints on stdout, from the root of the repository."""
    here = os.getcwd()
    os.chdir(ROOT)
    try:
        with mock.patch.dict(os.environ, {"COLUMNS": str(columns)}):
            done = CliRunner().invoke(app.app, shlex.split(words), prog_name="dwfbench")
    finally:
        os.chdir(here)
    if done.exit_code != 0:
        raise RuntimeError(f"`dwfbench {words}` ended with {done.exit_code}: {done.stderr}")
    return done.stdout


# ---------------------------------------------------------------- pages


def commands() -> str:
    """The page of all commands: their helps."""
    names = [name for panel in app.COMMANDS.values() for name in panel]
    parts = ["# Commands\n\nWhat `dwfbench COMMAND --help` prints.\n", block(printed("--help"))]
    parts += [f"## {name}\n\n{block(printed(f'{name} --help'))}" for name in names]
    return "\n".join(parts)


def block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


def methods() -> str:
    """The page of the methods that come with dwfbench, with their options."""
    parts = [
        "# Methods\n\nWhat `dwfbench list methods` prints. The *knob* is what a method is turned by. "
        "Options are flags of `dwfbench run` and `tune`.\n"
    ]
    for row in info.list_methods():
        parts.append(f"## {row['name']}\n\n{row['summary']}.\n\n*Knob*: {row['knob']}. *Source*: {row['source']}.\n")
        if row["options"]:
            parts.append("| Option | Default | What it does |\n| --- | --- | --- |")
            parts += [f"| `{one['flag']}` | {default(one)} | {described(one)} |" for one in row["options"]]
            parts.append("")
    return "\n".join(parts)


def default(option: dict) -> str:
    return "none" if option["default"] is None else f"`{option['default']}`"


def described(option: dict) -> str:
    choices = f" ({', '.join(option['choices'])})" if option["choices"] else ""
    return (option["help"] + choices).replace("|", "\\|")


def figures() -> str:
    """The page of the figures of papers."""
    rows = [figure.described() for figure in reproduce.figures().values()]
    notes = dict.fromkeys(row["note"] for row in rows)
    head = "# Figures of papers\n\nWhat `dwfbench list figures` prints; `dwfbench reproduce NAME` makes one.\n"
    facts = "\n\n".join(info.facts(row) for row in rows)
    return "\n".join([head, *(f"{note}\n" for note in notes), block(facts)])


def python() -> str:
    """The page of what may be imported, each under its public name; mkdocstrings puts in the docstrings."""
    parts = ["# Python\n\nWhat may be imported. Everything else may change without notice.\n"]
    for module, names in PUBLIC.items():
        parts.append(f"## {module}\n")
        for name in names:
            item = getattr(import_module(module), name)
            parts.append(f"::: {item.__module__}.{item.__qualname__}\n")
    return "\n".join(parts)


# ---------------------------------------------------------------- pictures


def terminal(words: str) -> str:
    """A picture of a terminal with a command and what it prints, as SVG that needs no other file."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    console.print(f"[bold]$ dwfbench {words}[/bold]", highlight=False)
    console.print(printed(words, COLUMNS).rstrip(), highlight=False, markup=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "terminal.svg"
        console.save_svg(str(path), title="", theme=SVG_EXPORT_THEME, font_aspect_ratio=0.61)
        return without_fonts(path.read_text(encoding="utf-8"))


def without_fonts(svg: str) -> str:
    """The SVG without the fonts that rich would have a browser fetch."""
    while "@font-face" in svg:
        start = svg.index("@font-face")
        svg = svg[:start] + svg[svg.index("}", start) + 1 :]
    return svg.replace("Fira Code", "FONT").replace("FONT", FONT)
