"""The only reader and writer of feature and embedding entries under cached_features/.

An entry maps keys to arrays [rows, dim] and keeps, for keys that have none, the reason why.

    plan.json           which keys go into which shard; written first
    shards/00000.npy    the rows of a shard's keys, one key after another [rows, dim]
    shards/00000.parquet  key, row, rows, reason, sha256; written after the .npy: the commit mark
    index.parquet       all shards' tables in one, so that opening reads one file, not thousands
    manifest.json       checksums of all the above; written last and atomically

Readers trust the manifest alone, so a crash at any moment leaves either no entry or a whole
one. An entry that is being extended is still read as it was before. Bytes do not depend on
who wrote which shard, nor on how often the work was interrupted: nothing holds a time or an id.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.orphans import is_alive

FORMAT = 1
KEYS_PER_SHARD = 16  # little is lost at a crash, and workers share even a small library
MOST_SHARDS = 128  # of short keys: beyond 2,048 keys the shards grow, not their number
ROWS_PER_SHARD = 2048
OPEN_SHARDS = 128  # memory maps kept open; each holds a file handle, of which 1,024 is usual

_TABLE = pa.schema(
    [
        ("key", pa.string()),
        ("row", pa.int64()),
        ("rows", pa.int64()),
        ("reason", pa.string()),
        ("sha256", pa.string()),
    ]
)


class CacheError(RuntimeError):
    """An entry that cannot be used as it is; the message has the command that mends it."""


@dataclass(frozen=True)
class Shard:
    """A part of an entry that one worker writes at once."""

    index: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class _ShardFacts:
    """What is recorded of a shard's files when it is written."""

    rows: int
    dim: int  # 0 when every key of the shard failed
    npy_bytes: int
    npy_sha256: str


def entry_name(kind: str, name: str, settings: dict) -> str:
    """`kind-name-hash8`: the folder of an entry; the hash is over the canonical settings."""
    return f"{kind}-{_slug(name)}-{settings_hash(settings)[:8]}"


def settings_hash(settings: dict) -> str:
    """sha256 of the settings as canonical JSON, hex."""
    return hashlib.sha256(_canonical(settings)).hexdigest()


def find_entries(library_root: Path, kind: str, name: str) -> list[Path]:
    """Folders of all entries of one kind and name whatever their settings, sorted."""
    pattern = re.compile(re.escape(f"{kind}-{_slug(name)}-") + "[0-9a-f]{8}")
    if not library_root.is_dir():
        return []
    return sorted(p for p in library_root.iterdir() if p.is_dir() and pattern.fullmatch(p.name))


