"""What training commands share on the command line: from flags to settings, data and engine.

The shared flags are made from the fields of RunSpec. A method's options are flags too: they are read from what is
left of the command line and checked against the chosen methods, so that a plug-in's options work as our own do.
"""

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dwfbench.base.errors import UsageError, first_line
from dwfbench.base.machine import cores
from dwfbench.base.text import nearest
from dwfbench.cli.help import DATA, ENGINE, KNOB, OPTIMISATION, OUTPUT, WHAT
from dwfbench.cli.methods import methods
from dwfbench.cli.values import numbers
from dwfbench.runs import spec

if TYPE_CHECKING:
    from dwfbench.data.dataset import Dataset
    from dwfbench.execution.worker import Engine
    from dwfbench.experiments.plan import Request

METHODS = (
    'names, or path/to/file.py:Class, separated by commas; brackets bind options to one: "dwf[depth=2,3],l1[lr=0.2]" '
    "[default: dwf]"
)
FREE = {"allow_extra_args": True, "ignore_unknown_options": True}
"""The settings of a command that takes the options of methods, too."""

DEVICES = ("auto", "cpu", "cuda", "mps")
COMPRESSION = "target compression ratios, separated by commas; a method with a strength searches for them"


def option(value_type: Any, help: str, default: Any = None, **settings: Any) -> tuple[Any, Any]:
    return Annotated[value_type, typer.Option(help=help, **settings)], default


def with_flags(flags: dict[str, tuple[Any, Any]]) -> Callable:
    """Adds flags, as ``flags()`` describes them, to a command that takes them as ``**flags``."""

    def changed(command: Callable) -> Callable:
        signature = inspect.signature(command)
        own_parameters = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        flag_parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in flags.items()
        ]
        described: Any = command
        described.__signature__ = signature.replace(parameters=[*own_parameters, *flag_parameters])
        command.__annotations__ = {p.name: p.annotation for p in [*own_parameters, *flag_parameters]}
        return command

    return changed


def flags_of(options_class: type, panel: str) -> dict[str, tuple[Any, Any]]:
    """The fields of a dataclass, which checks and converts their texts itself, as flags under a heading of the help."""
    return {
        item.name: option(str | None, described(item), show_default=False, rich_help_panel=panel)
        for item in fields(options_class)
    }


def described(item: Any) -> str:
    """What the help says of such a field."""
    choices = f": {', '.join(item.metadata['choices'])}" if item.metadata["choices"] else ""
    default = {True: "yes", False: "no"}[item.default] if item.type is bool else item.default
    return f"{item.metadata['help']}{choices}" + ("" if default is None else f" [default: {default}]")


PLACES = {
    **dict.fromkeys(("model", "dataset", "init"), WHAT),
    **dict.fromkeys(("data_dir", "augment", *spec.DATA_KEYS), DATA),
    "results": OUTPUT,
}
"""The panels of flags that are not shown where the others of their sort are."""


