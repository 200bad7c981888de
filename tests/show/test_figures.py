"""Figures: right files, equal bytes, nothing hidden; a new one is a new file and nothing else."""

import math
import sys
from pathlib import Path

import pytest

from dwfbench.analysis import dynamics
from dwfbench.analysis.published import published
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.runs.store import Store
from dwfbench.show import drawing, figures, files, mpl, style, vega
from dwfbench.show.figures import accuracy, layers
from tests.deploy.test_measure import measured_runs
from tests.records import changed, fields, plain, typed

METHODS = [
    ("dense", "dense", None, {}),
    ("dwf", "dwf D=2", "strength", {"depth": 2}),
    ("dwf", "dwf D=3", "strength", {"depth": 3}),
    ("random", "random (erk)", "compression", {"distribution": "erk"}),
    ("random", "random (uniform)", "compression", {"distribution": "uniform"}),
    ("theirs", "theirs", "compression", {}),
]


def record(method, label, knob, options, seed, cr, dataset="mnist", accuracy=None):
    misalignment = 1.0 if method == "dwf" else None
    strength, target = (cr * 1e-4, 1.0) if knob == "strength" else (0.0, cr)
    spec = {
        "method": method,
        "dataset": dataset,
        "model": "lenet",
        "seed": seed,
        "epochs": 2,
        "options": options,
    }
    step = {"val_accuracy": 0.5, "compression": cr, "misalignment": misalignment, "norm": misalignment}
    sizes = {"zero": 8, "-7": 1, "-2": 1, "0": 0}
    content = {
        **{"id": f"{label}{seed}{cr}{dataset}", "status": "ok", "label": label, "knob": knob},
        "spec": spec | {"strength": strength, "compression": target},
        "test_accuracy": 0.98 - 0.01 * math.log(cr) if accuracy is None else accuracy,
        "compression": cr,
        "layers": [{"name": "a", "numel": 1000, "nnz": 500}, {"name": "b", "numel": 1000, "nnz": 100 * int(20 / cr)}],
        "history": [{"epoch": 1, **step}, {"epoch": 2, **step}],
        "weights": [{"epoch": 1, "sizes": sizes}, {"epoch": 2, "sizes": sizes}],
    }
    return typed(content)


def records(seeds=3, methods=METHODS, **options):
    return [
        record(*method, seed, cr, **options)
        for method in methods
        for seed in range(seeds)
        for cr in ((1.0,) if method[0] == "dense" else (2.0, 10.0, 30.0))
    ]


NAMES = ("accuracy", "dynamics", "layers", "weights")


@pytest.mark.parametrize("name", ["accuracy", "dynamics"])
def test_a_figure_calls_the_score_of_each_data_set_by_its_name(name, tmp_path):
    own = [changed(run, score="r2", id=f"{run.id}-") for run in records(dataset="sines")]
    alone = texts(name, own, tmp_path)
    assert "r2 (%)" in alone
    assert "accuracy" not in alone
    both = texts(name, [*own, *records()], tmp_path)
    assert "r2 (%)" in both
    assert "accuracy (%)" in both


EACH = pytest.mark.parametrize("name", NAMES)


def drawn(name, runs, **options):
    """What a figure shows of records."""
    figure = figures.figures()[name](**options)
    return figure.draw(figure.frame(ResultSet(runs)))


def texts(name, runs, tmp_path, **options):
    """What is written in a figure: its SVG."""
    files.write(drawn(name, runs, **options), tmp_path / "figure.svg")
    return (tmp_path / "figure.svg").read_text()


def axes(name, runs, **options):
    """The axes of a figure's file."""
    return mpl.figure(drawn(name, runs, **options)).axes


# ---------------------------------------------------------------- the registry

COMMANDS = ("dwfbench.cli.read", "dwfbench.cli.plot")
HOWTO = Path(__file__).parents[2] / "docs" / "adding-a-figure.md"


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """The figure of the how-to, in a file of its own beside those of the package."""
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "seconds.py").write_text(HOWTO.read_text().split("```python\n")[1].split("```")[0])
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path / "planted")])
    for name in COMMANDS:  # imported anew, as in a new process
        sys.modules.pop(name, None)
    yield figures.figures()["seconds"]
    for name in (*COMMANDS, "dwfbench.show.figures.seconds"):
        sys.modules.pop(name, None)


