"""The import rule of ARCHITECTURE.md, checked on the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Lower floors first. A module may import from its own floor and from those below it.
FLOORS = [
    {"core.records", "core.config", "core.orphans"},
    {"core.losses"},
    {"core.models"},
    # Importing a library looks into its videos, so decoding stands below it.
    {"core.extraction.pictures", "core.extraction.video_file", "core.extraction.decoding"},
    {"core.data", "core.feature_cache"},
    {"core.extraction", "core.inference", "core.scoring", "core.score_cache", "core.analysis"},
    {"core.training", "core.microscope_states", "core.zero_shot"},
    {"core.cli", "core.demo", "core.__main__"},
    {"app"},
    {"pages"},
]
# May be used by every floor of core above it, though it stands on the same shelf as others.
NO_TORCH = ["pages", "core/analysis", "core/records.py", "core/config.py", "core/feature_cache.py"]


def source_files() -> list[Path]:
    return [p for room in ("core", "app", "pages") for p in sorted((ROOT / room).rglob("*.py"))]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported_modules(path: Path, top_level_only: bool = False) -> list[str]:
    """Modules that a file imports; imports for type checking only do not count."""
    tree = ast.parse(path.read_text())
    skip = {id(n) for guard in ast.walk(tree) if _is_type_checking(guard) for n in ast.walk(guard)}
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = []
    for node in nodes:
        if id(node) in skip:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def floor_of(module: str) -> int | None:
    for number, floor in enumerate(FLOORS):
        if any(module == room or module.startswith(room + ".") for room in floor):
            return number
    return None


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_imports_go_downward_only(path):
    own = floor_of(module_name(path))
    upward = [
        name
        for name in imported_modules(path)
        if own is not None and (other := floor_of(name)) is not None and other > own
    ]
    assert not upward, f"{module_name(path)} imports from a higher floor: {upward}"


@pytest.mark.parametrize("path", source_files(), ids=module_name)
def test_core_knows_no_streamlit(path):
    if path.is_relative_to(ROOT / "core"):
        assert not [n for n in imported_modules(path) if n.split(".")[0] == "streamlit"]


@pytest.mark.parametrize("place", NO_TORCH)
def test_pages_and_analysis_import_no_torch(place):
    target = ROOT / place
    for path in sorted(target.rglob("*.py")) if target.is_dir() else [target]:
        heavy = [n for n in imported_modules(path) if n.split(".")[0] in ("torch", "transformers")]
        assert not heavy, f"{module_name(path)} imports {heavy}"


def test_every_module_has_a_floor():
    homeless = [module_name(p) for p in source_files() if floor_of(module_name(p)) is None]
    assert [m for m in homeless if m not in ("core.__init__", "app.__init__")] == []
