"""Drawings as files, by matplotlib: PNG, SVG, PDF, and PGF for LaTeX. Equal drawings give equal files.

What a user has set, in a matplotlibrc or in this process, is left as it is; the rest is ours.
"""

import io
import re
import shutil
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_pgf import LatexError

from dwfbench.base import escape, files
from dwfbench.base.errors import UsageError
from dwfbench.show import style
from dwfbench.show.drawing import Drawing
from dwfbench.show.layout import USUAL, Layout
from dwfbench.show.mpl import figure

RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": style.FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.dpi": 200,
    "svg.hashsalt": "dwfbench",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "pgf.texsystem": "pdflatex",
    "pgf.rcfonts": False,  # the document's
}
STYLES: dict[str, dict[Any, Any]] = {
    "screen": {},
    "paper": {
        "font.family": ["STIXGeneral", "serif"],  # letters of the second where the first has none
        "mathtext.fontset": "stix",
        **dict.fromkeys(("font.size", "axes.titlesize", "legend.fontsize", "legend.title_fontsize"), 8),
        **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
        **{
            "lines.linewidth": 1.1,
            "lines.markersize": 4.8,
            "grid.linewidth": 0.4,
            "xtick.major.size": 2.5,
            "ytick.major.size": 2.5,
            "savefig.dpi": 300,
        },
    },
}
NO_DATES: dict[str, dict[str, Any]] = {
    ".png": {},
    ".svg": {"metadata": {"Date": None}},
    ".pdf": {"metadata": {"CreationDate": None}},
    ".pgf": {},
}


def write(drawing: Drawing, path: Path, layout: Layout = USUAL) -> None:
    """Write a drawing in the format of the path's ending, wholly or not at all, parent folders included.

    Raises UsageError for another ending, where LaTeX, which a .pgf needs, is not there or fails, and where the file
    cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in NO_DATES:
        raise UsageError(f"A figure cannot be written as '{path.name}': end its name in .png, .svg, .pdf or .pgf.")
    with matplotlib.rc_context(settings(layout.style)):
        latex = ending == ".pgf" or matplotlib.rcParams["text.usetex"]
        if ending == ".pgf" and not shutil.which(program := matplotlib.rcParams["pgf.texsystem"]):
            raise UsageError(f"{path.name} needs LaTeX: there is no program {program!r} here; .pdf needs none.")
        matplotlib.rcParams["text.parse_math"] = not latex  # which reads formulas itself
        picture = io.BytesIO()
        fig = figure(layout.laid_out(drawing, in_latex if latex else without_formulas))
        try:
            fig.savefig(picture, format=ending[1:], **NO_DATES[ending])
        except (LatexError, RuntimeError, ValueError) as error:
            if not latex:
                raise
            raise UsageError(f"LaTeX cannot set a text of this figure ({_reason(error)})") from None
    files.write(path, picture.getvalue())


def settings(look: str) -> dict[Any, Any]:
    """matplotlib's settings of a style: ours, but for what the user has set, in a file or here."""
    user = matplotlib.rc_params_from_file(matplotlib.matplotlib_fname(), use_default_template=False)
    usual = matplotlib.rcParamsDefault
    ours = RC | STYLES[look]
    return {name: user.get(name, value) for name, value in ours.items() if matplotlib.rcParams[name] == usual[name]}


def without_formulas(text: str) -> str:
    """A text of a record, which may hold dollars and a formula that is none."""
    return text.replace("$", r"\$")


def in_latex(text: str) -> str:
    """A text of a record, or a number of ours, for LaTeX."""
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    return re.sub("[⁻⁰¹²³⁴-⁹]+", lambda part: f"$^{{{part[0].translate(raised)}}}$", escape.latex(text))


def _reason(error: Exception) -> str:
    """LaTeX's own words: the line that begins with an exclamation mark."""
    lines = str(error).splitlines()
    return next((line.lstrip("! ") for line in lines if line.startswith("!")), lines[0])