def test_a_figure_with_an_error_keeps_no_other_command_from_its_work(call, tmp_path, monkeypatch):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.py").write_text("this is no Python")
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path / "broken")])
    for name in COMMANDS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(SyntaxError):
        figures.figures()
    run = record(*METHODS[3], 0, 2.0)
    Store(tmp_path).write(
        changed(run, id="0123456789ab", schema=1, thresholds=[], provenance={"data_checksum": "c0ffee"}), []
    )
    assert call("compare", "--results", tmp_path).exit_code == 0
    assert call("claims", "--results", tmp_path).exit_code == 0


def test_the_figures_are_the_files_of_the_folder():
    assert list(figures.figures()) == ["accuracy", "budget", "dynamics", "latency", "layers", "weights"]
    for name, figure in figures.figures().items():
        assert figure.__module__ == f"dwfbench.show.figures.{name}"
        assert figure.summary
        assert figure.__doc__


def test_a_new_figure_is_one_file(planted, call, tmp_path):
    stored = {"id": "0" * 12, "schema": 1, "thresholds": [], "provenance": {"data_checksum": "c0ffee"}}
    Store(tmp_path).write(changed(record(*METHODS[1], 0, 10.0), **stored), [])
    helped = call("plot", "--help").stdout
    assert "seconds     Seconds of runs" in helped
    assert "of seconds: of a point" in helped
    drawn = call("plot", "seconds", "--size", "9", "--results", tmp_path)
    assert (drawn.exit_code, drawn.stdout) == (0, f"{tmp_path / 'seconds.png'}\n")
    everything = call("plot", "all", "--results", tmp_path).stdout.splitlines()
    assert str(tmp_path / "seconds.png") in everything
    assert call("report", "--results", tmp_path).exit_code == 0
    page = (tmp_path / "report.html").read_text()
    assert '<section id="seconds">' in page
    assert "Points are runs: the seconds" in page
    assert "dwfbench plot seconds" in page


def test_an_option_of_another_figure_and_a_value_out_of_range_are_refused(call, tmp_path):
    wrong = call("plot", "layers", "--compression", "10", "--results", tmp_path)
    assert wrong.exit_code == 2
    assert "--compression is an option of weights, not of layers" in wrong.stderr
    assert "at least 1" in call("plot", "weights", "--compression", "0.5", "--results", tmp_path).stderr
    assert "leave it out" in call("plot", "all", "-o", "x.png", "--results", tmp_path).stderr


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_ending_gives_the_format_and_equal_frames_equal_files(ending, magic, tmp_path):
    paths = [tmp_path / "new" / f"{name}.{ending}" for name in "ab"]
    for path in paths:
        files.write(drawn("accuracy", records(seeds=1)), path)
    first, second = (path.read_bytes() for path in paths)
    assert first.startswith(magic)
    assert first == second


@EACH
def test_every_figure_is_the_same_again(name, tmp_path):
    for file in ("a.svg", "b.svg"):
        files.write(drawn(name, records(seeds=1, methods=METHODS[1:2])), tmp_path / file)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf or \.pgf"):
        files.write(drawn("accuracy", records(seeds=1)), tmp_path / "figure.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", figures.figures())
def test_nothing_to_draw_is_a_frame_without_rows(name):
    assert figures.figures()[name]().frame(ResultSet([])).empty


@pytest.mark.filterwarnings("error:constrained_layout", "error:Attempting to set identical")
@EACH
def test_single_points_seeds_and_methods_are_drawn(name, tmp_path):
    files.write(drawn(name, [record(*METHODS[1], 0, 10.0)]), tmp_path / "point.svg")
    runs = records(seeds=2, methods=METHODS[2:4]) + records(seeds=1, methods=METHODS[2:3], dataset="kmnist")
    files.write(drawn(name, runs), tmp_path / "panels.svg")


def test_numbers_and_labels_stand_at_the_outer_panels_only():
    runs = records(seeds=1, methods=[("m", f"m {n}", "compression", {"n": n}) for n in range(6)])
    grid = axes("layers", runs)
    assert [axis.get_xlabel() for axis in grid[:8]] == ["", "", *["compression ratio"] * 4, "", ""]
    assert [axis.get_ylabel() for axis in grid[:8]] == ["density (%)", "", "", "", "density (%)", "", "", ""]


# ---------------------------------------------------------------- accuracy


def test_dense_alone_is_drawn_as_a_line(tmp_path):
    assert ">dense<" in texts("accuracy", records(methods=METHODS[:1]), tmp_path)