class FeatureCache:
    """One entry. Writers come from `create` or `planned`, readers from `open`."""

    def __init__(self, directory: Path, plan: dict):
        self.directory = Path(directory)
        self.settings: dict = plan["settings"]
        self.command: str = plan["command"]
        self.dtype = np.dtype(plan["dtype"])
        self.failed: dict[str, str] = {}
        self.dim = 0
        self._shards = [tuple(keys) for keys in plan.get("shards", [])]
        self._places: dict[str, tuple[int, int, int]] | None = None  # of a reader: shard, row, rows
        self._facts: list[_ShardFacts] = []
        self._map_shard = functools.lru_cache(maxsize=OPEN_SHARDS)(self._open_shard)

    # ---- writing -----------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        settings: dict,
        keys: Iterable[str],
        weights: Mapping[str, float] | None = None,
        dtype: str = "float16",
        command: str,
    ) -> FeatureCache:
        """Plan an entry, or go on with one: keys that an existing plan lacks get new shards.

        `weights` are the rows to expect of a key; they only even out the shards.
        Raises CacheError when an entry with other settings lies there.
        """
        directory = Path(directory)
        (directory / "shards").mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            plan = _planned_before(directory, command)
            if plan is None:
                plan = _new_plan(settings, dtype, command)
            _refuse_other_settings(directory, plan, _new_plan(settings, dtype, command))
            known = {key for shard in plan["shards"] for key in shard}
            fresh = sorted(set(keys) - known)
            plan["shards"] += _chunks(fresh, weights or {})
            _write_json_if_changed(directory / "plan.json", plan)
        return cls(directory, plan)

    @classmethod
    def planned(cls, directory: Path) -> FeatureCache:
        """A writer for an entry that `create` has planned; for worker processes."""
        plan = _planned_before(Path(directory), "")
        if plan is None:
            raise CacheError(f"No plan at {directory}: plan the entry with FeatureCache.create.")
        return cls(Path(directory), plan)

    def retry(self, keys: Iterable[str]) -> None:
        """Plan another attempt at keys that failed; what it brings replaces the failure."""
        with _locked(self.directory):
            plan = _planned_before(self.directory, self.command)
            plan["shards"] += _chunks(sorted(keys), {})
            _write_json_if_changed(self.directory / "plan.json", plan)
            self._shards = [tuple(shard) for shard in plan["shards"]]

    @property
    def shards(self) -> list[Shard]:
        """All planned shards."""
        return [Shard(i, keys) for i, keys in enumerate(self._shards)]

    def pending_shards(self, verify: str = "quick") -> list[Shard]:
        """Shards that are not written yet, or (verify="full") no longer hold what was written."""
        return [s for s in self.shards if not self._is_written(s, verify)]

    def failures(self) -> dict[str, str]:
        """Failed keys and reasons in the shards written so far, finished or not."""
        failed: dict[str, str] = {}
        for shard in self.shards:
            path = self._path(shard.index, "parquet")
            if not path.exists():
                continue
            for row in pq.read_table(path).to_pylist():
                failed.pop(row["key"], None)
                if row["reason"]:
                    failed[row["key"]] = row["reason"]
        return failed

    def write_shard(
        self,
        index: int,
        arrays: Mapping[str, np.ndarray],
        failed: Mapping[str, str] | None = None,
    ) -> None:
        """Write one shard: an array [rows, dim] or a reason for each of its keys.

        Raises ValueError for keys that are not the shard's, and for arrays that are empty,
        of unequal width, not finite, or not finite any more in the cache's dtype.
        """
        failed = dict(failed or {})
        keys = self._shards[index]
        _check_keys(index, keys, arrays, failed)
        parts = {key: _as_rows(key, arrays[key], self.dtype) for key in keys if key in arrays}
        data = _stack(parts, self.dtype)
        npy = _npy_bytes(data)
        facts = _ShardFacts(len(data), data.shape[1], len(npy), hashlib.sha256(npy).hexdigest())
        table = _shard_table(keys, parts, failed)
        # The rows go first: the table beside them says that they are whole.
        _write_atomically(self._path(index, "npy"), npy)
        _write_atomically(self._path(index, "parquet"), _parquet_bytes(table, facts))

    def finish(self) -> FeatureCache:
        """Check every shard against its checksums, write the manifest, return the reader.

        Raises CacheError when shards are missing or damaged (damaged ones become pending).
        """
        with _locked(self.directory):
            checked = [self._checked_shard(shard) for shard in self.shards]
            facts = [f for _, f in checked]
            index = _parquet_bytes(_index_table([table for table, _ in checked]))
            _write_atomically_if_changed(self.directory / "index.parquet", index)
            manifest = {
                "format": FORMAT,
                "settings": self.settings,
                "command": self.command,
                "dtype": self.dtype.name,
                "dim": self._common_dim(facts),
                "index": {"bytes": len(index), "sha256": hashlib.sha256(index).hexdigest()},
                "shards": [self._manifest_line(i, f) for i, f in enumerate(facts)],
            }
            _write_json_if_changed(self.directory / "manifest.json", manifest)
            _remove_abandoned_files(self.directory)
        return FeatureCache.open(self.directory)

    # ---- reading -----------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        directory: Path,
        verify: str = "quick",
        *,
        settings: dict | None = None,
        command: str = "python -m core extract",
    ) -> FeatureCache:
        """Open a finished entry for reading.

        "quick" compares sizes and array headers, "full" the checksums as well. Raises
        CacheError for an entry that is missing, unfinished, damaged, of another format, or
        made with other settings than those given.
        """
        if verify not in ("quick", "full"):
            raise ValueError(f"verify is 'quick' or 'full', not '{verify}'.")
        directory = Path(directory)
        manifest = _read_manifest(directory, command)
        if settings is not None and _canonical(settings) != _canonical(manifest["settings"]):
            raise _error("Stale", directory, "it was made with other settings", manifest["command"])
        cache = cls(directory, manifest | {"shards": []})
        cache.dim = manifest["dim"]
        cache._check_files(manifest, verify)
        cache._read_index(manifest)
        return cache

    def keys(self) -> list[str]:
        """Keys that have an array, sorted."""
        return sorted(self._read_places())

    def __contains__(self, key: str) -> bool:
        return key in self._read_places()

    def __len__(self) -> int:
        return len(self._read_places())

    def num_rows(self, key: str) -> int:
        """Rows of a key, from the index: no array is touched."""
        return self._place(key)[2]

    def read(self, key: str) -> np.ndarray:
        """The key's array [rows, dim]: a read-only view of the memory-mapped shard.

        Copy what is to be kept for long: every view that lives holds its shard's file open.
        """
        shard, row, rows = self._place(key)
        return self._map_shard(shard)[row : row + rows]

    def is_complete(self) -> bool:
        """Whether the manifest covers everything that is planned by now."""
        plan = _planned_before(self.directory, self.command)
        return plan is not None and len(plan["shards"]) == len(self._facts)

    # ---- inside ------------------------------------------------------------------------

    def _path(self, index: int, suffix: str) -> Path:
        return self.directory / "shards" / f"{index:05d}.{suffix}"

    def _place(self, key: str) -> tuple[int, int, int]:
        places = self._read_places()
        if key in places:
            return places[key]
        if key in self.failed:
            raise CacheError(f"'{key}' has no rows in {self.directory}: {self.failed[key]}")
        raise CacheError(f"'{key}' is not in {self.directory}. Run: {self.command}")

    def _read_places(self) -> dict[str, tuple[int, int, int]]:
        if self._places is None:
            raise CacheError(
                f"{self.directory} is open for writing; read it with FeatureCache.open."
            )
        return self._places

    def _open_shard(self, index: int) -> np.ndarray:
        path = self._path(index, "npy")
        facts = self._facts[index]
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except (FileNotFoundError, ValueError) as error:
            raise _error("Damaged", path, str(error), self.command) from error
        if rows.shape != (facts.rows, facts.dim) or rows.dtype != self.dtype:
            raise _error("Damaged", path, f"found {rows.dtype} {rows.shape}", self.command)
        return rows

    def _is_written(self, shard: Shard, verify: str) -> bool:
        try:
            table, facts = self._read_table(shard.index)
            _check_array_file(self._path(shard.index, "npy"), facts, self.dtype, verify)
        except (OSError, ValueError, pa.ArrowException):
            return False
        return tuple(table["key"].to_pylist()) == shard.keys

    def _read_table(self, index: int) -> tuple[pa.Table, _ShardFacts]:
        table = pq.read_table(self._path(index, "parquet"), partitioning=None)
        recorded = (table.schema.metadata or {}).get(b"shard")
        if recorded is None or not table.schema.equals(_TABLE, check_metadata=False):
            raise ValueError("not a table that this cache wrote")
        return table, _ShardFacts(**json.loads(recorded))

    def _checked_shard(self, shard: Shard) -> tuple[pa.Table, _ShardFacts]:
        """Table and facts of a written shard, its bytes read and compared."""
        if not self._is_written(shard, "full"):
            # Without its commit mark the shard is pending, and the same command writes it anew.
            self._path(shard.index, "parquet").unlink(missing_ok=True)
            what = f"shard {shard.index} of {len(self._shards)} is missing or damaged"
            raise _error("Unfinished", self.directory, what, self.command)
        return self._read_table(shard.index)

    def _common_dim(self, facts: list[_ShardFacts]) -> int:
        widths = sorted({f.dim for f in facts if f.rows})
        if len(widths) > 1:
            what = f"its shards have different widths {widths}; delete the folder first"
            raise _error("Damaged", self.directory, what, self.command)
        return widths[0] if widths else 0

    def _manifest_line(self, index: int, facts: _ShardFacts) -> dict:
        table = self._path(index, "parquet").read_bytes()
        return vars(facts) | {
            "parquet_bytes": len(table),
            "parquet_sha256": hashlib.sha256(table).hexdigest(),
        }

    def _check_files(self, manifest: dict, verify: str) -> None:
        index = manifest["index"]
        try:
            _check_file(self.directory / "index.parquet", index["bytes"], index["sha256"], verify)
            for i, line in enumerate(manifest["shards"]):
                facts = _ShardFacts(*(line[k] for k in ("rows", "dim", "npy_bytes", "npy_sha256")))
                self._facts.append(facts)
                _check_array_file(self._path(i, "npy"), facts, self.dtype, verify)
                table = self._path(i, "parquet")
                _check_file(table, line["parquet_bytes"], line["parquet_sha256"], verify)
        except (OSError, ValueError) as error:
            raise _error("Damaged", self.directory, str(error), self.command) from error

    def _read_index(self, manifest: dict) -> None:
        path = self.directory / "index.parquet"
        try:
            # The index is small and everything hangs on it, so it is always read against its sum.
            _check_file(path, manifest["index"]["bytes"], manifest["index"]["sha256"], "full")
            columns = pq.read_table(path, partitioning=None).to_pydict()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise _error("Damaged", self.directory, str(error), self.command) from error
        self._places = {}
        names = ("key", "shard", "row", "rows", "reason")
        for key, shard, row, rows, reason in zip(*(columns[name] for name in names)):
            if reason:
                self.failed[key] = reason
                continue
            # A later shard is another attempt at a key that failed before.
            self.failed.pop(key, None)
            self._places[key] = (shard, row, rows)