def in_panel(title: str, flags: dict[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """The flags, to be shown under that title in the help."""
    for name, (annotation, _) in flags.items():
        annotation.__metadata__[0].rich_help_panel = PLACES.get(name, title)
    return flags


def flags() -> dict[str, tuple[Any, Any]]:
    """(annotation, default) of every flag that training shares, by name."""
    training = {
        "method": option(str | None, METHODS),
        "recipe": option(str | None, "a recipe of `dwfbench list recipes`"),
        "config": option(Path | None, "TOML file with the same keys; flags win"),
        "allow_code": option(bool, "run the code that --config names, if it is neither installed nor a flag", False),
        "seed": option(str | None, "seeds, separated by commas"),
        "seeds": option(int | None, "number of seeds, counted from 0 [default: 1]"),
    }
    knob = {
        "strength": option(str | None, "strengths lambda, separated by commas"),
        "compression": option(str | None, COMPRESSION),
        "max_runs": option(int | None, "strengths of a seed with which to search for --compression [default: 16]"),
        "max_gap": option(float | None, "largest factor between the CRs of the runs around a target [default: 2]"),
        "points": option(int | None, "number of knob values, log-spaced over the useful range"),
        "strength_range": option(str | None, "lowest,highest strength for --points"),
        "strength_max": option(float | None, "highest strength for --points, from the decay budget up"),
        "compression_range": option(str | None, "lowest,highest compression for --points"),
    }
    settings = {name: setting(item) for name, item in spec.settings().items()}
    return in_panel(WHAT, training) | in_panel(KNOB, knob) | engine_flags() | in_panel(OPTIMISATION, settings)


def engine_flags() -> dict[str, tuple[Any, Any]]:
    """Those of them that say where and how to train."""
    flags = {
        "data_dir": option(Path | None, "where data sets lie, or are downloaded to"),
        "results": option(Path, "folder of the run records", Path("results")),
        "device": option(str, "auto, cpu, cuda, cuda:1, ...", "auto"),
        "threads": option(int | None, "CPU threads [default: all cores; for a small network one a process]"),
        "lanes": option(str, "runs trained at once: auto or a number", "auto"),
        "jobs": option(int, "worker processes, which share the threads; for many runs on a CPU", 1),
        "compile": option(str, "compile the training step: auto, on, off", "auto"),
        "eval_every": option(int, "epochs between two rows of a run's history", 1, min=1),
        "checkpoint_minutes": option(float, "minutes of training that a kill may cost; 0: no checkpoints", 10.0, min=0),
        "timeout_minutes": option(float | None, "end a group of runs that finishes none for so long [default: never]"),
        "ray": option(str | None, "train on a Ray cluster: auto (this machine's) or host:port", metavar="auto|ADDRESS"),
        "cpus_per_group": option(int | None, "with --ray: CPU threads of a group of runs [default: 1]", min=1),
        "gpus_per_group": option(
            float | None, "with --ray: GPUs of a group, 0.25 for four on one [default: 1 if there are any]", min=0
        ),
    }
    return in_panel(ENGINE, flags)


def setting(item) -> tuple[Any, Any]:
    """A field of RunSpec as a flag. All but switches are text: RunSpec checks and converts, with one kind of
    message."""
    value_type = bool if item.type is bool else str
    default = "none" if item.default is None else item.default
    return option(value_type | None, f"{item.metadata['help']} [without a recipe: {default}]", show_default=False)


@dataclass(frozen=True)
class Work:
    """What a command line asks for: the curves' settings, the data on the device, the engine; the processors it has."""

    requests: "list[Request]"
    dataset: "Dataset"
    engine: "Engine"
    results: Path
    processors: int

    def stopping(self) -> AbstractContextManager:
        """Within it, an interrupt ends training at the next step and keeps a checkpoint, if any are kept."""
        from dwfbench.training.checkpoint import stopping_at_steps

        return stopping_at_steps() if self.engine.checkpoints else nullcontext()


def read(flags: Mapping[str, Any], words: list[str], save_model: bool = False, dry: bool = False) -> Work:
    """The ``flags`` that were given and the other ``words`` of the command line, the methods' options.

    Loads the data, or with ``dry`` a stand-in for them where there is one, and sets the threads of this process. Raises
    UsageError for whatever does not fit.
    """
    top = spoken(flags, words)
    code = None
    if not flags["allow_code"]:
        code = [top.get("model"), top.get("dataset"), *(name for name, _ in top.get("methods", []))]
    layers = [spec.read_toml(flags["config"], code)] if flags["config"] else []

    from dwfbench import models
    from dwfbench.data import dataset as data
    from dwfbench.execution.worker import prepare_process
    from dwfbench.experiments import plan
    from dwfbench.experiments.run import choose_threads

    engine = engine_of(flags, save_model)
    model = plan.general([*layers, top], "model", None)
    dataset_name = plan.general([*layers, top], "dataset", None)
    layers = [spec.base_recipe(flags["recipe"], model, dataset_name), *layers]
    everything = [spec.DEFAULTS.to_dict(), *layers, top]
    models.check(plan.general(everything, "model", None))
    name = plan.general(everything, "dataset", None)
    cut = {key: spec.coerce(spec.settings()[key], plan.general(everything, key, None)) for key in spec.DATA_KEYS}
    requests = plan.requests(layers, top)  # before the data: what is misspelt is told at once
    dataset = None
    if dry:
        dataset = data.stand_in(name, **{key: cut[key] for key in ("val_fraction", "image_size")})
    dataset = dataset or data.load(name, data_dir=flags["data_dir"], **cut)
    dataset, processors = dataset.to(engine.here), engine.threads
    if flags["threads"] is flags["ray"] is None:
        engine = replace(engine, threads=choose_threads(requests, dataset, engine))
        prepare_process(engine.threads // engine.jobs)
    return Work(requests, dataset, engine, flags["results"], processors)


def spoken(flags: Mapping[str, Any], words: list[str]) -> dict[str, Any]:
    """The settings that flags give, as ``plan.requests`` takes them."""
    settings = {
        "methods": methods(flags["method"]),
        **{key: flags[key] for key in ("points", "max_runs", "max_gap", "strength_max", "seeds")},
        **{
            key: numbers(flags[key], key.replace("_", "-"))
            for key in ("strength", "compression", "strength_range", "compression_range", "seed")
            if flags[key] is not None
        },
        **{name: value(item, flags[name]) for name, item in spec.settings().items() if flags[name] is not None},
        **own_options(words),
    }
    return {key: value for key, value in settings.items() if value is not None}


def value(item: Any, text: str) -> Any:
    """The value of a shared setting's flag."""
    if item.type in (int, float) and "," in text and item.name not in spec.DATA_KEYS:
        flag, hint = item.name.replace("_", "-"), ",".join(f"dwf[{item.name}={part}]" for part in text.split(",")[:2])
        raise UsageError(
            f"--{flag} takes one value, not {text!r}; to compare several, give each method its own: --method {hint!r}."
        )
    return spec.stated(item, text)


def gives(flags: Mapping[str, Any], name: str) -> bool:
    """Whether a setting is given, by its flag or in the brackets of a method."""
    return flags[name] is not None or any(name in bound for _, bound in methods(flags["method"]) or [])


def engine_of(flags: Mapping[str, Any], save_model: bool = False) -> "Engine":
    """The engine that the flags describe; sets the threads of this process. UsageError for what cannot be."""
    lanes = None if flags["lanes"] == "auto" else positive(flags["lanes"], "lanes")
    if flags["compile"] not in ("auto", "on", "off"):
        raise UsageError(f"--compile must be auto, on or off, not {flags['compile']!r}.")

    from dwfbench.execution.worker import Engine

    if flags["timeout_minutes"] is not None and not 0 < flags["timeout_minutes"] < math.inf:
        raise UsageError(f"--timeout-minutes must be above 0, not {flags['timeout_minutes']:g}.")
    device, threads = hardware(flags["device"] if flags["ray"] is None else "cpu", flags["threads"], flags["jobs"])
    minutes = flags["checkpoint_minutes"]
    engine = Engine(
        device=device,
        threads=threads,
        lanes=lanes,
        compile=None if flags["compile"] == "auto" else flags["compile"] == "on",
        jobs=flags["jobs"],
        eval_every=flags["eval_every"],
        checkpoints=flags["results"] / "checkpoints" if minutes else None,
        checkpoint_minutes=minutes,
        timeout_minutes=flags["timeout_minutes"],
        save_model=save_model,
        argv=("dwfbench", *sys.argv[1:]),
    )
    return on_cluster(engine, flags)


def on_cluster(engine: "Engine", flags: Mapping[str, Any]) -> "Engine":
    """The engine with the cluster of --ray, if that is given; connects to it. UsageError for flags that do not fit."""
    ray_flags = [name for name in ("cpus_per_group", "gpus_per_group") if flags[name] is not None]
    if flags["ray"] is None:
        if ray_flags:
            raise UsageError(f"--{ray_flags[0].replace('_', '-')} is for --ray, which is not given.")
        return engine
    if flags["jobs"] != 1 or flags["threads"] is not None:
        raise UsageError("With --ray the cluster decides what trains at once; leave out --jobs and --threads.")

    import torch

    from dwfbench.execution.nodes import connect

    share = connect(flags["ray"], flags["cpus_per_group"], flags["gpus_per_group"], flags["device"])
    return replace(engine, device=torch.device("cuda" if share.gpus else "cpu"), threads=share.cpus, cluster=share)


def positive(text: str, flag: str) -> int:
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise UsageError(f"--{flag} must be auto or a whole number of at least 1, not {text!r}.")
    return int(text)


def own_options(words: list[str]) -> dict[str, Any]:
    """Options of methods in what is left of a command line; UsageError for the name of what is no method's to have, as
    a configuration spells it (--methods) or as another command has it."""
    options = leftover(words)
    for name in options:
        if name in ("methods", *spec.settings(), *spec.CURVE_KEYS):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"There is no flag {flag} here{nearest(flag, ['--method'])}")
    return options


def leftover(words: list[str]) -> dict[str, Any]:
    """Options of methods: ``--depth 2,3``, ``--depth=2``, ``--proximal``, ``--no-proximal``. Lists for comma lists."""
    options: dict[str, Any] = {}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("--") or len(word) < 3:
            raise UsageError(f"Unexpected argument {word!r}; flags start with two dashes.")
        flag, equals, value = word[2:].partition("=")
        if not equals and position < len(words) and not words[position].startswith("--"):
            value, equals = words[position], "="
            position += 1
        key = flag.replace("-", "_")
        if not equals and key.startswith("no_"):
            key, value = key[3:], "false"
        elif not equals:
            value = "true"
        if key in options:
            raise UsageError(f"--{flag} is given twice; separate several values by commas.")
        options[key] = [part.strip() for part in value.split(",")]
    return options


def hardware(device: str, threads: int | None, jobs: int):
    """The torch device and the number of threads of all processes together, checked and set."""
    import torch

    from dwfbench.execution.worker import prepare_process

    usable = cores()
    threads = usable if threads is None else threads
    if not 1 <= threads <= usable:
        raise UsageError(f"--threads must be between 1 and the {usable} cores this process may use, not {threads}.")
    if not 1 <= jobs <= threads:
        raise UsageError(f"--jobs must be between 1 and the {threads} threads that they share, not {jobs}.")
    prepare_process(threads // jobs)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch_device = torch.device(device)
    except RuntimeError:
        hint = "; did you mean cuda?" if device.lower().startswith(("gpu", "nvidia")) else nearest(device, DEVICES)
        choices = f"{', '.join(DEVICES)}, or cuda:1 for the second of several"
        raise UsageError(f"There is no device {device!r}{hint} Choose one of {choices}.") from None
    try:
        torch.zeros(1, device=torch_device).item()  # the device that only pretends (meta) fails here
    except Exception as error:  # each kind of device that is missing has its own
        cause = first_line(error).partition(". ")[0].rstrip(".")
        raise UsageError(f"The device {device!r} cannot be used ({cause}); try --device cpu.") from None
    return torch_device, threads