def test_accuracy_names_every_curve_and_panel(tmp_path):
    written = texts("accuracy", records() + records(seeds=1, dataset="kmnist"), tmp_path)
    for name in (*(label for _, label, *_ in METHODS), "mnist, lenet (2 epochs, 3 seeds)", "kmnist, lenet"):
        assert name in written
    assert "below the axis" not in written


def test_runs_below_the_axis_are_marked(tmp_path):
    runs = [*records(), record(*METHODS[3], 0, 100.0, accuracy=0.1)]
    assert "below the axis" in texts("accuracy", runs, tmp_path)
    panel = drawing.bounded(drawn("accuracy", runs).groups[0].panels[0])
    (arrows,) = [mark for mark in panel.marks if type(mark) is drawing.Arrows]
    assert list(arrows.x) == [100.0]


def test_arrows_have_the_faces_of_their_curve_s_markers():
    """Or the runs of a variant below the axis would be taken for those of another."""
    arrows = [drawing.Arrows(drawing.Ink("#123456", "o", face), "", [1.5]) for face in (None, "#ffffff")]
    panel = style.settled(drawing.Panel(drawing.Axis(low=1, high=2), drawing.Axis(low=0, high=1), arrows))
    (drawn_axes,) = mpl.figure(drawing.Drawing([drawing.Group([panel], 1)])).axes
    assert [line.get_markerfacecolor() for line in drawn_axes.lines] == ["#123456", "#ffffff"]
    encoding = vega.chart(panel)["spec"]["layer"][0]["encoding"]
    assert encoding["fill"]["scale"]["range"] == [vega.on_both("#123456"), vega.on_both("#ffffff")]


def test_a_band_of_more_than_ten_points_is_left_out():
    apart = [record(*METHODS[3], seed, cr, accuracy=0.9 - 0.2 * seed) for seed in (0, 1) for cr in (2.0, 10.0)]
    near = [record(*METHODS[4], seed, cr, accuracy=0.9 - 0.01 * seed) for seed in (0, 1) for cr in (2.0, 10.0)]
    shown = drawn("accuracy", apart + near, max_gap=6)
    bands = {mark.name: mark for mark in shown.groups[0].panels[0].marks if type(mark) is drawing.Band}
    assert bands["random (erk)"].low.isna().all()
    assert bands["random (uniform)"].low.tolist() == pytest.approx([89.0] * len(bands["random (uniform)"].low))
    assert "wider than 10 points" in shown.legend.remarks[0]


def test_a_band_that_is_not_drawn_needs_no_room():
    apart = [record(*METHODS[3], seed, cr, accuracy=0.9 - 0.2 * seed) for seed in (0, 1, 2) for cr in (2.0, 10.0)]
    assert drawn("accuracy", apart, max_gap=6).groups[0].panels[0].y.high < 92, "the t-interval goes up to 100"


@pytest.mark.parametrize(
    ("asked", "line"), [((2.0, 4.0), True), ((4.0, 8.0), True), ((5.0, 4.0), True), ((5.0, 9.0), False)]
)
def test_a_curve_whose_runs_end_far_from_what_was_asked_is_drawn_by_points(asked, line):
    """Runs at CR 2 and 4: no more than half of them may lie beyond a factor of 2."""
    runs = [record(*METHODS[3], 0, cr) for cr in (2.0, 4.0)]
    runs = [changed(run, spec={"compression": cr}) for run, cr in zip(runs, asked, strict=True)]
    shown = drawn("accuracy", runs)
    marks = shown.groups[0].panels[0].marks
    assert any(type(mark) is drawing.Line for mark in marks) == line
    assert [len(mark.x) for mark in marks if type(mark) is drawing.Points] == [2]
    assert bool(shown.legend.remarks) != line


def sparse(**more):
    """Two runs of one curve, at CR 2 and 10, and a dense one, with other fields."""
    runs = [record(*METHODS[3], 0, cr) for cr in (2.0, 10.0)] + [record(*METHODS[0], 0, 1.0)]
    return [changed(run, **{name: values[place] for name, values in more.items()}) for place, run in enumerate(runs)]