# ---- plans -------------------------------------------------------------------------------


def _new_plan(settings: dict, dtype: str, command: str) -> dict:
    plan = {"format": FORMAT, "settings": settings, "dtype": np.dtype(dtype).name}
    return json.loads(_canonical(plan | {"command": command, "shards": []}))


def _planned_before(directory: Path, command: str) -> dict | None:
    path = directory / "plan.json"
    if not path.exists():
        return None
    try:
        plan = json.loads(path.read_bytes())
        if plan["format"] != FORMAT:
            raise ValueError(f"format {plan['format']}, wanted {FORMAT}")
        if not {"settings", "dtype", "command", "shards"} <= plan.keys():
            raise ValueError("it lacks fields")
    except (ValueError, KeyError, TypeError) as error:
        what = f"plan.json cannot be read ({error}); delete the folder first"
        raise _error("Damaged", directory, what, command) from error
    return plan


def _refuse_other_settings(directory: Path, found: dict, wanted: dict) -> None:
    for part in ("settings", "dtype"):
        if found[part] != wanted[part]:
            raise CacheError(
                f"{directory} was planned with other {part}. Wanted {wanted[part]}, found "
                f"{found[part]}. Delete that folder, then run: {wanted['command']}"
            )


def _chunks(keys: list[str], weights: Mapping[str, float]) -> list[list[str]]:
    """Sorted keys cut into shards of 16 keys (more in large entries) and ROWS_PER_SHARD rows."""
    shards: list[list[str]] = []
    rows = 0.0
    most_keys = max(KEYS_PER_SHARD, -(-len(keys) // MOST_SHARDS))
    for key in keys:
        weight = weights.get(key, 1.0)
        full = not shards or len(shards[-1]) == most_keys or rows + weight > ROWS_PER_SHARD
        if full:
            shards.append([])
            rows = 0.0
        shards[-1].append(key)
        rows += weight
    return shards


# ---- shards ------------------------------------------------------------------------------


def _check_keys(index: int, keys, arrays: Mapping, failed: Mapping) -> None:
    given = [*arrays, *failed]
    if sorted(given) != sorted(keys):
        lacking, odd = sorted(set(keys) - set(given)), sorted(set(given) - set(keys))
        twice = sorted(set(arrays) & set(failed))
        raise ValueError(f"Shard {index}: lacks {lacking}, does not own {odd}, has twice {twice}.")
    for key, reason in failed.items():
        if not reason:
            raise ValueError(f"'{key}' is given as failed without a reason.")


def _as_rows(key: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The array [rows, dim] in the cache's dtype, contiguous, finite."""
    array = np.asarray(array)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"'{key}': wanted rows [rows, dim], found shape {array.shape}.")
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(array, dtype=dtype)
    if not np.isfinite(rows).all():
        largest = np.abs(array[np.isfinite(array)]).max(initial=0)
        raise ValueError(f"'{key}': not finite as {dtype} (largest finite value {largest:.4g}).")
    return rows


def _stack(parts: dict[str, np.ndarray], dtype: np.dtype) -> np.ndarray:
    if not parts:
        return np.zeros((0, 0), dtype)
    widths = {part.shape[1] for part in parts.values()}
    if len(widths) > 1:
        raise ValueError(f"Arrays of one entry have one width; found {sorted(widths)}.")
    return np.concatenate(list(parts.values()))


def _shard_table(keys, parts: dict[str, np.ndarray], failed: Mapping[str, str]) -> pa.Table:
    columns: dict[str, list] = {name: [] for name in _TABLE.names}
    row = 0
    for key in keys:
        part = parts.get(key)
        rows = 0 if part is None else len(part)
        digest = "" if part is None else hashlib.sha256(part.tobytes()).hexdigest()
        for name, value in zip(_TABLE.names, (key, row, rows, failed.get(key, ""), digest)):
            columns[name].append(value)
        row += rows
    return pa.table(columns, schema=_TABLE)


def _index_table(shards: list[pa.Table]) -> pa.Table:
    """All shards' tables in one, with the shard's number in a further column."""
    numbered = [
        table.replace_schema_metadata(None).append_column(
            "shard", pa.array([index] * table.num_rows, pa.int64())
        )
        for index, table in enumerate(shards)
    ]
    schema = _TABLE.append(pa.field("shard", pa.int64()))
    return pa.concat_tables([schema.empty_table(), *numbered]).combine_chunks()


def _npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _parquet_bytes(table: pa.Table, facts: _ShardFacts | None = None) -> bytes:
    if facts is not None:
        table = table.replace_schema_metadata({"shard": _canonical(vars(facts))})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


# ---- checks ------------------------------------------------------------------------------


def _read_manifest(directory: Path, command: str) -> dict:
    path = directory / "manifest.json"
    if not path.exists():
        plan = _planned_before(directory, command)
        if plan is None:
            raise CacheError(f"Nothing is cached at {directory}. Run: {command}")
        raise _error("Unfinished", directory, "it has no manifest yet", plan["command"])
    try:
        manifest = json.loads(path.read_bytes())
        wanted = {"format", "settings", "command", "dtype", "dim", "index", "shards"}
        if manifest["format"] != FORMAT or not wanted <= manifest.keys():
            raise ValueError(f"format {manifest['format']}, wanted {FORMAT}")
    except (ValueError, KeyError, TypeError) as error:
        raise _error("Damaged", directory, f"manifest.json: {error}", command) from error
    return manifest


def _check_file(path: Path, size: int, digest: str, verify: str) -> None:
    """Raise ValueError unless the file has the size and, for verify="full", the checksum."""
    found = path.stat().st_size
    if found != size:
        raise ValueError(f"{path.name} has {found} bytes, wanted {size}")
    if verify == "full" and _file_sha256(path) != digest:
        raise ValueError(f"{path.name} does not have the checksum it was written with")


def _check_array_file(path: Path, facts: _ShardFacts, dtype: np.dtype, verify: str) -> None:
    _check_file(path, facts.npy_bytes, facts.npy_sha256, verify)
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{path.name}: unknown array format {version}")
        shape, _, found = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    if shape != (facts.rows, facts.dim) or found != dtype:
        raise ValueError(f"{path.name} holds {found} {shape}, not what was written")
    if start + facts.rows * facts.dim * dtype.itemsize != facts.npy_bytes:
        raise ValueError(f"{path.name}: header and size disagree")


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _error(state: str, where: Path, what: str, command: str) -> CacheError:
    return CacheError(f"{state}: {where}: {what}. Run: {command}")


# ---- files -------------------------------------------------------------------------------


def _canonical(value) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _slug(name: str) -> str:
    """A name that is safe in a path: hub names keep both halves, folders their last part."""
    bare = name.rstrip("/")
    if Path(bare).is_absolute() or bare.startswith((".", "~")):
        bare = Path(bare).name
    return re.sub(r"[^A-Za-z0-9._-]+", "--", bare) or "unnamed"


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with filelock.FileLock(directory / ".lock"):
        yield


def _write_json_if_changed(path: Path, value: dict) -> None:
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    _write_atomically_if_changed(path, text.encode())


def _write_atomically_if_changed(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        _write_atomically(path, data)


def _write_atomically(path: Path, data: bytes) -> None:
    """Write beside, flush to the disk, then rename: the name never means half a file."""
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":  # elsewhere a directory cannot be opened, and renames are durable
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_abandoned_files(directory: Path) -> None:
    """Delete temporary files of processes of this machine that are no more."""
    for path in [*directory.glob(".*.tmp"), *(directory / "shards").glob(".*.tmp")]:
        owner, _, process = path.name.removesuffix(".tmp").rpartition(".")
        ours = owner.endswith(f".{socket.gethostname()}")
        # Our own writes are over when this is asked.
        if (
            ours
            and process.isdigit()
            and (int(process) == os.getpid() or not is_alive(int(process)))
        ):
            path.unlink(missing_ok=True)
