"""The looks of curves: owned by the methods, read without torch, all different in a figure, and steady."""

import itertools
import subprocess
import sys
from importlib.metadata import EntryPoint

import pandas as pd
import pytest

from dwfbench.base import plugins
from dwfbench.methods import registry
from dwfbench.show import looks, style, vega

METHODS = sorted(registry.installed())
PLUGIN = """
import torch_that_is_not_there
from dwfbench.method import Method

class Theirs(Method):
    look = {look}
"""


def frame(*rows):
    """Of (method, label) or (method, label, depth)."""
    return pd.DataFrame([(*row, float("nan"))[:3] for row in rows], columns=["method", "label", "depth"])


def drawn(*rows):
    return {label: (ink.colour, ink.marker, ink.face, ink.dash) for label, ink in looks.inks(frame(*rows)).items()}


def everything():
    """All methods, DWF at its depths, L1 in its forms."""
    dwf = [("dwf", f"dwf D={depth}", depth) for depth in range(2, 8)]
    lasso = [("l1", "l1"), ("l1", "l1 (proximal)"), ("l1", "l1 (threshold=0.01)")]
    return [*dwf, *lasso, *((name, name) for name in METHODS if name not in ("dwf", "l1"))]


def test_all_curves_look_different():
    curves = drawn(*everything())
    assert len(curves) == len(everything())
    assert len(set(curves.values())) == len(curves)


def test_all_methods_differ_in_colour_and_marker():
    found = looks.of_methods(METHODS)
    assert all(found[name] == looks.look_of(registry.installed()[name]) for name in METHODS)  # none had to give way
    pairs = [(colour, look.marker) for look in found.values() for colour in look.colours]
    assert len(set(pairs)) == len(pairs) == len(METHODS) + 3  # DWF has four colours


@pytest.mark.parametrize("name", METHODS)
def test_the_look_that_is_read_is_that_of_the_class(name):
    said = registry.load(name).look
    colours = (said[0],) if isinstance(said[0], str) else said[0]
    assert looks.look_of(registry.installed()[name]) == looks.Look(colours, said[1])


