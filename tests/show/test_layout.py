"""The layout of figures: every figure takes all of it, the width is that of the page, names and formulas are safe."""

import re
import shutil
import subprocess
import sys

import matplotlib
import pytest

from dwfbench.base.errors import UsageError
from dwfbench.show import files, mpl
from dwfbench.show.drawing import Arrows, Axis, Drawing, Entry, Group, Ink, Legend, Line, Panel, Points
from dwfbench.show.layout import Layout
from tests.deploy.test_measure import measured_runs
from tests.show.test_figures import METHODS, budgets, drawn, record, records

TEX = shutil.which("pdflatex")
PACKAGES = ("pgf.sty", "booktabs.sty")
if TEX and subprocess.run(["kpsewhich", *PACKAGES], capture_output=True, text=True).stdout.count(".sty") < len(
    PACKAGES
):
    TEX = None
needs_tex = pytest.mark.skipif(not TEX, reason="needs TeX")
EACH = [
    *((name, records) for name in ("accuracy", "dynamics", "layers", "weights")),
    ("latency", measured_runs),
    ("budget", budgets),
]
PAPER = {"width": "column", "style": "paper"}


def plain(text):
    return text


def laid_out(drawing, **options):
    return Layout(**options).laid_out(drawing, plain)


def made(drawing, **options):
    """The figure of a drawing as a file has it, drawn."""
    layout = Layout(**options)
    with matplotlib.rc_context(files.settings(layout.style)):
        figure = mpl.figure(layout.laid_out(drawing, files.without_formulas))
        figure.draw_without_rendering()
    return figure


def shown(figure):
    """The texts of a figure that are seen, and their sizes."""
    from matplotlib.text import Text

    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return {text.get_text(): text.get_fontsize() for text in found}


def panels(drawing):
    return [panel for group in drawing.groups for panel in group.panels]


@pytest.mark.parametrize(("name", "runs"), EACH, ids=[name for name, _ in EACH])
def test_every_figure_fits_a_column_in_8_point_type(name, runs):
    figure = made(drawn(name, runs()), **PAPER)
    assert figure.get_figwidth() == pytest.approx(3.25)
    assert set(shown(figure).values()) == {8.0}
    widths = [axes.get_position().width * 3.25 for axes in figure.axes if axes.axison]
    assert min(widths) > 0.5


@pytest.mark.parametrize(("width", "inches"), [("column", 3.25), ("page", 6.75), ("5.5", 5.5), (4, 4), (None, None)])
def test_the_width_is_in_inches(width, inches):
    assert Layout(width=width).inches == inches


def test_what_does_not_fit_is_refused_before_anything_is_read(tmp_path):
    names = tmp_path / "names.toml"
    names.write_text("dwf = 3")
    for wrong in [
        *({"width": "narrow"}, {"width": "0"}, {"xlim": "5"}, {"xlim": "5,1"}, {"ylim": "a,b"}, {"ylim": "1,2,3"}),
        *({"style": "pretty"}, {"legend": "left"}, {"names": str(names)}, {"names": str(tmp_path / "none.toml")}),
    ]:
        with pytest.raises(UsageError):
            Layout(**wrong)
    with pytest.raises(UsageError, match="above 0"):
        laid_out(drawn("accuracy", records()), xlim="0,10")


def test_ends_are_those_of_the_first_panels_axis_and_of_all_alike():
    latency = panels(laid_out(drawn("latency", measured_runs()), xlim=(1, 50), ylim=(None, 99)))
    assert {(panel.x.ends, panel.x.label) for panel in latency if panel.x.label == "compression ratio"} == {
        ((1, 50), "compression ratio")
    }
    assert not [panel for panel in latency if "speed-up" in panel.x.label and panel.x.high == 50]
    assert {panel.y.high for panel in latency} == {99}


def test_runs_below_the_axis_that_is_asked_for_are_arrows_and_the_legend_says_so():
    """Runs at CR 2, 10 and 30 have 97.3, 95.7 and 94.6 %."""
    drawing = drawn("accuracy", records(methods=METHODS[:2], seeds=1))
    for options, below in [({}, set()), ({"ylim": "95,"}, {30.0}), ({"ylim": "97,99"}, {10.0, 30.0})]:
        new = laid_out(drawing, **options)
        marks = [mark for panel in panels(new) for mark in panel.marks]
        assert {x for mark in marks if isinstance(mark, Arrows) for x in mark.x} == below
        assert ("below the axis" in [entry.label for entry in new.legend.entries]) == bool(below)