@pytest.mark.parametrize(
    ("axis", "values", "places", "lines"),
    [
        ("compression", {}, [2, 10], True),
        ("effective", {"effective_compression": [2.5, 12.0, 1.0]}, [2.5, 12], True),
        ("effective", {"effective_compression": [2.5, None, 1.0]}, [2.5], True),  # without a path from input to output
        ("macs", {"macs_dense": [100] * 3, "macs_sparse": [50, 20, 100]}, [2, 5], True),
        ("macs", {"macs_dense": [100] * 3, "macs_sparse": [50, 0, 100]}, [2], True),
        ("training-cost", {"seconds": [9.0, 7.0, 5.0]}, [9, 7], False),
    ],
)
def test_accuracy_has_a_choice_of_axes(axis, values, places, lines):
    (panel,) = drawn("accuracy", sparse(**values), axis=axis).groups[0].panels
    assert panel.x.label == accuracy.AXES[axis]
    (points,) = [mark for mark in panel.marks if type(mark) is drawing.Points]
    assert list(points.x) == places
    assert any(type(mark) is drawing.Line for mark in panel.marks) is lines
    assert any(type(mark) is drawing.Rule for mark in panel.marks)


def test_bytes_are_those_of_the_smaller_form():
    figure = accuracy.Accuracy(axis="bytes")
    assert figure.frame(ResultSet(sparse())).empty
    frame = figure.frame(ResultSet(measured_runs()))
    assert frame.set_index("method")["across"].to_dict()["dwf"] == 36_000 / 4_000
    assert "dwfbench measure" in figure.absent()


def test_published_results_are_open_grey_marks_beside_the_runs():
    runs = [changed(run, spec={"model": "lenet-300-100"}) for run in sparse()]
    shown = drawn("accuracy", runs)
    theirs = {mark.name: mark for mark in shown.groups[0].panels[0].marks if "published" in mark.name}
    assert {name: (*mark.x, *mark.y) for name, mark in theirs.items()} == {
        "DNS (published)": (56, pytest.approx(98.01)),
        "IMP (published)": (67, pytest.approx(97.69)),
        "SparseVD (published)": (68, pytest.approx(98.08)),
    }
    assert {mark.ink.face for mark in theirs.values()} == {style.EMPTY}  # and above the runs: neither hides the other
    assert [*theirs] == [mark.name for mark in shown.groups[0].panels[0].marks[-3:]]
    assert len({mark.ink.marker for mark in theirs.values()}) == 3
    panel = shown.groups[0].panels[0]
    assert panel.x.ends[1] > 68
    assert panel.y.ends[1] > 98.08
    assert set(theirs) < {entry.label for entry in shown.legend.entries}
    for other in (drawn("accuracy", runs, published=False), drawn("accuracy", sparse())):
        assert not [entry for entry in other.legend.entries if "published" in entry.label]


def test_every_published_result_has_a_source():
    points = published()
    assert points["source"].str.len().min() > 10
    assert points["accuracy"].between(97, 100).all()


def test_the_texts_of_layers_are_short():
    few = [{"name": "fc.weight", "numel": 1000, "nnz": 21}, {"name": "out.weight", "numel": 10, "nnz": 10}]
    assert accuracy.densities(fields({"layers": few})["layers"]) == "fc 2.1 %, out 100 %"
    many = [{"name": f"l{number}", "numel": 100, "nnz": number} for number in range(1, 8)]
    assert accuracy.densities(fields({"layers": many})["layers"]) == "l1 1 % (thinnest), median 4 %, l7 7 % (densest)"


# ---------------------------------------------------------------- layers


@pytest.mark.slow
def test_layers_leave_dense_out(tmp_path):
    written = texts("layers", records(), tmp_path)
    assert ">dense<" not in written
    assert ">theirs<" in written
    assert ">whole network<" in written


def test_a_layer_without_weights_breaks_its_line_and_is_an_arrow():
    runs = [record(*METHODS[3], 0, cr) for cr in (2.0, 10.0, 30.0)]  # of the second layer 10, 2 and no weights are left
    (panel,) = drawn("layers", runs, max_gap=6).groups[0].panels
    (line,) = [mark for mark in panel.marks if type(mark) is drawing.Line and mark.name == "b"]
    assert line.y == [100, 20, pytest.approx(math.nan, nan_ok=True)]
    assert [list(mark.x) for mark in panel.marks if type(mark) is drawing.Arrows] == [[pytest.approx(30)]]


def test_many_layers_have_a_scale_and_not_a_legend_of_them_all(tmp_path):
    many = [{"name": f"block{i}.weight", "numel": 10, "nnz": 5} for i in range(20)]
    written = texts("layers", [changed(run, layers=many) for run in records(seeds=1)], tmp_path)
    named = [i for i in range(20) if f">block{i}<" in written]
    assert (named[0], named[-1], len(named)) == (0, 19, mpl.NAMED)
    assert ">whole network<" in written
    assert layers.WHOLE.dash


