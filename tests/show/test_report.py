"""The report: one safe file, equal for equal records, with everything that a reader needs in it."""

import json
import math
import re
import shlex
from html.parser import HTMLParser

import pytest

from dwfbench import __version__
from dwfbench.analysis.resultset import ResultSet
from dwfbench.base.errors import UsageError
from dwfbench.runs.claims import Claim
from dwfbench.runs.decode import study_of
from dwfbench.runs.selection import Selection, counted_at
from dwfbench.runs.store import Store
from dwfbench.show import comparison, looks, report, studies, style, tables
from dwfbench.show.report import grids
from tests.records import changed, typed

HERE = Selection(("results",))
EVIL = 'a</script><img src=x onerror="window.injected=1">\'&é\u2028'
METHODS = [
    ("dense", "dense", None, {}),
    ("dwf", "dwf D=2", "strength", {"depth": 2}),
    ("dwf", "dwf D=3", "strength", {"depth": 3}),
    ("random", "random", "compression", {}),
]


def record(method, label, knob, options, seed, cr, epochs=2, layers=("fc1", "fc2"), **more):
    """A run of 98 % at CR 1, less a point for every depth and factor e of compression, and 0.1 for every seed."""
    spec = {"method": method, "dataset": "mnist", "model": "lenet", "seed": seed, "epochs": epochs, "options": options}
    spec |= {"batch_size": 64, "lr": 0.1, "precision": "float32"}
    spec |= {
        "strength": cr * 1e-4 if knob == "strength" else None,
        "compression": cr if knob == "compression" else None,
    }
    step = {"val_accuracy": 0.5, "compression": cr, "misalignment": 0.1 if method == "dwf" else None}
    accuracy = 0.98 - 0.01 * (options.get("depth", 0) + math.log(cr) + 0.1 * seed)
    content = {
        **{"id": f"{label}-{seed}-{cr:g}", "status": "ok", "label": label, "knob": knob, "spec": spec},
        **{"test_accuracy": accuracy, "val_accuracy": accuracy, "dense_equivalent_accuracy": accuracy + 0.01},
        **{"compression": cr, "effective_compression": cr, "seconds": 12.5, "connected": True},
        "nnz": len(layers) * int(1000 / cr),
        "layers": [{"name": f"{name}.weight", "numel": 1000, "nnz": int(1000 / cr)} for name in layers],
        "history": [{"epoch": epoch, **step} for epoch in range(1, epochs + 1)],
        "provenance": {
            **{"versions": {"torch": "2.6.0"}, "git_commit": "abc123", "git_dirty": seed > 0, "device": "cpu"},
            **{"argv": ["dwfbench", "run", "--seed", str(seed)], "data_checksum": "c0ffee"},
            "started": f"2026-01-0{2 - seed % 2}T00:00:00+00:00",
            "ended": f"2026-01-0{3 - seed % 2}T00:00:00+00:00",
        },
    }
    return typed(content | more)


def records(seeds=2, methods=METHODS, **options):
    return [
        record(*method, seed, cr, **options)
        for method in methods
        for seed in range(seeds)
        for cr in ((1.0,) if method[0] == "dense" else (2.0, 10.0, 30.0))
    ]


def test_a_page_of_another_score_does_not_speak_of_accuracy():
    page = report.render(ResultSet([changed(run, score="r2") for run in records()]), HERE)
    head = page[page.index("<body") : page.index('<section id="settings"')]
    assert "<h1>R2 and compression</h1>" in head
    assert "Dense r2: " in head
    assert "R2 versus compression" in head
    assert "accuracy" not in re.sub("<[^>]*>", "", head).lower()