def test_arrows_beyond_the_sides_are_not_drawn():
    points = Points(Ink("#123456", "o"), "", [5, 20], [-1, -1], arrows=True)
    panel = Panel(Axis(low=1, high=10), Axis(low=0, high=1), [points])
    (axes,) = made(Drawing([Group([panel], 1)])).axes
    assert [list(line.get_xdata()) for line in axes.lines if line.get_marker() == mpl.BELOW] == [[5]]


def test_titles():
    alone, several = drawn("accuracy", records()), drawn("accuracy", [*records(), *records(dataset="digits")])
    layers = drawn("layers", records())
    assert [panel.title for panel in panels(laid_out(alone, title="Mine"))] == ["Mine"]
    assert [panel.title for panel in panels(laid_out(several, title="none"))] == ["", ""]
    both = laid_out(several, title="Mine")
    assert (both.title, [panel.title[:6] for panel in panels(both)]) == ("Mine", ["digits", "mnist,"])
    named = laid_out(layers, title="Mine")
    assert (named.groups[0].title, panels(named)[0].title) == ("Mine", "dwf D=2")


def test_long_titles_are_broken_into_lines_that_fit():
    long = "a very long name of a data set, a very long name of a network (100 epochs, 5 seeds)"
    drawing = Drawing([Group([Panel(marks=[Line(Ink("#123456"), "", [1, 2], [1, 2])], title=long)], 1)])
    for style in ("screen", "paper"):
        figure = made(drawing, width="column", style=style)
        (axes,) = figure.axes
        assert axes.title.get_window_extent().width <= figure.bbox.width


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({}, "right"),
        ({"width": "page"}, "right"),
        ({"width": "column"}, "below"),
        ({"legend": "below"}, "below"),
        ({"legend": "inside"}, "inside"),
        ({"legend": "none"}, None),
    ],
)
def test_the_legend_stands_where_there_is_room(options, place):
    drawing = laid_out(drawn("accuracy", records()), **options)
    assert (drawing.place if drawing.legend else None) == place
    figure = mpl.figure(drawing)
    assert len(figure.legends) == (place in ("right", "below"))
    assert (figure.axes[0].get_legend() is not None) == (place == "inside")


def test_a_legend_below_keeps_within_the_figure_and_takes_no_height_from_the_panels():
    entries = [Entry(f"a rather long label {number}", Ink("#123456")) for number in range(9)]
    panel = Panel(marks=[Line(Ink("#123456"), "", [1, 2], [1, 2])])
    drawing = Drawing([Group([panel], 1)], Legend(entries), size=(3.9, 3.2))
    figure, without = made(drawing, width="column"), made(drawing, width="column", legend="none")
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    heights = [each.axes[0].get_window_extent().height for each in (figure, without)]
    assert heights[0] == pytest.approx(heights[1], rel=0.1)


def test_paper_leaves_notes_and_remarks_to_the_caption():
    drawing = drawn("dynamics", records())
    assert laid_out(drawing).notes
    assert laid_out(drawing, style="paper").notes == []
    assert Layout(style="paper").caption(drawing) == list(drawing.notes)
    assert Layout().caption(drawing) == []


# ---------------------------------------------------------------- names


def test_names_are_shown_for_whole_texts_and_for_words_in_them():
    names = {"dwf D=2": "DWF, $D = 2$", "mnist": "MNIST", "lenet": "LeNet", "enet": "never"}
    for dataset, title in [("mnist", "MNIST"), ("fashion-mnist", "fashion-mnist"), ("enets", "enets")]:
        texts = shown(made(drawn("accuracy", records(dataset=dataset)), names=names))
        assert {"DWF, $D = 2$", "dwf D=3", f"{title}, LeNet (2 epochs, 3 seeds)"} <= set(texts)


def test_a_whole_heading_has_a_name_however_long_it_is():
    names = {"mnist, lenet (2 epochs, 3 seeds)": "a"}
    assert "a" in shown(made(drawn("accuracy", records()), names=names, width=1.5))


def test_a_title_is_broken_in_no_formula():
    title = "Accuracy where $a + b + c + d + e$"
    assert shown(made(drawn("accuracy", records()), title=title, width=1.5, legend="none")).keys() & {
        "Accuracy where\n$a + b + c + d + e$"
    }


