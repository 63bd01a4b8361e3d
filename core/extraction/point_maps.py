"""`python -m core project`: point sets and their maps, teacher, students and control side by side.

Every run gets a map of its own by each method, laid on its teacher's map of the same points. In
the joint space it gets a second one, "-shared": its points placed on the teacher's own map, where
a point that moved has moved in the space and not with the map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from core.analysis.manifold_maps import UmapOptions, fit_tsne, fit_umap, place
from core.analysis.map_quality import map_quality
from core.analysis.projections import (
    Axes,
    fit_pca,
    place_by_axes,
    procrustes,
    sample_stratified,
)
from core.config import ProjectSettings, SettingsError
from core.data import point_store
from core.data.point_store import KINDS, METHODS, SHARED
from core.extraction.embeddings import part_of
from core.extraction.point_sets import PointSets
from core.inference import encoder_hash, teacher_of
from core.models.run_folder import RunFolder, list_runs
from core.records import PointSet, Projection

Progress = Callable[[int, int, str], None]

VERSION = 2  # of the methods: raise it when a map would come out otherwise
TEXT_KINDS = ("tokens", "words")
TEXT_RUNS = ("teacher", "student")  # kinds of runs that have a place in the joint space


def project(settings: ProjectSettings, progress: Progress | None = None) -> list[PointSet]:
    """Make the sets and maps that are missing, and return all the sets.

    What was made before from the same weights, text and settings is kept. Raises SettingsError,
    RunError, AlignmentError and CacheError with what to do next.
    """
    progress = progress or (lambda done, total, message: None)
    _check(settings)
    runs = _ordered(settings.runs or default_runs())
    sets = PointSets(settings, runs)
    jobs = [(kind, run) for kind in settings.kinds for run in _able(kind, runs)]
    if not jobs:
        raise SettingsError("Clips and seconds are seen by teachers: give a teacher's --run.")
    made: list[PointSet] = []
    for number, (kind, run) in enumerate(jobs):
        inside = part_of(progress, number, len(jobs))
        made.append(sets.point_set(kind, run, part_of(inside, 0, 2)))
        _map_all(made[-1], _reference(made[-1]), settings, part_of(inside, 1, 2))
    progress(1000 * len(jobs), 1000 * len(jobs), "projected")
    return made


def default_runs() -> list[str]:
    """The last finished teacher and its finished students."""
    done = [run for run in list_runs() if run.state == "finished" and run.kind in TEXT_RUNS]
    teachers = [run.name for run in done if run.kind == "teacher"]
    if not teachers:
        raise SettingsError("No finished teacher. Run: python -m core train-teacher")
    students = [run.name for run in done if run.kind == "student"]
    own = [name for name in students if teacher_of(RunFolder.open(name)) == teachers[-1]]
    return [teachers[-1], *own]


def _check(settings: ProjectSettings) -> None:
    for what, wanted, known in (
        ("kind", settings.kinds, KINDS),
        ("method", settings.methods, METHODS),
    ):
        if odd := [name for name in wanted if name not in known]:
            raise SettingsError(f"Unknown {what} '{odd[0]}'. Known: {', '.join(known)}.")
    if settings.limit < 3:
        raise SettingsError(f"A map wants at least 3 points, found --limit {settings.limit}.")


def _ordered(runs: Sequence[str]) -> list[str]:
    """Teachers first: their maps are what the others are laid on."""
    return sorted(dict.fromkeys(runs), key=lambda run: RunFolder.open(run).kind != "teacher")


def _able(kind: str, runs: Sequence[str]) -> list[str]:
    return [run for run in runs if kind in TEXT_KINDS or RunFolder.open(run).kind == "teacher"]


def _reference(own: PointSet) -> PointSet | None:
    """The teacher's set of the same points, when there is one and it is not the set itself."""
    teacher = teacher_of(RunFolder.open(own.run))
    if teacher == own.run:
        return None
    weights = encoder_hash(RunFolder.open(teacher))
    alike = ("source", "kind", "layer", "rows_hash")
    found = [
        points
        for points in point_store.list_point_sets()
        if points.run == teacher
        and points.made_from["encoder"] == weights
        and all(getattr(points, name) == getattr(own, name) for name in alike)
    ]
    return found[-1] if found else None


# ---- maps of one set ---------------------------------------------------------------------------


def _map_all(
    points: PointSet, reference: PointSet | None, settings: ProjectSettings, progress: Progress
) -> None:
    shown = point_store.list_methods(reference) if reference is not None else []
    names: list[str] = []
    for method in settings.methods:
        names.append(method)
        if method in shown and points.layer == "joint":
            names.append(method + SHARED)
    for number, name in enumerate(names):
        inside = part_of(progress, number, len(names))
        inside(0, 1, f"{name} of {points.kind} of {points.run}")
        beside = reference if name.removesuffix(SHARED) in shown else None
        _map(points, beside, name, settings, inside)


