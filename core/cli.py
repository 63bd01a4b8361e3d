"""The command line: one subcommand = one settings dataclass = one function.

    python -m core import ~/videos --name kitchen
    python -m core extract --library kitchen
    python -m core train-teacher --preset demo --library kitchen --name kitchen-teacher
    python -m core distill --preset demo --teacher kitchen-teacher --corpus text.txt
    python -m core embed --library kitchen
    python -m core ground --library kitchen --run kitchen-teacher "she stirs the soup"

A preset's values come first, then flags, then `--set field=value`. What a command needs is
imported inside it, so that `--help` answers at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from core import config

app = typer.Typer(
    help="VidLanKD Studio: train a teacher on video, distil it into a language model, look at it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Preset = Annotated[str, typer.Option(help="demo, small or base; without it the fields' defaults.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Set any field; may be repeated."),
]
Library = Annotated[str | None, typer.Option(help="The library's name.")]
Workers = Annotated[int | None, typer.Option(help="Processes side by side.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything drawn at random.")]
Steps = Annotated[int | None, typer.Option(help="Training steps.")]
Runs = Annotated[list[str] | None, typer.Option("--run", help="A run's name; may be repeated.")]


def main() -> None:
    """Run the command line; an error of our own is one red line and exit code 2."""
    try:
        app()
    except Exception as error:
        if not is_expected(error):
            raise
        print_error(str(error))
        # Ctrl-C in training is answered there: what was learned is saved.
        stopped = type(error).__name__ in ("TrainingStopped", "ScoringStopped")
        sys.exit(130 if stopped else 2)


def is_expected(error: Exception) -> bool:
    """Errors that core defines carry a message to act on; all others are faults, shown whole."""
    return type(error).__module__.startswith("core.")


def print_error(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("Error: ", "bold red"), (" ".join(message.split()), "red")))


def settings_of(settings_class: type, preset: str = "", assignments=None, **flags):
    """One command's settings: preset, then the flags that were given, then `--set` values."""
    settings = config.preset(settings_class, preset)
    training = {k: flags.pop(k) for k in ("steps", "training_seed") if k in flags}
    given = {key: value for key, value in flags.items() if value is not None}
    settings = dataclasses.replace(settings, **given)
    for key, value in training.items():
        if value is not None:
            settings = config.apply_overrides(
                settings, [f"training.{key.removeprefix('training_')}={value}"]
            )
    return config.apply_overrides(settings, list(assignments or []))


# ---- commands ---------------------------------------------------------------------------


@app.command()
def demo(
    workers: Workers = None,
    videos: Annotated[int | None, typer.Option(help="How many clips to render.")] = None,
    seed: Seed = None,
    force: Annotated[bool, typer.Option("--force", help="Forget a built demo first.")] = False,
    assignments: Set = None,
) -> None:
    """Render the demo world and take it through every stage below."""
    settings = settings_of(
        config.DemoSettings,
        assignments=assignments,
        workers=workers,
        videos=videos,
        seed=seed,
        force=force or None,
    )
    from core.demo import run_demo

    with progress_bar("demo") as progress:
        run_demo(settings, progress)


@app.command("import")
def import_(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", help="Folder, files, or CSV/JSON manifest.")
    ],
    name: Annotated[str | None, typer.Option(help="The library's name.")] = None,
    captions: Annotated[
        str | None, typer.Option(help="Captions CSV or HowTo100M caption.json.")
    ] = None,
    window_sec: Annotated[
        float | None, typer.Option(help="Videos without text are cut into such windows.")
    ] = None,
    workers: Workers = None,
    assignments: Set = None,
) -> None:
    """Make a library of videos and clips from your files, which stay where they are."""
    settings = settings_of(
        config.ImportSettings,
        assignments=assignments,
        name=name,
        captions=captions,
        window_sec=window_sec,
        workers=workers,
    )
    from core.data.video_library import import_library

    source = sources[0] if len(sources) == 1 else sources
    with progress_bar("import") as progress:
        library = import_library(source, settings, progress)
    for problem in library.problems:
        say(f"[yellow]passed over[/] {escape(problem.file)}: {escape(problem.reason)}")
    say(
        f"Library '{library.name}': {len(library.videos)} videos, {len(library.clips)} clips, "
        f"{len(library.problems)} files passed over. Next: "
        f"python -m core extract --library {library.name}"
    )


