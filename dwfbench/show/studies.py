"""The trials of tuning studies as rows of text, for the screen and for the page."""

from collections.abc import Sequence

from dwfbench.runs.record import Study, Trial


def rows(studies: Sequence[Study]) -> list[list[str]]:
    """The trials of studies, the header first: their score in percent at each target or, in studies of before there
    were any, as a whole; a star is at what won, "-" where a trial has no score."""
    targets = sorted({target for study in studies for target in study.targets})
    header = ["method", "trial", *([f"CR {target:g}" for target in targets] or ["value"]), "runs", "bad"]
    return [header, *(_row(study, number, targets) for study in studies for number in range(len(study.trials)))]


def _row(study: Study, number: int, targets: Sequence[float]) -> list[str]:
    trial = study.trials[number]
    settings = ", ".join(f"{name}={_setting(value)}" for name, value in trial.values.items())
    bad = "-" if trial.bad is None else str(trial.bad)
    return [study.label, settings, *_scores(study, trial, number, targets), str(len(trial.runs)), bad]


def _scores(study: Study, trial: Trial, number: int, targets: Sequence[float]) -> list[str]:
    if not targets:
        return [_score(trial.value, study.best == number)]
    scores = dict(zip(study.targets, trial.scores, strict=True))
    winners = dict(zip(study.targets, study.winners, strict=True))
    return [_score(scores.get(target), winners.get(target) == number) for target in targets]


def _score(value: float | None, won: bool) -> str:
    return "-" if value is None else f"{100 * value:.2f}{' *' * won}"


def _setting(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
