"""Figures: right files, equal bytes, steady styles, nothing hidden."""

import math

import pytest

from dwfbench.analysis import dynamics
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.show import figures as plots
from tests.records import changed, plain, typed

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
        "layers": [{"name": "a", "numel": 10, "nnz": 5}, {"name": "b", "numel": 10, "nnz": int(20 / cr)}],
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


FIGURES = [
    (plots.accuracy, lambda runs: ResultSet(runs).runs),
    (plots.layers, lambda runs: ResultSet(runs).layers),
    (plots.dynamics, lambda runs: ResultSet(runs).history),
    (plots.weights, lambda runs: ResultSet(runs).weights()),
]
EACH_FIGURE = pytest.mark.parametrize(("draw", "tidy"), FIGURES, ids=["accuracy", "layers", "dynamics", "weights"])


def texts(draw, frame, tmp_path, monkeypatch, **options):
    """What is written in a figure: its SVG with letters instead of outlines."""
    monkeypatch.setitem(plots.RC, "svg.fonttype", "none")
    draw(frame, tmp_path / "figure.svg", **options)
    return (tmp_path / "figure.svg").read_text()


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_ending_gives_the_format_and_equal_frames_equal_files(ending, magic, tmp_path):
    paths = [tmp_path / "new" / f"{name}.{ending}" for name in "ab"]
    for path in paths:
        plots.accuracy(ResultSet(records(seeds=1)).runs, path)
    first, second = (path.read_bytes() for path in paths)
    assert first.startswith(magic)
    assert first == second