class Page(HTMLParser):
    """What a browser would find: tags with their attributes, the text of every section, the script elements."""

    VOID = ("meta", "link", "input", "img")

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.scripts, self.open, self.section = [], {}, {}, [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag not in self.VOID:
            self.open.append((tag, attributes))
        if tag == "section":
            self.section = attributes["id"]

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass
        if tag == "section":
            self.section = None

    def handle_data(self, text):
        if self.open and self.open[-1][0] == "script":
            self.scripts.setdefault(self.open[-1][1].get("id"), []).append(text)
        elif self.section:
            self.texts[self.section] = self.texts.get(self.section, "") + text

    def charts(self):
        """The charts by name, their tables as lists of dicts."""
        charts = json.loads(self.scripts["charts"][0])["charts"]
        return {name: {kind: rows(table) for kind, table in chart["tables"].items()} for name, chart in charts.items()}


@pytest.fixture(scope="module")
def page():
    return report.render(ResultSet(records()), HERE)


def rows(points):
    return [dict(zip(points["columns"], row, strict=True)) for row in points["rows"]]


@pytest.mark.slow
def test_equal_records_give_equal_bytes(page, tmp_path):
    for name in "ab":
        report.write(report.render(ResultSet(records()), HERE), tmp_path / "new" / name)
    first, second = ((tmp_path / "new" / name).read_bytes() for name in "ab")
    assert first == second == page.encode()


def test_every_section_is_listed_and_there(page):
    found = Page(page)
    links = [a["href"] for tag, a in found.tags if tag == "a"]
    sections = [a["id"] for tag, a in found.tags if tag == "section"]
    assert [link for link in links if link not in ("#content", "#runs-table")] == [f"#{name}" for name in sections]
    assert sections[:5] == ["verdicts", "accuracy", "comparison", "settings", "runs"]
    assert sections[5:] == ["dynamics", "layers", "failures", "provenance", "commands"]


def test_the_page_asks_for_no_other_file(page):
    found = Page(page)
    addresses = [a[name] for _, a in found.tags for name in ("src", "href") if name in a]
    assert all(address.startswith(("#", "data:,")) for address in addresses)
    policy = next(a["content"] for tag, a in found.tags if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none';")


def test_vega_is_there_once(page):
    assert page.count("window.vegaEmbed=") == 1


def evil_records():
    """Runs with markup in every text that a user can choose."""
    runs = [record("theirs", EVIL, "compression", {}, 0, cr, layers=(EVIL,)) for cr in (2.0, 10.0)]
    runs.append(record("theirs", EVIL, "compression", {}, 0, 30.0, status="failed", error=EVIL))
    return [changed(run, spec={"model": EVIL}, provenance={"argv": ["dwfbench", EVIL]}) for run in runs]


@pytest.mark.slow
def test_names_and_errors_are_text_and_never_markup():
    found = Page(report.render(ResultSet([*evil_records(), *records(methods=METHODS[:2])]), HERE))
    assert not [tag for tag, _ in found.tags if tag == "img"]
    assert sum(tag == "script" for tag, _ in found.tags) == 5  # of data, the bundle, three of our own
    assert EVIL in found.texts["failures"]
    assert shlex.quote(EVIL) in found.texts["commands"]
    labels = {
        row["detail1"] for chart in found.charts().values() for row in chart.get("points", []) if "detail1" in row
    }
    assert {EVIL, "dwf D=2"} <= labels
    assert EVIL in [a.get("value") for tag, a in found.tags if tag == "input"]


def test_half_a_character_does_not_stop_the_report(tmp_path):
    one = [record("dwf", "half \ud800", "strength", {}, 0, cr) for cr in (2.0, 10.0)]
    report.write(report.render(ResultSet(one), HERE), tmp_path / "report.html")
    assert b"half ?" in (tmp_path / "report.html").read_bytes()


def test_points_are_the_runs_with_their_units(page):
    chart = Page(page).charts()["accuracy-0"]
    run = next(row for row in chart["points"] if row["detail0"] == "dwf D=2-0-10")
    accuracy = float(f"{96 - math.log(10):.5g}")
    assert (run["across"], run["height"]) == (10, accuracy)
    details = ["dwf D=2-0-10", "dwf D=2", "0", "strength 0.001", "10", f"{accuracy:.2f}", "fc1 10 %, fc2 10 %"]
    assert [run[f"detail{number}"] for number in range(7)] == details
    assert chart["ruley"] == [{"look": 0, "height": 97.95}]
    assert len({row["look"] for row in chart["line"]}) == 3


def test_the_layers_of_a_run_are_not_told_at_another_threshold():
    cut = {"threshold": 1e-2, "nnz": 20, "compression": 100.0, "test_accuracy": 0.5}
    runs = counted_at([changed(run, thresholds=[cut]) for run in records()], 1e-2)
    chart = Page(report.render(ResultSet(runs), HERE)).charts()["accuracy-0"]
    points = [row for name in ("points", "arrows") for row in chart.get(name, [])]
    assert {row["detail6"] for row in points} == {"-"}
    assert all(run.connected is None and run.val_accuracy is None for run in runs if run.spec.method != "dense")


def test_runs_below_the_axis_are_told():
    low = record(*METHODS[3], 0, 100.0, test_accuracy=0.1)
    chart = Page(report.render(ResultSet([*records(), low]), HERE)).charts()["accuracy-0"]
    assert [(row["across"], row["detail0"]) for row in chart["arrows"]] == [(100, "random-0-100")]


def test_every_chart_has_its_place(page):
    found = Page(page)
    places = [a["data-chart"] for _, a in found.tags if "data-chart" in a]
    assert sorted(places) == sorted(found.charts())
    assert len({*places}) == len(places) == 1 + 2 * 3 + 3  # accuracy; three courses of two curves; layers of three


def test_large_compression_ratios_have_no_exponent():
    found = Page(report.render(ResultSet([*records(), record(*METHODS[3], 0, 29578.3)]), HERE)).texts["runs"]
    assert "compression 29578" in found
    assert "e+04" not in found


def test_a_thousand_runs_fit_into_five_megabytes():
    methods = [("dwf", f"dwf D={depth}", "strength", {"depth": depth}) for depth in range(2, 12)]
    layers = [f"layer{number}" for number in range(20)]
    many = [
        record(*method, seed, 1.5 + point, epochs=100, layers=layers)
        for method in methods
        for seed in range(4)
        for point in range(25)
    ]
    assert len(many) == 1000
    assert len(report.render(ResultSet(many), HERE).encode()) < 5e6


@pytest.mark.slow
def test_failures_are_listed_with_their_errors(page):
    assert "There are none" in Page(page).texts["failures"]
    bad = changed(record(*METHODS[1], 0, 50.0), status="diverged", error="the loss became NaN")
    text = Page(report.render(ResultSet([*records(), bad]), HERE)).texts["failures"]
    for word in ("dwf D=2-0-50", "diverged", "the loss became NaN", "strength 0.005"):
        assert word in text
    assert "There are none" not in text


def test_the_page_says_all_that_compare_says():
    results = ResultSet(records(seeds=1, methods=METHODS[1:]))
    text = Page(report.render(results, HERE)).texts["comparison"]
    made = comparison.compare(results, tables.Question())
    assert "mnist/lenet: no run of dwf D=2, dwf D=3, random between CR 2 and 10, 10 and 30 (seed 0)." in made.cautions
    assert len(made.closing) == 2
    assert all(line in text for line in (*made.closing, made.caption))


def test_cautions_stand_with_the_curve_that_they_concern():
    results = ResultSet(records(seeds=1, methods=METHODS[1:]))
    text = Page(report.render(results, HERE)).texts["comparison"]
    cautions = text[text.index("Cautions") :]
    assert "mnist/lenet: no dense run" in cautions  # of no curve in particular
    words = "fewer than 3 seeds (1)no run between CR 2 and 10, 10 and 30 (seed 0)"
    assert [line.partition("fewer")[0] for line in cautions.splitlines() if words in line] == [
        "dwf D=2",
        "dwf D=3",
        "random",
    ]


def test_ratios_tolerances_and_the_other_curve_are_those_asked_for():
    question = tables.Question(at=[3.0, 20.0], tolerances=[2.0])
    runs = records(seeds=3)
    found = Page(report.render(ResultSet(runs), Selection(("r",)), question, "random"))
    text = found.texts["comparison"]
    assert "CR 3" in text
    assert "CR@-2pt" in text
    assert "CR 5" not in text
    assert "Differences to random" in text
    assert "Accuracy minus that of random" in text
    lines = found.texts["commands"].splitlines()
    assert "dwfbench compare --results r --at 3,20 --tolerance 2" in lines
    assert "dwfbench compare --results r --at 3,20 --tolerance 2 --versus random" in lines
    assert "dwfbench report --results r --at 3,20 --tolerance 2 --versus random" in lines
    assert "dwfbench claims --results r" in lines
    with pytest.raises(UsageError, match="no sparse curve 'rando'"):
        report.render(ResultSet(runs), HERE, versus="rando")
    alone = report.render(ResultSet(records(methods=METHODS[3:])), HERE, versus="random")
    assert "There is no other sparse curve here." in alone


def test_columns_in_which_all_rows_agree_are_said_once():
    text = Page(report.render(ResultSet(records()), HERE)).texts["comparison"]
    assert "In all rows: Seeds 2; Epochs 2; Dense 97.95 ± 0.64." in text
    page = report.render(ResultSet(records()), HERE)
    assert re.findall(r'<th scope="col"[^>]* hidden><button type="button">(\w+)<', page) == ["Seeds", "Epochs", "Dense"]


def test_half_widths_are_there_for_files():
    page = report.render(ResultSet(records(seeds=3)), HERE, tables.Question(at=[2.0]))
    assert re.search(r'data-key="97\.2\d+" data-half="0\.24\d+">97\.21 ± 0\.25<', page)


def test_the_head_has_the_days_the_version_and_the_dense_accuracy(page):
    text = re.sub("<[^>]*>", "", page[page.index("<header>") : page.index("</header>")])
    assert "Trained 2026-01-01 to 2026-01-03." in text
    assert f"Read by dwfbench {__version__}." in text
    assert "Dense accuracy: 97.95 ± 0.64 % (mnist/lenet, 2 epochs)." in text
    assert "There is no dense run." in report.render(ResultSet(records(methods=METHODS[1:])), HERE)


def test_the_page_opens_with_the_verdicts_of_claims():
    texts = Page(report.render(ResultSet(records(seeds=3), claimed=[claim()]), HERE)).texts
    lines = [line.strip() for line in texts["verdicts"].splitlines() if line.strip()]
    assert lines[1].startswith("Of the claims about these results: 1 supported, 1 contradicted, ")
    verdicts = [line.split()[0] for line in lines[2:-1]]
    assert verdicts == sorted(verdicts, key=["supported", "contradicted", "undecided", "not"].index)
    (mine,) = [line for line in lines if "Depth 3 is better." in line]
    assert mine.startswith("contradicted Depth 3 is better. -1.00 [-1.00, -1.00] points")
    assert "dwf D=3 against dwf D=2: accuracy at CR 10, expected 0.5 or more; 3 pairs of seeds." in mine
    assert "Runs dwf D=3-0-10, dwf D=2-0-10, dwf D=3-1-10" in mine
    assert "deeper; a test." in mine
    assert "95 % paired t-interval" in lines[-1]


def test_verdicts_of_several_networks_say_where():
    runs = [*records(seeds=3), *(changed(run, id=f"k{run.id}", spec={"model": "other"}) for run in records(seeds=3))]
    text = Page(report.render(ResultSet(runs, claimed=[claim()]), HERE)).texts["verdicts"]
    assert "Depth 3 is better. mnist/lenet, 2 epochs -1.00" in text
    assert "Depth 3 is better. mnist/other, 2 epochs -1.00" in text


def test_verdicts_are_those_of_all_methods():
    results = ResultSet(records(seeds=3), claimed=[claim()])
    text = Page(report.render(results, Selection(("r",), method=["random"]))).texts
    assert "contradicted Depth 3 is better. -1.00" in text["verdicts"]
    assert "dwfbench claims --results r\n" in text["commands"]


def claim():
    """That depth 3 is better than depth 2; in `records` it is a point worse."""
    sides = {"first": {"method": "dwf", "depth": 3}, "second": {"method": "dwf", "depth": 2}}
    texts = {"name": "deeper", "sentence": "Depth 3 is better.", "source": "a test"}
    return Claim(**texts, **sides, quantity="accuracy", at=[10.0], expected="above", smallest=0.5)


def test_settings_say_whether_the_learning_rate_was_tuned():
    runs = records(methods=METHODS[:2])
    tuned = {"tuned": {"study": "5eed", "trials": 7, "objective": 0.875}}
    runs = [*runs[:2], *(changed(run, provenance=tuned) for run in runs[2:])]
    text = Page(report.render(ResultSet(runs), HERE)).texts["settings"]
    assert "study 5eed, 7 trials, objective 87.50 %" in text


def study_json(**more):
    trials = [{"values": {"lr": 0.1}, "value": 0.5}, {"values": {"lr": 0.3}, "value": 0.875, "runs": ["a"], "bad": 0}]
    names = {"id": "5eed", "label": "dwf D=2", "method": "dwf", "dataset": "mnist", "model": "lenet"}
    return {**names, "objective": "mean accuracy over log CR", "budget": {}, "trials": trials, "best": 1, **more}


def study(**more):
    return study_of(study_json(**more))


def test_trials_of_shown_methods_are_listed():
    text = Page(report.render(ResultSet(records(), [study(), study(method="other", id="0ther")]), HERE)).texts["tuning"]
    assert "Study 5eed. Objective: mean accuracy over log CR." in text
    assert "87.50" in text
    assert "0ther" not in text


def test_a_trial_is_shown_with_its_score_at_each_target_and_a_star_where_it_won():
    """A mean over the targets at which a trial has scores would rank it by the targets that it missed."""
    scores = [[0.5, 0.75, None], [0.6, 0.25, 0.4]]
    trials = [{**trial, "scores": own} for trial, own in zip(study_json()["trials"], scores, strict=True)]
    of_targets = study(targets=[5, 40, 300], winners=[1, 0, 1], trials=trials)
    header, *rows = studies.rows([of_targets])
    assert header[2:5] == ["CR 5", "CR 40", "CR 300"]
    assert [row[2:5] for row in rows] == [["50.00", "75.00 *", "-"], ["60.00 *", "25.00", "40.00 *"]]
    grid = grids.study(of_targets)["grid"]
    assert [[cell["text"] for cell in row["cells"]] for row in grid["rows"]] == [row[1:] for row in rows]
    assert [row[2] for row in studies.rows([study()])[1:]] == ["50.00", "87.50 *"]


def test_studies_are_read_and_damaged_ones_named(tmp_path):
    folder = tmp_path / "tuning" / "studies"
    folder.mkdir(parents=True)
    contents = {"a": json.dumps(study_json()), "b": "{", "c": "[]", "d": json.dumps(study_json(trials=[1]))}
    contents["e"] = json.dumps(study_json(provenance={"argv": 1}))  # a number is no command
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(content)
    store = Store(tmp_path / "tuning")
    assert [each for _, each in store.studies()] == [study()]
    assert [re.search(r"(\w)\.json", sentence)[1] for sentence in store.damaged] == ["b", "c", "d", "e"]
    assert Store(tmp_path / "none").studies() == []


def test_provenance_counts_what_differs(page):
    text = Page(page).texts["provenance"]
    for part in ("2.6.0", "abc123 (10 runs)", "abc123 (with uncommitted changes) (10 runs)", "c0ffee"):
        assert part in text
    assert "2026-01-01T00:00:00+00:00" in text  # the first start
    assert "2026-01-03T00:00:00+00:00" in text  # the last end


def test_commands_come_once_in_the_order_of_time(page):
    lines = Page(page).texts["commands"].splitlines()
    assert [line for line in lines if line.startswith("dwfbench run")] == [
        "dwfbench run --seed 1",  # began a day earlier
        "dwfbench run --seed 0",
    ]


def test_the_tuning_of_shown_methods_comes_before_their_runs():
    tune = {"provenance": {"argv": ["dwfbench", "tune", "--seed", "7"]}}
    other = {"provenance": {"argv": ["dwfbench", "tune", "--method", "other"]}}
    studies = [study(**tune), study(label="dwf D=3", id="5eed2", **tune), study(method="other", **other)]
    text = Page(report.render(ResultSet(records(), studies), HERE)).texts["commands"]
    assert "Settings were tuned and runs trained" in text
    commands = [line for line in text.splitlines() if line.startswith(("dwfbench run", "dwfbench tune"))]
    assert commands == ["dwfbench tune --seed 7", "dwfbench run --seed 1", "dwfbench run --seed 0"]


def test_the_commands_that_read_have_the_same_selection():
    chosen = Selection(("my results",), ["mnist"], None, ["dwf", "dense"], 1e-3, ["last"])
    cut = [{"threshold": 1e-3, "compression": 5.0, "test_accuracy": 0.9}]
    runs = counted_at(records(thresholds=cut), 1e-3)
    found = Page(report.render(ResultSet(runs), chosen))
    lines = found.texts["commands"].splitlines()
    flags = "--results 'my results' --dataset mnist --method dwf,dense --tag last"
    assert f"dwfbench report {flags} --threshold 0.001" in lines
    assert [line for line in lines if line.startswith("dwfbench plot")] == [
        f"dwfbench plot accuracy {flags} --threshold 0.001"
    ], "the other figures count as training did"
    assert "below 0.001 in size" in found.texts["settings"]
    assert {row["detail1"] for row in found.charts()["accuracy-0"]["points"]} == {"dwf D=2", "dwf D=3"}


def test_a_filtered_report_keeps_the_dense_reference_of_all():
    text = Page(report.render(ResultSet(records()), Selection(("r",), method=["dwf"]))).texts["comparison"]
    assert "97.95 ± 0.64" in text


def test_nothing_to_show_and_no_place_to_write_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="nothing to report"):
        report.render(ResultSet(records()), Selection(("r",), method=["none"]))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        report.write("", tmp_path / "file" / "report.html")


def test_the_legend_has_the_inks_of_the_figure_in_their_order(page):
    found = Page(page)
    inks = looks.inks(ResultSet(records()).runs)
    assert [a["value"] for tag, a in found.tags if tag == "input" and a.get("type") == "checkbox"] == list(inks)
    first = next(a["stroke"] for tag, a in found.tags if tag == "path")
    assert first == f"light-dark({inks['dwf D=2'].colour},{style.on_dark(inks['dwf D=2'].colour)})"


@pytest.mark.slow
def test_the_command_writes_where_it_says(call, tmp_path):
    from dwfbench.runs.store import Store

    run_id = "0123456789ab"
    stored = record(*METHODS[1], 0, 10.0, id=run_id, schema=1, thresholds=[])
    Store(tmp_path).write(stored, [{"epoch": 1, "val_accuracy": 0.5}])
    outcome = call("report", "--results", tmp_path)
    assert outcome.exit_code == 0
    assert outcome.stdout.strip() == str(tmp_path / "report.html")
    assert run_id in (tmp_path / "report.html").read_text()
    assert call("report", "--results", tmp_path, "--at", "20", "--tolerance", "3").exit_code == 0
    page = (tmp_path / "report.html").read_text()
    assert f"dwfbench report --results {tmp_path} --at 20 --tolerance 3" in page
    assert call("report", "--results", tmp_path, "--at", "0.5").exit_code == 2
    assert call("report", "--results", tmp_path, "--method", "none").exit_code == 3
    assert call("report", "--results", tmp_path / "none").exit_code == 2