# ---------------------------------------------------------------- dynamics


def test_dynamics_show_methods_with_a_strength_where_there_are_any(tmp_path):
    runs = records(seeds=1, methods=[*METHODS[1:3], METHODS[-1]])
    written = texts("dynamics", runs, tmp_path)
    assert "dwf D=3 (mnist, lenet)" in written
    assert "theirs" not in written
    written = texts("dynamics", records(seeds=1, methods=METHODS[-1:]), tmp_path)
    assert "theirs (mnist, lenet)" in written
    assert "target compression" in written
    assert "misalignment" not in written
    assert "norm" not in written


def test_dynamics_of_dense_alone_have_lines_without_a_legend(tmp_path):
    shown = drawn("dynamics", records(seeds=2, methods=METHODS[:1]))
    (group,) = shown.groups
    assert not group.legend.entries
    assert all(any(type(mark) is drawing.Line for mark in panel.marks) for panel in group.panels)
    files.write(shown, tmp_path / "dense.svg")


def test_dynamics_name_what_a_method_has_none_of(tmp_path):
    lasso = [record("l1", "l1", "strength", {}, 0, cr) for cr in (2.0, 10.0)]
    written = texts("dynamics", records(seeds=1, methods=METHODS[1:2]) + lasso, tmp_path)
    assert "no misalignment" in written


def test_dynamics_say_what_is_left_out_and_name_the_final_compression(tmp_path):
    written = texts("dynamics", records(seeds=1, methods=METHODS[2:3]), tmp_path)
    assert ">0.001  (CR 10)<" in written
    assert ">norm<" in written
    assert "At most" not in written
    assert "over seeds" not in written
    many = [record(*METHODS[2], seed, 2.0**power) for power in range(9) for seed in (0, 1)]
    written = texts("dynamics", many, tmp_path)
    assert written.count("(CR ") == dynamics.STRENGTHS
    assert "At most 6" in written
    assert "over seeds" in written


def test_dynamics_mark_the_first_epoch_with_zeros():
    run = record(*METHODS[1], 0, 4.0)
    history = [step | {"compression": 1.0} for step in plain(run)["history"]]  # as rounded: what was counted decides
    dots = []
    for zeros in (0, 1):
        counted = [{"zero": 0, "-2": 10**7}, {"zero": zeros, "-2": 10**7 - zeros}]
        weights = [{"epoch": epoch, "sizes": sizes} for epoch, sizes in enumerate(counted, 1)]
        (group,) = drawn("dynamics", [changed(run, history=history, weights=weights)]).groups
        dots.append([list(mark.x) for panel in group.panels for mark in panel.marks if type(mark) is drawing.Points])
    assert dots == [[[]] * 4, [[2]] * 4]  # of CR, accuracy, misalignment and norm


def test_long_courses_of_the_accuracy_are_smoothed(tmp_path):
    run = record(*METHODS[1], 0, 4.0)
    run = changed(run, history=[plain(run)["history"][0] | {"epoch": epoch} for epoch in range(1, 181)])
    written = texts("dynamics", [run], tmp_path)
    assert "running mean over 3 recorded epochs" in written


def test_the_first_rise_of_the_accuracy_does_not_set_its_axis():
    run = record(*METHODS[1], 0, 4.0)
    accuracies = [0.1, 0.2, *[0.9] * 17, 0.8]
    first = plain(run)["history"][0]
    history = [first | {"epoch": epoch, "val_accuracy": accuracy} for epoch, accuracy in enumerate(accuracies, 1)]
    assert axes("dynamics", [changed(run, history=history)])[1].get_ylim() == pytest.approx((79.5, 90.5))


# ---------------------------------------------------------------- weights


def test_weights_name_run_epoch_and_share_of_zeros(tmp_path):
    written = texts("weights", records(methods=[METHODS[0], METHODS[2]]), tmp_path, compression=12)
    for text in ("dwf D=3 (mnist, lenet), λ = 0.001, CR 10", "epoch 1 (onset)", "epoch 2<", ">80%<"):
        assert text in written