def test_dollars_of_records_are_no_formulas_and_those_of_names_are(tmp_path):
    run = record("theirs", r"$\frac{1}{0$ and $x$", "compression", {}, 0, 2.0)
    drawing = drawn("accuracy", [run, *records(methods=METHODS[1:2])])
    files.write(drawing, tmp_path / "a.svg", Layout(names={"dwf D=2": r"$\lambda$"}))
    text = (tmp_path / "a.svg").read_text()
    assert r"$\frac{1}{0$ and $x$</text>" in text
    assert ">λ</tspan>" in text


# ---------------------------------------------------------------- files


def test_files_hold_text_as_text(tmp_path):
    drawing = drawn("accuracy", records())
    files.write(drawing, tmp_path / "a.svg", Layout(**PAPER))
    files.write(drawing, tmp_path / "a.pdf", Layout(**PAPER))
    assert "compression ratio</text>" in (tmp_path / "a.svg").read_text()
    fonts = set(re.findall(rb"/Subtype /(Type3|Type1|CIDFontType2|TrueType)", (tmp_path / "a.pdf").read_bytes()))
    assert fonts == {b"CIDFontType2"}  # that is type 42, which journals ask for


def test_what_the_user_has_set_in_a_matplotlibrc_or_here_is_left(tmp_path, monkeypatch):
    file = tmp_path / "matplotlibrc"
    file.write_text("font.size: 8.75\naxes.spines.top: True\n")
    monkeypatch.setattr(matplotlib, "matplotlib_fname", lambda: str(file))
    with (
        matplotlib.rc_context({"font.family": ["DejaVu Serif"]}),
        matplotlib.rc_context(files.settings("paper")),
    ):
        found = [matplotlib.rcParams[name] for name in ("font.size", "axes.spines.top", "font.family")]
        assert found == [8.75, True, ["DejaVu Serif"]]
        assert matplotlib.rcParams["axes.titlesize"] == 8
    assert files.settings("screen")["font.size"] == 8.75


def test_the_backend_of_a_notebook_keeps_no_command_from_drawing(tmp_path):
    from dwfbench.runs.store import Store
    from tests.records import changed

    stored = {"id": "0" * 12, "schema": 1, "thresholds": [], "provenance": {"data_checksum": "c0ffee"}}
    Store(tmp_path).write(changed(record(*METHODS[1], 0, 10.0), **stored), [])
    code = "import os; os.environ['MPLBACKEND'] = 'module://absent'; from dwfbench.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "plot", "--results", tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "accuracy.png").exists()


def test_without_latex_a_pgf_is_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"needs LaTeX: there is no program 'pdflatex'"):
        files.write(drawn("accuracy", records()), tmp_path / "a.pgf")
    assert list(tmp_path.iterdir()) == []


def compiled(folder, body, packages):
    """The PDF that LaTeX makes of a text, as bytes."""
    loaded = "".join(rf"\usepackage{{{package}}}" for package in packages)
    (folder / "main.tex").write_text(rf"\documentclass{{article}}{loaded}\begin{{document}}{body}\end{{document}}")
    words = [TEX, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "main.tex"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    return (folder / "main.pdf").read_bytes()


@needs_tex
def test_a_pgf_is_compiled_by_latex_with_names_that_would_do_harm(tmp_path):
    evil = record("theirs", r"\input{/etc/passwd} 50% & a_b #1 ~ ^ $x", "compression", {}, 0, 2e6)
    drawing = drawn("accuracy", [evil, *records(methods=METHODS[:2])])
    files.write(drawing, tmp_path / "a.pgf", Layout(names={"dwf D=2": r"\textbf{DWF}, $D = 2$"}, **PAPER))
    text = (tmp_path / "a.pgf").read_text()
    assert r"\textbf{DWF}, $D = 2$" in text
    assert r"\input{/" not in text
    assert "10$^{6}$" in text or "$^{6}$" in text
    assert compiled(tmp_path, r"\input{a.pgf}", ["pgf"]).startswith(b"%PDF")


@needs_tex
def test_a_text_that_latex_cannot_set_is_said(tmp_path):
    with pytest.raises(UsageError, match="LaTeX cannot set a text"):
        files.write(drawn("accuracy", records()), tmp_path / "a.pgf", Layout(title=r"\nosuchcommand"))
