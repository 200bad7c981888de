"""The commands that describe what there is: list and doctor."""

import json
import textwrap
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from dwfbench.base.errors import UsageError
from dwfbench.base.screen import table
from dwfbench.base.streams import answer, width
from dwfbench.base.text import no_such
from dwfbench.cli.app import OK, SETTINGS, SOME_FAILED, guarded, message
from dwfbench.cli.help import Command, examples
from dwfbench.cli.sources import RESULTS, Data, Debug, Results, TableOrJson, selected
from dwfbench.cli.values import one_of
from dwfbench.runs import spec

app = typer.Typer(**SETTINGS)


@app.command(
    "list",
    cls=Command,
    epilog=examples(
        "dwfbench list methods",
        "dwfbench list runs --results theirs.zip --format json",
        "dwfbench list studies --results theirs.zip",
    ),
)
@guarded
def list_(
    kind: Annotated[str, typer.Argument(help="methods, models, datasets, recipes, figures, runs or studies")],
    format: TableOrJson = "table",
    as_json: Annotated[bool, typer.Option("--json", hidden=True)] = False,  # what --format json was called
    results: Annotated[
        list[str],
        typer.Option(
            "--results", metavar="[LABEL=]PATH", help="of runs and studies: folders or archives [default: results]"
        ),
    ] = [],  # noqa: B006 (typer copies it)
    tag: Annotated[str | None, typer.Option(help="of runs: only those with one of these tags")] = None,
    debug: Debug = False,
) -> int:
    """Describe the methods (with knob, options, source), models, data sets, recipes, papers' figures, stored runs, or
    the trials of stored tuning.
    """
    as_json = one_of(format, "format", ("table", "json")) == "json" or as_json
    listings = {
        "methods": list_methods,
        "models": lambda: import_module("dwfbench.models").describe(),
        "datasets": lambda: import_module("dwfbench.data.readers").describe(),
        "recipes": list_recipes,
        "figures": list_figures,
    }
    stored = ("runs", "studies")
    if kind not in (kinds := [*listings, *stored]):
        raise UsageError(no_such("list of", kind, kinds))
    if results and kind not in stored:
        raise UsageError(f"--results is for `dwfbench list runs` and `list studies`, not for {kind}.")
    if tag and kind != "runs":
        raise UsageError(f"--tag is for `dwfbench list runs`, not for {kind}.")
    if kind in stored:
        from dwfbench.cli.read import list_runs, list_studies

        selection = selected({"results": results or RESULTS, "tag": tag})
        return list_runs(selection, as_json) if kind == "runs" else list_studies(selection, as_json)
    rows = listings[kind]()
    answer(json.dumps(rows, indent=2, ensure_ascii=False) if as_json else described(rows))
    return OK


def list_methods() -> list[dict]:
    from dwfbench.base import plugins
    from dwfbench.methods import registry

    points, refused = plugins.find("method")
    for sentence in refused.values():
        message(sentence)
    rows = []
    for name in points:
        try:
            method = registry.load(name)
        except UsageError as error:
            message(str(error))
            continue
        rows.append(
            {
                "name": name,
                "knob": method.knob or "none",
                "summary": method.summary,
                "source": method.source,
                "options": [
                    {
                        "flag": f"--{item.name.replace('_', '-')}",
                        "default": item.default,
                        "help": item.metadata["help"],
                        "choices": list(item.metadata["choices"]),
                    }
                    for item in fields(method)
                ],
            }
        )
    return rows


def list_recipes() -> list[dict]:
    rows = []
    for name, path in spec.recipes().items():
        source = "Tanaka et al. 2020" if name.startswith("synflow-") else "dwfbench's own choice"
        rows.append({"name": name, "summary": spec.read_toml(path).get("title", ""), "source": source})
    return rows


def list_figures() -> list[dict]:
    from dwfbench.experiments import reproduce

    published = reproduce.figures().values()
    for note in dict.fromkeys(figure.note for figure in published):
        message(note)
    message("How many hours one takes on this machine: `dwfbench reproduce NAME --dry-run`.")
    return [figure.described() for figure in published]


def described(rows: list[dict]) -> str:
    """A line each, and a line for every option below it; of a paper's figure a line for each of its facts."""
    if "budget" in rows[0]:
        return "\n\n".join(facts(row) for row in rows)
    width = max(len(row["name"]) for row in rows)
    lines = []
    for row in rows:
        knob = f" [knob: {row['knob']}]" if "knob" in row else ""
        lines.append(f"{row['name']:<{width}}  {row['summary']}{knob} ({row['source']})")
        for item in row.get("options", ()):
            default = "none" if item["default"] is None else item["default"]
            choices = f" ({', '.join(item['choices'])})" if item["choices"] else ""
            lines.append(f"{'':<{width}}    {item['flag']}: {item['help']}{choices} [default: {default}]")
    return "\n".join(lines)


def facts(row: dict) -> str:
    """A name with its title, and below it what the title does not say, wrapped for 80 columns."""
    wrapped = [
        textwrap.fill(row[name], 80, initial_indent=f"  {name:<9}", subsequent_indent=" " * 11, break_on_hyphens=False)
        for name in ("source", "methods", "budget", "hours", "here")
    ]
    return "\n".join([f"{row['name']}: {row['title']}", *wrapped])


@app.command("doctor", cls=Command, epilog=examples("dwfbench doctor", "dwfbench doctor --ray auto --format json"))
@guarded
def doctor(
    results: Results = Path("results"),
    data_dir: Data = None,
    ray: Annotated[
        str | None, typer.Option(help="the nodes of this Ray cluster, too: auto or host:port", metavar="auto|ADDRESS")
    ] = None,
    format: TableOrJson = "table",
    debug: Debug = False,
) -> int:
    """Examine this machine, this installation and the results folder: each finding with its remedy.

    Nothing is downloaded, trained or changed. Exit code 1 if something is a problem; warnings are none.
    """
    one_of(format, "format", ("table", "json"))

    from dwfbench.cli import doctor

    findings = doctor.examine(results, data_dir, ray)
    if format == "json":
        answer(json.dumps([finding._asdict() for finding in findings], indent=2, ensure_ascii=False))
    else:
        answer(table([list(doctor.Finding._fields), *map(list, findings)], columns=width()))
    return SOME_FAILED if any(finding.state == "problem" for finding in findings) else OK