@EACH_FIGURE
def test_every_figure_is_the_same_again(draw, tidy, tmp_path):
    for name in ("a.svg", "b.svg"):
        draw(tidy(records(seeds=1, methods=METHODS[1:2])), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@EACH_FIGURE
def test_other_endings_and_empty_frames_are_refused(draw, tidy, tmp_path):
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.pdf"):
        draw(tidy(records(seeds=1)), tmp_path / "figure.jpg")
    with pytest.raises(UsageError, match="nothing to plot"):
        draw(tidy([]), tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("error:constrained_layout", "error:Attempting to set identical")
@EACH_FIGURE
def test_single_points_seeds_and_methods_are_drawn(draw, tidy, tmp_path):
    draw(tidy([record(*METHODS[1], 0, 10.0)]), tmp_path / "point.svg")
    runs = records(seeds=2, methods=METHODS[2:4]) + records(seeds=1, methods=METHODS[2:3], dataset="kmnist")
    draw(tidy(runs), tmp_path / "panels.svg")


def test_dense_alone_is_drawn_as_a_line(tmp_path, monkeypatch):
    written = texts(plots.accuracy, ResultSet(records(methods=METHODS[:1])).runs, tmp_path, monkeypatch)
    assert ">dense<" in written


def test_accuracy_names_every_curve_and_panel(tmp_path, monkeypatch):
    runs = records() + records(seeds=1, dataset="kmnist")
    written = texts(plots.accuracy, ResultSet(runs).runs, tmp_path, monkeypatch)
    for name in (*(label for _, label, *_ in METHODS), "mnist, lenet (2 epochs, 3 seeds)", "kmnist, lenet"):
        assert name in written
    assert "below the axis" not in written


def test_runs_below_the_axis_are_marked(tmp_path, monkeypatch):
    runs = [*records(), record(*METHODS[3], 0, 100.0, accuracy=0.1)]
    assert "below the axis" in texts(plots.accuracy, ResultSet(runs).runs, tmp_path, monkeypatch)


def test_styles_do_not_depend_on_what_else_is_drawn():
    everything = plots.line_styles(ResultSet(records()).runs)
    assert list(everything) == ["dwf D=2", "dwf D=3", "random (erk)", "random (uniform)", "theirs", "dense"]
    for method in METHODS:
        alone = plots.line_styles(ResultSet(records(methods=[method])).runs)[method[1]]
        assert alone["color"] == everything[method[1]]["color"]
        assert alone["marker"] == everything[method[1]]["marker"]


def test_variants_share_colour_and_marker_but_not_the_line():
    styles = plots.line_styles(ResultSet(records()).runs)
    erk, uniform = styles["random (erk)"], styles["random (uniform)"]
    assert (erk["color"], erk["marker"]) == (uniform["color"], uniform["marker"])
    assert erk["linestyle"] != uniform["linestyle"]
    assert styles["dwf D=2"]["color"] != styles["dwf D=3"]["color"]
    assert len({style["color"] for style in styles.values()}) == 5


def test_layers_leave_dense_out(tmp_path, monkeypatch):
    written = texts(plots.layers, ResultSet(records()).layers, tmp_path, monkeypatch)
    assert ">dense<" not in written
    assert ">theirs<" in written
    assert ">whole network<" in written


def test_dynamics_show_methods_with_a_strength_unless_told(tmp_path, monkeypatch):
    frame = ResultSet(records(seeds=1, methods=[*METHODS[1:3], METHODS[-1]])).history
    written = texts(plots.dynamics, frame, tmp_path, monkeypatch)
    assert "dwf D=3 (mnist, lenet)" in written
    assert "theirs" not in written
    written = texts(plots.dynamics, frame, tmp_path, monkeypatch, labels=["dwf D=2", "theirs"])
    assert "no misalignment" in written
    assert "target compression" in written
    written = texts(plots.dynamics, frame, tmp_path, monkeypatch, labels=["theirs"])
    assert "misalignment" not in written
    assert "norm" not in written


def test_dynamics_say_what_is_left_out_and_name_the_final_compression(tmp_path, monkeypatch):
    few = ResultSet(records(seeds=1, methods=METHODS[2:3])).history
    written = texts(plots.dynamics, few, tmp_path, monkeypatch)
    assert ">0.001  (CR 10)<" in written
    assert ">norm<" in written
    assert "At most" not in written
    assert "over seeds" not in written
    many = ResultSet([record(*METHODS[2], seed, 2.0**power) for power in range(9) for seed in (0, 1)]).history
    written = texts(plots.dynamics, many, tmp_path, monkeypatch)
    assert written.count("(CR ") == dynamics.STRENGTHS
    assert "At most 6" in written
    assert "over seeds" in written


def test_dynamics_mark_the_first_epoch_with_zeros(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots.Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    run = record(*METHODS[1], 0, 4.0)
    history = [step | {"compression": 1.0} for step in plain(run)["history"]]  # as rounded: what was counted decides
    for zeros in (0, 1):
        counted = [{"zero": 0, "-2": 10**7}, {"zero": zeros, "-2": 10**7 - zeros}]
        weights = [{"epoch": epoch, "sizes": sizes} for epoch, sizes in enumerate(counted, 1)]
        plots.dynamics(ResultSet([changed(run, history=history, weights=weights)]).history, tmp_path / "figure.svg")
    dots = [[list(line.get_xdata()) for axis in figure.axes for line in axis.lines[1:]] for figure in figures]
    assert dots == [[[]] * 4, [[2]] * 4]  # of CR, accuracy, misalignment and norm


def test_long_courses_of_the_accuracy_are_smoothed(tmp_path, monkeypatch):
    run = record(*METHODS[1], 0, 4.0)
    run = changed(run, history=[plain(run)["history"][0] | {"epoch": epoch} for epoch in range(1, 181)])
    written = texts(plots.dynamics, ResultSet([run]).history, tmp_path, monkeypatch)
    assert "running mean over 3 recorded epochs" in written


def test_the_first_rise_of_the_accuracy_does_not_set_its_axis(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots.Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    run = record(*METHODS[1], 0, 4.0)
    accuracies = [0.1, 0.2, *[0.9] * 17, 0.8]
    first = plain(run)["history"][0]
    history = [first | {"epoch": epoch, "val_accuracy": accuracy} for epoch, accuracy in enumerate(accuracies, 1)]
    plots.dynamics(ResultSet([changed(run, history=history)]).history, tmp_path / "figure.svg")
    assert figures[0].axes[1].get_ylim() == pytest.approx((79.5, 90.5))


def test_weights_name_run_epoch_and_share_of_zeros(tmp_path, monkeypatch):
    frame = ResultSet(records(methods=[METHODS[0], METHODS[2]])).weights(compression=12)
    written = texts(plots.weights, frame, tmp_path, monkeypatch)
    for text in ("dwf D=3", "λ = 0.001, CR 10", "epoch 1 (onset)", "epoch 2<", ">80%<", ">mnist, lenet<"):
        assert text in written


def test_weights_of_several_data_sets_name_them_in_every_row(tmp_path, monkeypatch):
    runs = [record(*METHODS[2], 0, 10.0, dataset=name) for name in ("mnist", "kmnist")]
    written = texts(plots.weights, ResultSet(runs).weights(), tmp_path, monkeypatch)
    assert written.count(">dwf D=3<") == written.count("mnist<") == 2


def test_many_layers_have_a_scale_and_not_a_legend_of_them_all(tmp_path, monkeypatch):
    layers = [{"name": f"block{i}.weight", "numel": 10, "nnz": 5} for i in range(20)]
    runs = [changed(run, layers=layers) for run in records(seeds=1)]
    written = texts(plots.layers, ResultSet(runs).layers, tmp_path, monkeypatch)
    named = [i for i in range(20) if f">block{i}<" in written]
    assert (named[0], named[-1], len(named)) == (0, 19, plots.LEGEND_LAYERS)
    assert ">whole network<" in written