def test_accuracy_is_drawn_where_no_seed_s_curve_meets_another_s(tmp_path):
    runs = [record(*METHODS[1], seed, ratio) for seed, ratio in ((0, 2.0), (1, 30.0))]
    (group,) = drawn("accuracy", runs).groups
    points = [mark for panel in group.panels for mark in panel.marks if type(mark) is drawing.Points]
    assert sorted(x for mark in points for x in mark.x) == [2.0, 30.0]


def test_weights_of_several_data_sets_name_them_in_every_row(tmp_path):
    runs = [record(*METHODS[2], 0, 10.0, dataset=name) for name in ("mnist", "kmnist")]
    written = texts("weights", runs, tmp_path)
    assert written.count("dwf D=3 (mnist, lenet)") == written.count("dwf D=3 (kmnist, lenet)") == 1


def budgets():
    """Depth 2 and dense with 2, 4 and 8 epochs and two seeds; with 4 epochs there is no run between CR 2 and 9."""
    runs = []
    for epochs in (2, 4, 8):
        ratios = (2.0, 9.0) if epochs == 4 else (2.0, 3.0, 4.0)
        for seed in (0, 1):
            for method, ratio in [*((METHODS[1], ratio) for ratio in ratios), (METHODS[0], 1.0)]:
                run = record(*method, seed, ratio, accuracy=0.8 + 0.01 * epochs + 0.002 * seed)
                runs.append(changed(run, id=f"{run.id} {epochs}", spec={"epochs": epochs}))
    return runs


def test_what_a_compression_costs_by_training_budget():
    (group,) = drawn("budget", budgets(), at="2,3").groups
    assert group.title == "mnist, lenet (2-8 epochs, 2 seeds)"
    drawn_lines = [(panel.title, mark) for panel in group.panels for mark in panel.marks if type(mark) is drawing.Line]
    lines = {(title, mark.name): mark for title, mark in drawn_lines if len(mark.x) == 3}
    nan = pytest.approx(math.nan, nan_ok=True)
    assert list(lines["CR 2", "dwf D=2"].x) == [2, 4, 8]
    assert list(lines["CR 2", "dwf D=2"].y) == pytest.approx([82.1, 84.1, 88.1])
    assert list(lines["CR 3", "dwf D=2"].y) == [pytest.approx(82.1), nan, pytest.approx(88.1)], "nothing is invented"
    assert list(lines["CR 3", "dense"].y) == pytest.approx([82.1, 84.1, 88.1])
    ranges = [mark for title, mark in drawn_lines if (title, mark.name) == ("CR 2", "dwf D=2") and len(mark.x) == 2]
    assert [(*mark.x, mark.y[1] - mark.y[0]) for mark in ranges] == [(e, e, pytest.approx(0.2)) for e in (2, 4, 8)]
    luck = [run for run in budgets() if run.spec.epochs < 8 or run.spec.seed == 0 or run.spec.method == "dense"]
    assert len(luck) < len(budgets())
    lost = [
        changed(run, id=f"{run.id} {seed}", compression=50.0, spec={"seed": seed})
        for run in budgets()
        for seed in (7, 8)
        if run.spec.epochs == 8 and run.spec.seed == 0 and run.compression == 2
    ]
    (of_luck,) = drawn("budget", luck + lost, at="2").groups
    assert of_luck.title == "mnist, lenet (2-8 epochs, 2-3 seeds)"
    (one,) = of_luck.panels
    (line,) = (mark for mark in one.marks if mark.name == "dwf D=2" and len(mark.x) == 3)
    assert list(line.y) == [pytest.approx(82.1), pytest.approx(84.1), nan], "of three seeds one says it"
    assert figures.figures()["budget"]().frame(ResultSet(records())).empty, "one budget is no course"
    other = [changed(run, id=f"{run.id}!", spec={"lr": 7.0}, test_accuracy=0.5) for run in budgets()]
    both = figures.figures()["budget"](at="2").frame(ResultSet([*budgets(), *other]))
    assert both.groupby("label")["accuracy"].max().round(1).to_dict() == {
        "dense (lr=0.1)": 88.2, "dense (lr=7.0)": 50.0, "dwf D=2 (lr=0.1)": 88.2, "dwf D=2 (lr=7.0)": 50.0
    }  # fmt: skip
    inks = [entry.ink for entry in figures.figures()["budget"](at="2").draw(both).legend.entries]
    assert len(set(inks)) == len(inks) == 4
    with pytest.raises(UsageError, match="compression ratios of at least 1"):
        drawn("budget", budgets(), at="0.5")