def _map(
    points: PointSet,
    reference: PointSet | None,
    name: str,
    settings: ProjectSettings,
    progress: Progress,
) -> None:
    method = name.removesuffix(SHARED)
    wanted = _parameters(points, reference, name, settings)
    if name in point_store.list_methods(points):
        kept = point_store.load_projection(points, name).parameters
        if wanted.items() <= kept.items():
            return
    beside = point_store.load_projection(reference, method) if reference is not None else None
    if name.endswith(SHARED):
        made = _shared_map(points, reference, beside, progress)
    elif method == "pca":
        made = _pca_map(points, beside)
    else:
        made = _fitted_map(points, beside, method, settings, progress)
    coordinates, extra, figures = made
    quality = map_quality(points.vectors, coordinates, seed=settings.seed)
    point_store.write_projection(
        points,
        Projection(
            name,
            coordinates,
            wanted | figures,
            quality.trustworthiness,
            quality.neighbour_preservation,
            quality.queries,
            quality.neighbours,
            **extra,
        ),
    )


def _parameters(points: PointSet, reference, name: str, settings: ProjectSettings) -> dict:
    """What a kept map must have been made with."""
    method = name.removesuffix(SHARED)
    chosen = {
        "pca": {},
        "umap": {
            "neighbours": settings.neighbours,
            "min_dist": settings.min_dist,
            "fit_points": settings.fit_points,
            "parallel": settings.parallel,
        },
        "tsne": {"perplexity": settings.perplexity, "fit_points": settings.tsne_points},
    }[method]
    return chosen | {
        "version": VERSION,
        "seed": settings.seed,
        "aligned_to": reference.run if reference is not None else "",
        "reference_hash": reference.hash if reference is not None else "",
    }


def _pca_map(points: PointSet, beside: Projection | None):
    axes = fit_pca(points.vectors)
    affine = _affine(axes)
    figures: dict = {"explained": [round(share, 4) for share in axes.explained]}
    if beside is not None:
        turn = procrustes(axes(points.vectors), beside.coordinates)
        linear = turn.matrix.T @ affine[:, :-1]
        affine = np.column_stack([linear, turn.matrix.T @ affine[:, -1] + turn.shift])
        figures["disparity"] = round(turn.disparity, 4)
    affine = affine.astype(np.float32)
    return place_by_axes(points.vectors, affine), {"axes": affine}, figures


def _affine(axes: Axes) -> np.ndarray:
    """[2, D + 1]: the axes, and what to add to a vector's products with them."""
    return np.column_stack([axes.components, -axes.components @ axes.mean])


def _fitted_map(points, beside, method: str, settings: ProjectSettings, progress: Progress):
    """UMAP or t-SNE of a sample, begun at the teacher's places; the other points placed between."""
    size = settings.fit_points if method == "umap" else settings.tsne_points
    sample = _sample(points, size, settings.seed)
    vectors = np.asarray(points.vectors[sample], np.float32)
    start = None if beside is None else beside.coordinates[sample]
    places = _fit(method, vectors, start, settings)
    figures: dict = {"fitted_on": len(sample)}
    if start is not None:
        turn = procrustes(places, start)
        places = turn(places)
        figures["disparity"] = round(turn.disparity, 4)
    coordinates = np.empty((len(points), 2), np.float32)
    coordinates[sample] = places
    rest = np.setdiff1d(np.arange(len(points)), sample, assume_unique=True)
    coordinates[rest] = place(points.vectors[rest], vectors, places, progress=progress)
    return coordinates, {"sample": sample}, figures


def _fit(method: str, vectors: np.ndarray, start, settings: ProjectSettings) -> np.ndarray:
    if method == "tsne":
        return fit_tsne(vectors, settings.perplexity, settings.seed, start, settings.parallel)
    seed = None if settings.parallel else settings.seed
    return fit_umap(vectors, UmapOptions(settings.neighbours, settings.min_dist, seed), start)


def _sample(points: PointSet, size: int, seed: int) -> np.ndarray:
    """Rows to fit on: every word in its share. Equal points, equal rows, whatever the run."""
    texts = point_store.read_points(points, ["text"])["text"]
    codes = texts.combine_chunks().indices.to_numpy()
    return sample_stratified(codes, size, seed)


def _shared_map(points: PointSet, reference: PointSet, beside: Projection, progress: Progress):
    """The points where the teacher's map has room for their vectors."""
    if beside.axes is not None:
        return place_by_axes(points.vectors, beside.axes), {"axes": beside.axes}, {}
    fitted = beside.sample if beside.sample is not None else np.arange(len(reference))
    vectors = np.asarray(reference.vectors[fitted], np.float32)
    coordinates = place(
        points.vectors, vectors, np.asarray(beside.coordinates[fitted]), progress=progress
    )
    return coordinates, {"sample": beside.sample}, {}
