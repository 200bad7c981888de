"""The figures of papers that this benchmark makes anew, and the commands that make them.

The commands are those that a user would type: what a reproduction does can be seen, repeated and changed.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from dwfbench.base.errors import UsageError
from dwfbench.base.text import nearest
from dwfbench.runs import spec


@dataclass(frozen=True)
class Published:
    """A figure of a paper: what to train for it, how to draw it, and what of it was done here.

    ``method``, ``compression`` and ``strength`` are what the flags of ``dwfbench run`` take, empty where the recipe
    decides; so are ``epochs``, None where it does. ``hours`` are of the whole figure, with the machine, empty if nobody
    measured them. ``note`` says what of the paper could not be confirmed, or where the protocol differs.
    """

    name: str
    title: str
    source: str
    note: str
    recipe: str
    method: str
    compression: str
    seeds: int
    draw: tuple[str, ...]
    strength: str = ""
    epochs: int | None = None
    hours: str = ""
    hours_gpu: str = ""
    here: str = ""
    archive: str = ""

    def described(self) -> dict[str, str]:
        """What `dwfbench list figures` says of it."""
        recipe = spec.read_toml(spec.recipe_path(self.recipe))
        ratios = self.compression or ", ".join(f"{ratio:g}" for ratio in recipe.get("compression", ()))
        turned = f"strengths {self.strength}" if self.strength else f"CR {ratios}"
        return {
            "name": self.name,
            "title": self.title,
            "source": self.source,
            "note": self.note,
            "network": recipe["model"],
            "data": recipe["dataset"],
            "methods": self.method or ", ".join(recipe["methods"]),
            "budget": f"{self.epochs or recipe['epochs']} epochs, {self.seeds} seeds, {turned}",
            "hours": f"CPU: {self.hours or 'not measured'}; GPU: {self.hours_gpu or 'not measured'}",
            "here": f"{self.here} ({self.archive})" if self.here else "not done",
        }

    def training(self, results: Path, further_flags: Sequence[str] = ()) -> list[str]:
        """The words of the command that trains it, after ``dwfbench``; ``further_flags`` go before the figure's own."""
        given = {word.partition("=")[0] for word in further_flags}
        values = {
            "recipe": self.recipe,
            "method": self.method,
            "epochs": self.epochs,
            "compression": self.compression,
            "strength": self.strength,
            "seeds": self.seeds,
            "results": results,
        }
        settled = {f"--{name}": str(value) for name, value in values.items() if value}
        flags = [word for flag, value in settled.items() if flag not in given for word in (flag, value)]
        return ["run", *flags, *further_flags]

    def reading(self, results: Path) -> list[list[str]]:
        """The commands that make tables and figures of what was trained, in their order."""
        at = ["--at", self.compression] if self.compression else []
        return [
            ["compare", *at, "--results", str(results)],
            *(["plot", figure, "--results", str(results)] for figure in self.draw),
            ["claims", "--results", str(results)],
        ]


def figures() -> dict[str, Published]:
    """All that are known, by name."""
    content = tomllib.loads((resources.files("dwfbench.experiments") / "figures.toml").read_text(encoding="utf-8"))
    entries = [{**content["default"], **entry} for entry in content["figure"]]
    return {entry["name"]: Published(**{**entry, "draw": tuple(entry["draw"])}) for entry in entries}


def figure(name: str) -> Published:
    """The figure of that name; UsageError with the nearest if there is none."""
    by_name = figures()
    if name not in by_name:
        raise UsageError(f"There is no figure {name!r}{nearest(name, by_name)} `dwfbench list figures` shows them.")
    return by_name[name]