@app.command()
def extract(
    library: Library = None,
    frame: Annotated[
        str | None, typer.Option(help="Frame backbone: a catalog, hub or folder name.")
    ] = None,
    temporal: Annotated[str | None, typer.Option(help="Temporal backbone.")] = None,
    decoder: Annotated[str | None, typer.Option(help="pyav or decord.")] = None,
    workers: Workers = None,
    assignments: Set = None,
) -> None:
    """Compute one frame feature and one temporal feature a second, resumably."""
    settings = settings_of(
        config.ExtractSettings,
        assignments=assignments,
        library=library,
        frame_backbone=frame,
        temporal_backbone=temporal,
        decoder=decoder,
        workers=workers,
    )
    from core.extraction.clip_features import extract as extract_features

    with progress_bar("extract") as progress:
        report = extract_features(settings, progress)
    for video, reason in report.failed.items():
        say(f"[yellow]no features[/] {escape(video)}: {escape(reason)}")


@app.command("train-teacher")
def train_teacher(
    preset: Preset = "",
    library: Library = None,
    name: Annotated[str | None, typer.Option(help="The run's name.")] = None,
    streams: Annotated[str | None, typer.Option(help="2d, temporal or 2d+temporal.")] = None,
    steps: Steps = None,
    seed: Seed = None,
    assignments: Set = None,
) -> None:
    """Train video encoder and language encoder on clips with captions."""
    settings = settings_of(
        config.TeacherSettings,
        preset,
        assignments,
        library=library,
        name=name,
        streams=streams,
        steps=steps,
        training_seed=seed,
    )
    from core.training.train_teacher import train_teacher as train

    with progress_bar("train teacher") as progress:
        train(settings, progress)


@app.command()
def distill(
    preset: Preset = "",
    teacher: Annotated[str | None, typer.Option(help="The teacher's run name.")] = None,
    name: Annotated[str | None, typer.Option(help="The student's run name.")] = None,
    corpus: Annotated[
        str | None, typer.Option(help="A text file, one paragraph a line, or 'demo'.")
    ] = None,
    objectives: Annotated[
        str | None, typer.Option(help="nst,crd,…; 'none' for the text-only control.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="One for each objective: 1,0.5")] = None,
    heads: Annotated[
        bool | None, typer.Option("--heads/--no-heads", help="A head for each objective.")
    ] = None,
    steps: Steps = None,
    seed: Seed = None,
    assignments: Set = None,
) -> None:
    """Train a student on text alone, with the frozen teacher's token states as guide."""
    given = [f"objectives={'' if objectives == 'none' else objectives}"] * (objectives is not None)
    given += [f"weights={weights}"] * (weights is not None)
    settings = settings_of(
        config.DistillSettings,
        preset,
        given + list(assignments or []),
        teacher=teacher,
        name=name,
        corpus=corpus,
        heads=heads,
        steps=steps,
        training_seed=seed,
    )
    from core.training.distill_student import distill as train

    with progress_bar("distil") as progress:
        train(settings, progress)


@app.command()
def embed(
    library: Library = None,
    runs: Runs = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows of video at once.")] = None,
    assignments: Set = None,
) -> None:
    """Compute second and clip vectors, their index, and the students' alignment."""
    settings = settings_of(
        config.EmbedSettings,
        assignments=assignments,
        library=library,
        runs=tuple(runs) if runs else None,
        batch_size=batch_size,
    )
    from core.extraction.embeddings import embed as embed_library

    with progress_bar("embed") as progress:
        embed_library(settings, progress)


@app.command()
def ground(
    sentence: Annotated[str, typer.Argument(help="The sentence to ground.")] = "",
    library: Library = None,
    runs: Runs = None,
    top: Annotated[int | None, typer.Option(help="Moments to show for each word.")] = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Measure grounding on held-out videos.")
    ] = False,
    split: Annotated[str | None, typer.Option(help="held-out or all.")] = None,
    bootstrap: Annotated[int | None, typer.Option(help="Bootstrap samples.")] = None,
    seed: Seed = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures to this file.")
    ] = None,
    assignments: Set = None,
) -> None:
    """Show the moments that each word of a sentence means, or measure how often they are right."""
    settings = settings_of(
        config.GroundSettings,
        assignments=assignments,
        library=library,
        sentence=sentence or None,
        top=top,
        evaluate=evaluate or None,
        split=split,
        bootstrap=bootstrap,
        seed=seed,
    )
    from core.analysis import evaluation

    if settings.evaluate:
        reports = evaluation.evaluate_runs(settings, list(runs or []))
        evaluation.print_reports(reports)
        if json_path:
            evaluation.write_json(reports, json_path)
    elif settings.sentence:
        for run in runs or [""]:
            evaluation.print_moments(settings, run)
    else:
        raise config.SettingsError('Wanted a sentence or --evaluate: ground "she stirs the soup".')


