"""The command `captchabench doctor`. Its imports are inside it: torch takes seconds to import."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console

# Exit codes: 1 is a user's mistake, 2 a wrong command line.
PROBLEMS = 3
_COLUMNS = 80
_LIMIT, _COMPILE_LIMIT = 300.0, 1800.0
_ROW = " {:<16} {:>11} {:>11}   {:<22} {}"


def doctor(
    compile_: Annotated[
        bool, typer.Option("--compile", help="Also try compiled steps, as used by long trainings on a GPU; minutes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Describe this machine, and try every recogniser on each of its devices. Paste the output into a bug report.

    Each recogniser is trained for a few steps on drawn images. Steps that are recorded (on a GPU) or compiled are
    compared with eager steps. Then images are read one by one and in a batch, which must agree. Nothing is written.
    Takes at most a minute on a CPU. The exit code is 3 if there is a problem; the end of the output says what to do.
    """
    from captchabench.doctor import machine
    from captchabench.doctor.trials import results_of

    console = Console(highlight=False, width=_COLUMNS, quiet=as_json)
    facts, problems = machine.sections()
    devices, device_problems = machine.devices()
    problems += device_problems
    facts["paths"] = machine.paths(devices)
    for section, entries in facts.items():
        console.print(f"[bold]{section}[/]")
        for name, value in entries.items():
            console.print(f"  {name:<14} {value}", markup=False)
    tried: list[dict[str, Any]] = []
    for visible in devices:
        label = f"GPU {visible}" if visible else "CPU"
        rows: list[dict[str, Any]] = []
        with console.status(f"{label}: trying every recogniser"):
            for result in results_of(visible, compile_, _COMPILE_LIMIT if compile_ else _LIMIT):
                if "device" in result:
                    tried.append({**result, "visible": visible, "recognisers": rows})
                    _print_head(console, label, result)
                elif "model" in result:
                    rows.append(result)
                    _print_row(console, result)
                    if result["problem"]:
                        problems.append(f"{label}, {result['model']}: {result['problem']}")
                elif result["ended"]:
                    remedy = "; meanwhile set CUDA_VISIBLE_DEVICES= to use the CPU" if visible else ""
                    problems.append(f"{label}: {result['ended']}{remedy}")
    if as_json:
        typer.echo(json.dumps({"facts": facts, "devices": tried, "problems": problems}, indent=2, ensure_ascii=False))
    elif problems:
        console.print(f"\n[bold red]problems: {len(problems)}[/]")
        for problem in problems:
            console.print(f"- {problem}", markup=False)
        console.print("Refused steps cost speed, not results. Please report other problems with this output.")
    else:
        console.print("\n[bold green]no problems found[/]")
    if problems:
        raise typer.Exit(PROBLEMS)


def _print_head(console: Console, label: str, device: dict[str, Any]) -> None:
    name = "" if device["device"] == "cpu" else f"{device['name']}, "
    console.print(f"\n[bold]{label}[/]: {name}{device['about']}")
    console.print(_ROW.format("recogniser", "training/s", "reading/s", "steps", "one by one"), style="dim")


def _print_row(console: Console, row: dict[str, Any]) -> None:
    speeds = [f"{row[key]:,.0f}" if row[key] else "-" for key in ("training", "reading")]
    steps = row["steps"] or "-"
    console.print(_ROW.format(row["model"], *speeds, steps, "wrong, see below" if row["problem"] else "agrees"))
