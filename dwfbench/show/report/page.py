"""The page: what it shows of a selection of results, and its files put into one."""

import functools
import json
import math
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from dwfbench import __version__
from dwfbench.analysis import curves
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base import files, memory
from dwfbench.base.errors import UsageError
from dwfbench.base.text import capital
from dwfbench.runs.record import Study
from dwfbench.runs.selection import Selection
from dwfbench.show import comparison, looks, vega, verdicts
from dwfbench.show.figures import figures
from dwfbench.show.report import charts, grids, judgements, provenance
from dwfbench.show.tables import USUAL, Question


def write(page: str, path: Path) -> None:
    """Write a page, wholly or not at all, parent folders included. Raises UsageError where that is not possible."""
    files.write(path, page.encode("utf-8", "replace"))  # half a surrogate pair in a name is no reason to fail


def render(results: ResultSet, selection: Selection, question: Question = USUAL, versus: str | None = None) -> str:
    """The page about the runs of the selected methods, compared as asked and, if it is named, with a curve.

    `results` are those of the selected data sets and models, all methods, recounted at the selected threshold, with
    what the figures need: labels, the dense reference and verdicts come from all of them. Raises UsageError if no run
    is left to show.
    """
    question = replace(question, method=selection.method)
    selected = results.only(method=selection.method)
    shown_runs, records = selected.runs, selected.records
    if shown_runs.empty:
        raise UsageError("There is nothing to report: no finished run matches.")
    labels = list(looks.inks(shown_runs))
    studies = [study for study in _ordered(results.studies, labels) if _is_of(study, shown_runs)]
    page_charts = charts.Charts()
    compared = comparison.compare(results, question)
    against = comparison.versus(results, versus, question) if versus else None
    judged = results.claims()
    shown_figures = [figure() for figure in figures().values()]
    if selection.threshold is not None:  # the others count otherwise
        shown_figures = [figure for figure in shown_figures if figure.recounts()]
    sections = [page_charts.section(figure, selected) for figure in shown_figures]
    content = {
        "version": __version__,
        "selection": selection,
        "score": compared.score,
        "Score": capital(compared.score),
        "titles": [", ".join(key) for key, _ in shown_runs.groupby(curves.PANEL)],
        "days": provenance.days(list(records.values())),
        "dense": grids.dense(results.runs),
        "claims": judgements.listed(judged),
        "counts": verdicts.counts(judged),
        "tested": verdicts.TEST,
        "figures": [section for section in sections if section],
        "settings": grids.settings(shown_runs, records, labels),
        "studies": [grids.study(study) for study in studies],
        "comparison": compared,
        "compared": grids.comparison(compared.table, shown_runs),
        "shared": grids.shared(compared.table),
        "versus": versus,
        "against": against,
        "differences": against and grids.comparison(against.table, shown_runs),
        "cautions": judgements.cautions([*compared.cautions, *(against.cautions if against else [])]),
        "runs": grids.runs(shown_runs, records, labels),
        "failures": grids.failures(selected.failures),
        "provenance": provenance.provenance(list(records.values())),
        "commands": [
            *provenance.commands((study.provenance, "") for study in studies),
            *provenance.commands((record.provenance, record.provenance.started or "") for record in records.values()),
        ],
        "readers": _readers(selection, [section["name"] for section in sections if section], question, versus),
        "css": Markup(_file("report.css")),
        "scripts": [Markup(_file(name)) for name in ("tables.js", "charts.js", "pictures.js")],
        "bundle": Markup(_bundle()),
        "charts": Markup(_json({"config": vega.CONFIG, "charts": page_charts.charts})),
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_file("report.html")).render(content) + "\n"


def _ordered(studies: Iterable[Study], labels: list[str]) -> list[Study]:
    """The studies in the order of the legend; others follow."""
    ranks = {label: rank for rank, label in enumerate(labels)}
    return sorted(studies, key=lambda study: (ranks.get(study.label, len(ranks)), study.label))


def _is_of(study: Study, runs: pd.DataFrame) -> bool:
    names = [*curves.PANEL, "method"]
    return bool((runs[names] == [getattr(study, name) for name in names]).all(axis=1).any())


def _readers(selection: Selection, names: list[str], question: Question, versus: str | None) -> list[str]:
    """The commands that show the runs again."""
    drawing = [["plot", name, *selection.words()] for name in names]
    judging, comparing = ["claims", *selection.words(method=False)], [*selection.words(), *question.words()]
    against = ["--versus", versus] if versus else []
    compared = [["compare", *comparing], *([["compare", *comparing, *against]] if against else [])]
    reading = [judging, *compared, *drawing, ["report", *comparing, *against]]
    return [shlex.join(["dwfbench", *words]) for words in reading]


# ---------------------------------------------------------------- files


def _file(name: str) -> str:
    return (resources.files("dwfbench.show.report") / "templates" / name).read_text(encoding="utf-8")


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script. Raises UsageError where there are too few addresses to make it.

    V8 does, which reserves tens of gigabytes of addresses, whatever it uses, and ends the process where it cannot.
    """
    if math.isinf(room := memory.address_space()):
        import vl_convert

        bundle: Any = vl_convert.javascript_bundle  # its annotations ask for the snippet, which is optional
        script = bundle()
    else:
        code = "import sys, vl_convert; sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())"
        process = subprocess.run([sys.executable, "-c", code], capture_output=True)
        if process.returncode:
            raise UsageError(
                f"A report needs more addresses than the {room / memory.GIB:.1f} GiB that `ulimit -v` leaves; raise it "
                "or take `dwfbench plot all`."
            )
        script = process.stdout.decode()
    return script.replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _json(content: object) -> str:
    """JSON in ASCII that no HTML parser takes for the end of its script element."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