@app.command()
def probe(
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Further models.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="piqa, tracie-uniform, demo_physics, …")] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", "--run", help="A run, folder or hub name; may be repeated."),
    ] = None,
    method: Annotated[str | None, typer.Option(help="PLL-word-l2r or PLL.")] = None,
    norm: Annotated[str | None, typer.Option(help="sum, token or char.")] = None,
    split: Annotated[str | None, typer.Option(help="Default: the task's evaluation split.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the tasks' files, or 'hub'.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only a sample of so many items.")] = None,
    seed: Seed = None,
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", metavar="KEY=VALUE", help="Only such items; may be repeated."),
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write all figures here.")
    ] = None,
    csv_path: Annotated[
        Path | None, typer.Option("--csv", help="Write every item's answers here.")
    ] = None,
    assignments: Set = None,
) -> None:
    """Ask models a task without training them for it, and compare them on the same items.

    Scores are kept: what was computed once is never computed again.
    """
    names = [name for given in [*(models or []), *(more or [])] for name in given.split(",")]
    settings = settings_of(
        config.ProbeSettings,
        assignments=assignments,
        task=task,
        models=tuple(names) or None,
        method=method,
        norm=norm,
        split=split,
        data=data,
        limit=limit,
        seed=seed,
        slice=tuple(slices) if slices else None,
    )
    from core import zero_shot
    from core.analysis import probe_report

    with progress_bar("probe") as progress:
        report = zero_shot.probe(settings, progress)
    say(f"[bold]{escape(probe_report.title(report))}[/]")
    print_table(*probe_report.score_rows(report), empty="")
    if len(report.pairs):
        say("")
        print_table(*probe_report.pair_rows(report), empty="")
    say(probe_report.effort(report))
    if json_path:
        probe_report.write_json(report, json_path)
    if csv_path:
        probe_report.write_csv(report, csv_path)


@app.command("fine-tune")
def fine_tune(
    task: Annotated[
        str | None, typer.Option(help="tracie-uniform, sst2, piqa, squad-v2, …")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", "--model", help="A run, 'minilm', a folder or hub name."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Several: one may collapse.")] = "0,1,2",
    data: Annotated[str | None, typer.Option(help="Folder of the tasks' files, or 'hub'.")] = None,
    train_split: Annotated[str | None, typer.Option(help="Default: the task's own.")] = None,
    split: Annotated[str | None, typer.Option(help="Default: the task's evaluation split.")] = None,
    limit: Annotated[int | None, typer.Option(help="Learn from a sample of so many.")] = None,
    name: Annotated[str | None, typer.Option(help="Begin of the runs' names.")] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write all figures here.")
    ] = None,
    assignments: Set = None,
) -> None:
    """Train encoders for a task, each with several seeds, and judge their answers."""
    settings = settings_of(
        config.FineTuneSettings,
        assignments=assignments,
        task=task,
        data=data,
        train_split=train_split,
        evaluate_split=split,
        limit=limit,
        name=name,
    )
    from core.analysis import fine_tuned
    from core.training.fine_tune import fine_tune_seeds

    names = [part for given in models or [settings.model] for part in given.split(",")]
    numbers = config.parsed("seeds", seeds, tuple[int, ...])
    with progress_bar("fine-tune") as progress:
        runs = fine_tune_seeds(settings, names, numbers, progress)
    report = fine_tuned.report(runs)
    for title, columns, rows in fine_tuned.tables(report):
        say(f"[bold]{escape(title)}[/]")
        print_table(columns, rows, empty="")
    for note in report["notes"]:
        say(escape(note))
    if json_path:
        json_path.write_text(json.dumps(report, indent=1) + "\n")


