"""Tables as texts for papers: chosen columns, names, marks of the best, headings, captions; LaTeX compiles them."""

import json

import pytest

from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.runs.store import Store
from dwfbench.show import comparison, tables, typeset
from dwfbench.show.typeset import Sheet
from tests.analysis.test_curves import curve, dense, panel, record
from tests.records import changed
from tests.show.test_layout import compiled, needs_tex

ROWS = [
    ["Dataset", "Model", "Method", "Runs", "CR 2", "CR 10", "CR@-1pt", "Area CR 2-10"],
    ["mnist", "lenet", "dwf D=2", "3", "97.00", "-", ">=5", "90.00"],
    ["mnist", "lenet", "a_b", "3", "-1.00", "95.00", "4", "91.00"],
]


def text(format="latex", rows=ROWS, marks=None, groups=tables.GROUPS, **options):
    return typeset.text(rows, format, Sheet(**options), marks, groups)


def lines(*args, **options):
    return text(*args, **options).splitlines()


def test_columns_are_chosen_in_the_order_asked_for():
    assert lines("table", columns="area, Method,CR 10") == [
        "Area CR 2-10  Method   CR 10",
        "       90.00  dwf D=2      -",
        "       91.00  a_b      95.00",
    ]
    with pytest.raises(UsageError, match=r"no column 'CR 1'; did you mean CR 1?0?.* Choose one of Dataset, .*Area\."):
        text("table", columns="CR 1")


def test_machine_formats_keep_what_belongs_to_a_chosen_column():
    table = tables.compare(ResultSet(panel()), tables.Question(at=[2, 8]))
    rows = json.loads(tables.render(table, "json", sheet=Sheet(columns="Method,CR 8")))
    assert list(rows[0]) == ["Method", "CR 8", "CR 8 ci95", "CR 8 n", "CR 8 seeds"]
    assert tables.render(table, "csv", sheet=Sheet(columns="Method,CR 8")).splitlines()[0] == ",".join(rows[0])


