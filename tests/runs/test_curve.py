"""Which runs are one curve's: those of one method, whatever a study chose for each."""

import pytest

from dwfbench.analysis.resultset import ResultSet
from dwfbench.runs.curve import curve_key, curve_label, curve_settings
from dwfbench.runs.resultsets import merged, retuned
from tests.analysis.test_curves import record
from tests.records import changed


def tuned(cr, lr, study="5eed", label="magnitude", **options):
    """A run whose rate, and whose rate of fine-tuning, a study chose."""
    values = {"lr": lr, "finetune_lr": options.pop("finetune_lr", 1.0)}
    own = {"lr": lr, "options": {"at": "trained", "finetune_lr": values["finetune_lr"]}}
    run = record(cr, 90, label=label, method="magnitude", **own, **options)
    return changed(run, provenance={"tuned": {"study": study, "trials": 6, "values": values}})


def test_what_a_study_chose_makes_no_other_curve():
    low, high = tuned(5, 0.1), tuned(300, 0.3, finetune_lr=0.1, label="magnitude (finetune lr=0.1)")
    assert curve_key(low) == curve_key(high)
    settings = curve_settings(high)
    assert (settings["lr"], settings["finetune_lr"], settings["at"]) == ("tuned", "tuned", "trained")
    assert not {"seed", "strength", "compression", "options"} & settings.keys()
    runs = ResultSet([low, high]).runs
    assert set(runs.label) == {"magnitude"}
    assert runs.curve.nunique() == 1


@pytest.mark.parametrize(
    ("label", "without"),
    [
        ("magnitude (finetune lr=0.3)", "magnitude"),
        ("magnitude (finetune lr=0.3, finetune epochs=5)", "magnitude (finetune epochs=5)"),
        ("magnitude (finetune epochs=5, finetune lr=0.3)", "magnitude (finetune epochs=5)"),
        ("dwf D=3, finetune lr=0.3", "dwf D=3"),
        ("magnitude (finetune lr=0.3) (mine)", "magnitude (finetune lr=0.3) (mine)"),
        ("magnitude (one-shot)", "magnitude (one-shot)"),
    ],
)
def test_a_label_lacks_what_a_study_chose(label, without):
    run = tuned(5, 0.1, label=label, finetune_lr=0.3)
    assert curve_label(run) == without
    assert curve_label(changed(run, provenance={"tuned": None})) == label


def test_a_true_option_is_named_without_a_value():
    run = changed(tuned(5, 0.1, label="spred (once)"), spec={"options": {"once": True}})
    run = changed(run, provenance={"tuned": {"study": "5eed", "trials": 2, "values": {"once": True}}})
    assert curve_label(run) == "spred"


def test_a_curve_whose_settings_win_elsewhere_has_one_label_in_any_order():
    rates = {5: 0.3, 50: 0.1, 500: 0.03}  # none is the default
    runs = [tuned(cr, 0.1, label=f"magnitude (finetune lr={rate})", finetune_lr=rate) for cr, rate in rates.items()]
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        assert set(ResultSet([runs[place] for place in order]).runs.label) == {"magnitude"}


def test_what_was_not_tuned_and_what_was_set_by_hand_does():
    low = tuned(5, 0.1)
    assert curve_key(low) != curve_key(tuned(5, 0.1, epochs=9))
    by_hand = changed(low, id="by hand", provenance={"tuned": None})
    assert curve_key(low) != curve_key(by_hand)
    labels = set(ResultSet([low, by_hand]).runs.label)
    assert labels == {"magnitude (lr=tuned, finetune_lr=tuned)", "magnitude (lr=0.1, finetune_lr=1.0)"}
    unknown = changed(low, provenance={"tuned": {"study": None, "values": {"lr": 0.1}}})
    assert curve_settings(unknown)["lr"] == 0.1


@pytest.mark.parametrize(("lr", "labels"), [(0.1, {"magnitude"}), (0.2, {"magnitude (set=a)", "magnitude (set=b)"})])
def test_sets_that_were_tuned_with_another_outcome_are_told_apart(lr, labels):
    ours, theirs = [tuned(5, 0.1), tuned(10, 0.1)], [tuned(5, lr, seed=1), tuned(20, lr, seed=1)]
    together = merged([("a", False, ours), ("b", False, theirs)])
    assert len(together) == 4
    assert set(ResultSet(together).runs.label) == labels


def won(cr, lr, targets, **options):
    run = tuned(cr, lr, **options)
    chosen = {"study": "5eed", "trials": 6, "targets": targets, "values": {"lr": lr, "finetune_lr": 1.0}}
    return changed(run, provenance={"tuned": chosen})


def test_a_curve_that_was_tuned_twice_with_other_winners_is_several():
    first = [won(5, 0.4, [5.0, 10.0]), won(10, 0.4, [5.0, 10.0]), won(100, 0.4, [5.0, 10.0])]
    alike = [*first, won(100, 0.1, [300.0]), won(5, 0.4, [5.0], seed=1)]
    assert retuned(alike) == (alike, []), "a pruner may be asked for 100 to come to 300"
    runs, (sentence,) = retuned([*first, won(6, 0.02, [5.0], seed=1)])
    assert set(ResultSet(runs).runs.label) == {"magnitude (lr=0.4)", "magnitude (lr=0.02)"}
    assert sentence == (
        "magnitude was tuned more than once, with other winners at CR 5: its runs are told apart by what was chosen."
    )