@app.command("layer-probe")
def layer_probe(
    task: Annotated[str | None, typer.Option(help="A classification task: sst2, qnli, …")] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", "--model", help="A run, 'minilm', a folder or hub name."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the tasks' files, or 'hub'.")] = None,
    limit: Annotated[int | None, typer.Option(help="Learn from a sample of so many.")] = None,
    pooling: Annotated[str | None, typer.Option(help="mean or cls.")] = None,
    seed: Seed = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write all figures here.")
    ] = None,
    assignments: Set = None,
) -> None:
    """Read a task off the frozen states of every layer, with a control task and code lengths."""
    settings = settings_of(
        config.LayerProbeSettings,
        assignments=assignments,
        task=task,
        data=data,
        limit=limit,
        pooling=pooling,
        seed=seed,
    )
    from core.analysis import layer_probes
    from core.extraction.layer_states import probe_model

    names = [part for given in models or [] for part in given.split(",")]
    if not names:
        raise config.SettingsError("Wanted a model. Give: --models demo-teacher,minilm")
    with progress_bar("layer-probe") as progress:
        found = [probe_model(name, settings, progress) for name in names]
    for content in found:
        say(f"[bold]{escape(layer_probes.title(content))}[/]")
        print_table(layer_probes.COLUMNS, layer_probes.table_rows(content), empty="")
    if json_path:
        json_path.write_text(json.dumps(found, indent=1) + "\n")


@app.command()
def ablate(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="A YAML file or a shipped plan.")],
    preset: Preset = "",
    workers: Workers = 2,
    assignments: Set = None,
) -> None:
    """Train and probe a grid of teachers and students over seeds, and compare them.

    --set takes student.FIELD=VALUE, teacher.FIELD=VALUE, or a field of the plan: seeds=0,1.
    """
    from core.analysis.ablation import ablation_table, as_markdown
    from core.config import as_dict
    from core.training import ablate as grid

    chosen = grid.load_plan(plan, assignments or [], preset)
    with progress_bar("ablate") as progress:
        folder = grid.ablate(chosen, 2 if workers is None else workers, progress)
    say(escape(as_markdown(ablation_table(chosen.name), as_dict(chosen))))
    say(f"Written to {escape(str(folder))}")


@app.command()
def project(
    sources: Annotated[
        list[str] | None,
        typer.Option("--source", help="demo, a text file, or a library; may be repeated."),
    ] = None,
    kinds: Annotated[str | None, typer.Option("--kind", help="tokens,words,clips,seconds")] = None,
    runs: Runs = None,
    layer: Annotated[
        str | None, typer.Option(help="joint, or a hidden layer: 0 the embeddings, 1 …")
    ] = None,
    methods: Annotated[str | None, typer.Option("--method", help="pca,umap,tsne")] = None,
    name: Annotated[str | None, typer.Option(help="The source's name on the page.")] = None,
    limit: Annotated[int | None, typer.Option(help="Most points.")] = None,
    seed: Seed = None,
    parallel: Annotated[
        bool, typer.Option("--parallel", help="UMAP on all cores, no two maps alike.")
    ] = False,
    assignments: Set = None,
) -> None:
    """Map words in context, word types, clips or seconds as runs see them."""
    settings = settings_of(
        config.ProjectSettings,
        assignments=[f"kinds={kinds}"] * (kinds is not None)
        + [f"methods={methods}"] * (methods is not None)
        + list(assignments or []),
        sources=tuple(sources) if sources else None,
        runs=tuple(runs) if runs else None,
        layer=layer,
        name=name,
        limit=limit,
        seed=seed,
        parallel=parallel or None,
    )
    from core.data.point_store import list_methods, load_projection
    from core.extraction.point_maps import project as make_maps

    with progress_bar("project") as progress:
        made = make_maps(settings, progress)
    rows = [
        (points.source, points.kind, points.run, points.layer, f"{len(points):,}", method)
        + (f"{shown.trustworthiness:.3f}", f"{shown.neighbour_preservation:.3f}")
        for points in made
        for method in list_methods(points)
        for shown in [load_projection(points, method)]
    ]
    columns = ("source", "kind", "run", "layer", "points", "map", "trustworthiness", "kept")
    print_table(columns, rows, empty="Nothing was mapped.")