def test_no_torch_is_needed():
    code = (
        "import sys, pandas as pd; from dwfbench.show import looks; "
        "looks.inks(pd.DataFrame({'method': ['dwf', 'l1'], 'label': ['dwf', 'l1']})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_dwf_comes_first_and_dense_last():
    assert list(drawn(("dense", "dense"), ("snip", "snip"), ("dwf", "dwf D=3", 3), ("dwf", "dwf D=2", 2))) == [
        *("dwf D=2", "dwf D=3", "snip", "dense")
    ]


def test_a_look_does_not_depend_on_who_else_is_drawn():
    rows = [*everything(), ("theirs", "theirs"), ("others", "others")]
    together = drawn(*rows)
    for row in rows:
        if row[0] != "l1" and row[2:] not in ((6,), (7,)):  # variants of one colour count among themselves
            assert drawn(row)[row[1]] == together[row[1]], row


def test_spare_looks_are_nobodys():
    owned = {(colour, look.marker) for look in looks.of_methods(METHODS).values() for colour in look.colours}
    spare = {(look.colours[0], look.marker) for look in looks.SPARE}
    assert len(spare) == len(looks.SPARE)
    assert not owned & spare


def test_methods_that_are_not_installed_differ_from_all_others():
    unknown = [(f"method {number}", f"method {number}") for number in range(len(looks.SPARE))]
    curves = drawn(*everything(), *unknown)
    assert len(set(curves.values())) == len(curves)


def test_a_clash_moves_the_later_name_only():
    first = looks.of_methods(["a0"])["a0"]
    same = next(f"b{n}" for n in itertools.count() if looks.of_methods([f"b{n}"])[f"b{n}"] == first)
    both = looks.of_methods([same, "a0"])
    assert both["a0"] == first
    assert both[same] != first


def test_twelve_variants_of_a_method_differ_and_the_points_of_three():
    curves = list(drawn(*(("snip", f"snip (samples={number:02d})") for number in range(12))).values())
    assert len(set(curves)) == 12
    assert len({(colour, marker) for colour, marker, *_ in curves}) == 1
    assert len({face for _, _, face, _ in curves[:3]}) == 3, "also where no line is drawn between them"


def test_dense_training_in_six_budgets_has_six_lines():
    inks = looks.inks(frame(*(("dense", f"dense (epochs={epochs})") for epochs in (15, 30, 60, 120, 240, 480))))
    assert len({(ink.dash, ink.width) for ink in inks.values()}) == 6, "a line has no face"


# ---------------------------------------------------------------- plug-ins


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Makes the entry point of a method of a package that cannot be imported, with the look that is given."""

    def make(look, place="theirs_method.py", name="theirs"):
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.write_text(PLUGIN.format(look=look))
        point = EntryPoint(name, f"{place.removesuffix('.py').replace('/', '.')}:Theirs", plugins.GROUPS["method"])
        known = {**plugins.find("method")[0], name: point}
        monkeypatch.setattr(plugins, "find", lambda role: (known, {}))
        return point

    monkeypatch.syspath_prepend(tmp_path)
    return make


def test_a_plugin_has_its_own_look_and_is_not_imported(plugin, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("raise RuntimeError('imported')")
    point = plugin('("#123456", "D")', "package/method.py")
    assert looks.look_of(point) == looks.Look(("#123456",), "D")
    assert looks.of_methods(["theirs"])["theirs"].colours == ("#123456",)


@pytest.mark.parametrize("name", ["a", "theirs"])
def test_a_plugin_gives_way_to_a_method_of_ours_that_has_the_same_look(plugin, name):
    plugin('("#e69f00", "s")', name=name)
    assert looks.of_methods([name])[name] == looks.Look(("#e69f00",), "s")
    both = looks.of_methods([name, "l1"])
    assert both["l1"] == looks.Look(("#e69f00",), "s")
    assert both[name] in looks.SPARE


@pytest.mark.parametrize(
    "look",
    [
        *("()", "None", "3", '"#123456"', '("red", "o")', '("#123456", "?")', '("#12345g", "o")', '((), "o")'),
        *('("#123456", 1)', '(("#123456", 1), "o")', '("#123456", "o", 1)', "chosen()", "(", "\x00"),
    ],
)
def test_what_cannot_be_drawn_is_a_spare_look(plugin, look):
    assert looks.look_of(plugin(look)) is None
    assert looks.of_methods(["theirs"])["theirs"] in looks.SPARE


def test_a_module_that_is_not_there_is_a_spare_look():
    assert looks.look_of(EntryPoint("gone", "no_such_package.method:Gone", "dwfbench.methods")) is None


# ---------------------------------------------------------------- colours and numbers


def test_every_line_is_seen_on_a_dark_page_and_no_two_become_one():
    """Contrast of at least 3, as WCAG asks of graphics."""
    owned = {colour for look in looks.of_methods(METHODS).values() for colour in look.colours}
    dark = {colour: vega.on_both(colour).split(",")[1].rstrip(")") for colour in owned}
    assert len(set(dark.values())) == len(dark)
    scales = [*style.shades("viridis", 5), *style.shades("plasma", 12), *(look.colours[0] for look in looks.SPARE)]
    for colour in [*dark.values(), *map(style.on_dark, scales), style.on_dark("#000080"), style.on_dark("#010101")]:
        assert style.contrast(colour, style.DARK_PAGE) >= 3, colour


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0.9, 60, 9, [1, 2, 5, 10, 20, 50]),
        (0.9, 6000, 5, [1, 10, 100, 1000]),
        (1e-12, 1e4, 5, [1e-12, 1e-8, 1e-4, 1, 1e4]),
        (52, 118, 9, [60, 70, 80, 90, 100]),
        (3.1, 3.9, 9, [3.5]),
        (12, 80, 1, [20]),
    ],
)
def test_ticks(low, high, most, expected):
    assert style.ticks(low, high, most) == pytest.approx(expected)


def test_numbers_on_axes():
    values = (1e-6, 0.00012, 0.001, 0.5, 20, 10_000, 1e6, 2e7, 1e300, 0)
    texts = ["10⁻⁶", "1.2·10⁻⁴", "0.001", "0.5", "20", "10000", "10⁶", "2·10⁷", "10³⁰⁰", "0"]
    assert [style.number(value) for value in values] == texts
