"""Results as a notebook has them: frames, and figures on axes that are the reader's to change."""

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes

import dwfbench
from dwfbench.base.errors import UsageError
from dwfbench.show.notebook import Results
from tests.show.test_figures import METHODS, records

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def _closed():
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


def test_the_package_shows_its_interface():
    functions = {"factorize", "param_groups", "collapse", "misalignment", "init_statistics", "decay_budget"}
    assert {"open", "sparsity_report", "dwf", "sparsity", "__version__"} | functions <= set(dir(dwfbench))
    assert "import_module" not in dir(dwfbench)
    assert all(hasattr(dwfbench, name) for name in dir(dwfbench))


def test_results_say_what_they_are():
    assert repr(Results(records())) == "dwfbench results: 48 runs of 6 curves; mnist, lenet (2 epochs, 3 seeds)"
    assert repr(Results([])) == "dwfbench results: 0 runs of 0 curves; empty"
    assert type(Results(records()).only(method=["dwf"])) is Results


def test_one_panel_is_axes_and_several_are_an_array():
    import matplotlib.pyplot as plt

    axes = Results(records()).plot(width="column", xlim=(1, 50), names={"dwf D=2": "two"})
    assert isinstance(axes, Axes)
    assert (axes.figure.get_figwidth(), axes.get_xlim()) == (3.25, (1, 50))
    assert "two" in [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert plt.gcf() is axes.figure  # which a notebook shows
    several = Results([*records(), *records(dataset="kmnist")]).plot("accuracy")
    assert [type(each) for each in several] == [Axes, Axes]
    assert isinstance(several, np.ndarray)


def test_options_are_those_of_the_figure():
    results = Results(records(methods=METHODS[3:4], seeds=1))
    near, far = (results.plot(max_gap=gap) for gap in (2, 6))
    assert [
        any(line.get_linestyle() != "None" and np.isfinite(line.get_ydata()).sum() > 3 for line in each.lines)
        for each in (near, far)
    ] == [False, True]


def test_a_file_is_written_as_the_command_writes_it(tmp_path):
    Results(records()).plot(output=tmp_path / "a.pdf", style="paper")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("words", "options", "sentence"),
    [
        (["acuracy"], {}, "There is no figure 'acuracy'; did you mean accuracy?"),
        (["accuracy"], {"wdth": 3}, "There is no option 'wdth' of accuracy; did you mean width?"),
        (["accuracy"], {"width": "wide"}, "--width must be column, page or inches"),
        (["latency"], {}, "No finished run was measured"),
    ],
)
def test_what_does_not_fit_is_said(words, options, sentence):
    with pytest.raises(UsageError) as error:
        Results(records()).plot(*words, **options)
    assert sentence in str(error.value)


def test_what_is_set_in_the_notebook_is_left():
    with matplotlib.rc_context({"font.size": 6.5}):
        axes = Results(records()).plot()
    assert axes.xaxis.label.get_fontsize() == 6.5
    assert axes.title.get_fontsize() == 9