@app.command()
def runs() -> None:
    """List the trained models."""
    from core.models.run_folder import list_runs

    rows = [
        (run.name, run.kind, "+".join(run.objectives), run.state, f"{run.step}/{run.steps}")
        for run in list_runs()
    ]
    columns = ("run", "kind", "objectives", "state", "steps")
    print_table(columns, rows, empty="No runs yet: python -m core train-teacher")


@app.command()
def libraries() -> None:
    """List the imported libraries."""
    from core.data.video_library import list_libraries, load_library

    rows = [
        (library.name, str(len(library.videos)), str(len(library.clips)))
        for library in map(load_library, list_libraries())
    ]
    print_table(("library", "videos", "clips"), rows, empty="No libraries: python -m core import")


# ---- what is shown -----------------------------------------------------------------------


def escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def say(message: str) -> None:
    from rich.console import Console

    Console(soft_wrap=True, highlight=False).print(message)


def print_table(columns: tuple[str, ...], rows: list[tuple[str, ...]], empty: str) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        say(empty)
        return
    table = Table(box=None)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    # A file or pipe has no width: there nothing is to be cut.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200
    Console(width=width).print(table)


@contextmanager
def progress_bar(title: str):
    """Yield a `progress(done, total, message)` that draws one bar with rate and time left.

    Without a terminal it writes a plain line every few seconds. Of several processes only
    rank 0 speaks.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        yield lambda done, total, message="": None
    elif sys.stderr.isatty():
        yield from _drawn_bar(title)
    else:
        # The app reads these lines for a progress bar of its own and asks for more of them.
        yield PlainProgress(title, float(os.environ.get("VIDLANKD_PROGRESS_SEC", "5")))


def _drawn_bar(title: str):
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("[bold]{task.fields[title]}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeElapsedColumn(),
        bars.TextColumn("left"),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.description}"),
    )
    with bars.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", title=title, rate="", total=None)

        def progress(done: int, total: int, message: str = "") -> None:
            speed = bar.tasks[task].speed
            rate = f"{speed:.3g}/s" if speed else ""
            bar.update(task, completed=done, total=total, description=escape(message), rate=rate)

        yield progress


class PlainProgress:
    """One line now and then, for logs and pipes."""

    def __init__(self, title: str, every_sec: float = 5.0):
        self.title, self.every_sec = title, every_sec
        self.began = time.monotonic()
        self.spoke = -every_sec
        self.last = (-1, -1)

    def __call__(self, done: int, total: int, message: str = "") -> None:
        elapsed = time.monotonic() - self.began
        finished = done >= total and (done, total) != self.last
        if not finished and elapsed - self.spoke < self.every_sec:
            return
        self.spoke, self.last = elapsed, (done, total)
        rate = done / elapsed if elapsed > 0 else 0.0
        left = f"{(total - done) / rate:.0f} s left" if rate > 0 else "time left unknown"
        print(
            f"{self.title}: {done}/{total}  {rate:.3g}/s  {left}  {message}".rstrip(),
            file=sys.stderr,
            flush=True,
        )