def test_a_table_of_one_panel_has_headings_that_columns_share():
    assert lines() == [
        "% mnist, lenet",
        r"\begin{tabular}{lrrrrr}",
        r"\toprule",
        r" &  & \multicolumn{2}{c}{accuracy (\%) at CR} & \multicolumn{1}{c}{largest CR within (points)} &  \\",
        r"\cmidrule(lr){3-4} \cmidrule(lr){5-5}",
        r"Method & Runs & 2 & 10 & 1 & Area CR 2-10 \\",
        r"\midrule",
        r"dwf D=2 & 3 & 97.00 & - & $\geq$5 & 90.00 \\",
        r"a\_b & 3 & $-$1.00 & 95.00 & 4 & 91.00 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_without_such_columns_there_is_one_line_of_titles():
    assert lines(columns="Method,Runs")[2:6] == [r"\toprule", r"Method & Runs \\", r"\midrule", r"dwf D=2 & 3 \\"]


def test_several_panels_have_headings_between_their_rows_whatever_the_columns():
    rows = [*ROWS, ["kmnist", "le#net", "c", *ROWS[1][3:]]]
    for options in ({}, {"columns": "Method,CR 2"}):
        found = lines(rows=rows, **options)
        width = 2 if options else 6
        assert [line for line in found if r"\textit" in line] == [
            rf"\multicolumn{{{width}}}{{l}}{{\textit{{{heading}}}}} \\"
            for heading in ("mnist, lenet", r"kmnist, le\#net")
        ]
        assert found.count(r"\midrule") == 2
    assert "Dataset & Method" in text(rows=rows, columns="Dataset,Method")


def test_names_stand_for_those_of_records_and_may_hold_formulas():
    names = {"dwf D=2": "DWF, $D = 2$", "a": "never", "mnist": "MNIST"}
    assert "DWF, $D = 2$ & 3" in text(names=names)
    assert "% MNIST, lenet" in text(names=names)
    assert r"a\_b & 3" in text(names=names)
    assert "| DWF, $D = 2$ |" in text("markdown", names=names)


def test_marks_follow_their_cells():
    marks = {(0, "CR 2"): "bold", (1, "Area"): "italic"}
    assert r"\textbf{97.00}" in text(marks=marks)
    assert r"\textit{91.00}" in text(marks=marks)
    assert lines("table", marks=marks, columns="Method,CR 2") == [
        "Method      CR 2",
        "dwf D=2  97.00 *",
        "a_b        -1.00",
    ]
    assert "**97.00**" in text("markdown", marks=marks)
    assert " *91.00* |" in text("markdown", marks=marks)


def test_a_caption_and_a_label_make_a_table_of_it():
    found = lines(caption=r"Of \emph{ours}.", label="tab:a")
    assert found[:4] == [r"\begin{table}", r"\centering", r"\caption{Of \emph{ours}.}", r"\label{tab:a}"]
    assert found[-1] == r"\end{table}"


def test_a_label_alone_has_a_caption_that_says_what_the_columns_show():
    sentences = ["mnist, lenet.", "± is 95 %. CR@-Xpt: the CR. Area: a mean."]
    assert typeset.captioned(Sheet(label="a"), sentences).caption == (
        r"mnist, lenet. $\pm$ is 95 \%. CR within X: the CR. Area: a mean."
    )
    assert (
        typeset.captioned(Sheet(label="a", columns="Method,CR 2"), sentences).caption
        == r"mnist, lenet. $\pm$ is 95 \%."
    )
    assert typeset.captioned(Sheet(label="a", caption="mine"), sentences).caption == "mine"
    assert typeset.captioned(Sheet(), sentences).caption is None


# --- the best


def rivals():
    """At CR 2 grasp is above snip with every seed, at CR 4 by chance only; l1 has one seed of three."""
    runs = []
    for seed, (above, around) in enumerate([(2, -1), (2.1, 0.1), (2.2, 1)]):
        runs += curve([(2, 90 + seed), (4, 80)], seed=seed)
        runs += curve([(2, 90 + seed + above), (4, 80 + around)], label="grasp", method="grasp", seed=seed)
    return [*runs, *curve([(2, 99), (4, 70)], label="l1", method="l1"), dense(99.5)]


def marked(made, column):
    """The marks in a column, by the methods that have one."""
    found = tables.marks(made.table, made.best)
    return {made.table.loc[row, "Method"]: look for (row, name), look in found.items() if name == column}


def test_the_best_of_a_column_is_bold_and_what_is_level_with_it_italic():
    made = comparison.compare(ResultSet(rivals()), tables.Question(at=(2, 4), tolerances=(8,)))
    assert marked(made, "CR 2") == {"grasp": "bold", "l1": "italic"}
    assert marked(made, "CR 4") == {"grasp": "bold", "snip": "italic", "l1": "italic"}
    assert marked(made, "CR@-8pt") == {"grasp": "bold"}, "l1 reaches further, with one seed of three"
    assert marked(made, "CR 2 ci95") == {}


def test_there_is_a_best_of_every_data_set_and_budget():
    elsewhere = [changed(run, id=f"k{run.id}", spec={"dataset": "kmnist"}) for run in panel()]
    made = comparison.compare(ResultSet([*panel(), *elsewhere, record(2, 50, epochs=9)]), tables.Question(at=(2,)))
    looks = tables.marks(made.table, made.best)
    places = {
        tuple(made.table.loc[row, ["Dataset", "Epochs"]]) for (row, name), look in looks.items() if name == "CR 2"
    }
    assert places == {("kmnist", 60), ("mnist", 9), ("mnist", 60)}
    assert list(looks.values()).count("bold") >= 3


def test_the_largest_lead_of_the_most_seeds_is_bold():
    made = comparison.versus(ResultSet(rivals()), "snip", tables.Question(at=(2, 4)))
    assert marked(made, "CR 2") == {"grasp": "bold"}
    behind = comparison.versus(ResultSet(rivals()), "grasp", tables.Question(at=(2,)))
    assert marked(behind, "CR 2") == {}, "l1 leads with one seed of three, and snip does not"


def test_no_lower_bound_loses_to_a_number():
    """The curve of one seed of snip never falls out of the tolerance: how far it would reach nobody knows."""
    l1 = curve([(2, 99), (4, 98.2), (8, 97)], label="l1", method="l1")
    made = comparison.compare(
        ResultSet([*curve([(2, 99), (3, 98.5)]), *l1, dense(99.5)]), tables.Question(at=(2,), tolerances=(0.9, 2))
    )
    assert marked(made, "CR@-0.9pt") == {"l1": "bold"}
    assert marked(made, "CR@-2pt") == {}


def test_a_lower_bound_beats_a_number_that_is_equal_and_two_bounds_beat_no_other():
    """Grasp falls below 97.5 at CR 4 exactly, where snip's last run is still within."""
    grasp = curve([(2, 99), (4, 97.5), (8, 90)], label="grasp", method="grasp")
    runs = [*curve([(2, 99), (4, 98)]), *grasp, dense(99.5)]
    made = comparison.compare(ResultSet(runs), tables.Question(at=(2,), tolerances=(2,)))
    assert made.table.set_index("Method")["CR@-2pt"][["snip", "grasp"]].to_list() == pytest.approx([4, 4])
    assert marked(made, "CR@-2pt") == {"snip": "bold"}
    more = [*runs, *curve([(2, 99), (4, 98)], label="l1", method="l1")]
    bounds = comparison.compare(ResultSet(more), tables.Question(at=(2,), tolerances=(2,)))
    assert marked(bounds, "CR@-2pt") == {}


def test_no_number_beats_one_that_lies_in_a_hole():
    """Of l1 nobody knows where between CR 10 and 30 it falls out of the tolerance."""
    l1 = curve([(2, 99), (10, 98.5), (30, 90)], label="l1", method="l1")
    runs = [*curve([(2, 99), (4, 97)]), *l1, dense(99.5)]
    made = comparison.compare(ResultSet(runs), tables.Question(at=(2,), tolerances=(1.5, 12)))
    assert marked(made, "CR@-1.5pt") == {}
    wide = comparison.compare(ResultSet(runs), tables.Question(at=(2,), tolerances=(1.5,), max_gap=3))
    assert marked(wide, "CR@-1.5pt") == {"l1": "bold"}


# --- the commands


@pytest.fixture
def stored(tmp_path, call):
    evil = curve([(2, 90)], label=r"\input{/etc/passwd} #1_a & b%", method="x", seed=7)
    for number, run in enumerate([*rivals(), *evil]):
        Store(tmp_path).write(changed(run, id=f"{number:012x}"), [])
    return lambda *words: call(*words, "--results", tmp_path)


def test_the_command_marks_and_says_what_the_marks_mean(stored):
    shown = stored("compare", "--at", "2,4", "--best", "bold", "--columns", "Method,CR 2")
    assert shown.exit_code == 0
    assert "~: not told apart" in shown.stdout
    assert " *\n" in shown.stdout
    plain = stored("compare", "--at", "2,4")
    assert "told apart from it (the" not in plain.stdout
    assert "* " not in plain.stdout.splitlines()[1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--label", "a"), "--label is of a LaTeX table"),
        (("--best", "red"), "--best must be one of none, bold"),
        (("--columns", "CR 7"), "There is no column 'CR 7'"),
        (("--names", "none.toml"), "The names in none.toml cannot be read"),
    ],
)
def test_what_does_not_fit_is_one_sentence(stored, words, sentence):
    shown = stored("compare", "--at", "2,4", *words)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert sentence in shown.stderr


@needs_tex
@pytest.mark.parametrize(
    "words", [("compare", "--at", "2,4", "--best", "bold"), ("claims",), ("compare", "--versus", "snip")]
)
def test_latex_compiles_what_the_commands_write(stored, tmp_path, words):
    table = stored(*words, "--format", "latex", "--label", "tab:a").stdout
    assert r"\caption{" in table
    assert compiled(tmp_path, rf"Table~\ref{{tab:a}} {table}", ["booktabs"]).startswith(b"%PDF")
