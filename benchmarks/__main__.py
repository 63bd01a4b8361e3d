"""`python -m benchmarks [name ...]`: run the benchmarks and print their tables.

Every module below has a main(). Times hold for this machine at this moment; the ratios, each
measured within one run, are what the goals are about. How well training fills a GPU is shown by
`python -m benchmarks.gpu`, which is no part of this.
"""

from __future__ import annotations

import importlib
import sys
import time

BENCHMARKS = ["losses", "distillation", "scoring", "projections"]


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise SystemExit(f"Unknown benchmark '{unknown[0]}'. Known: {', '.join(BENCHMARKS)}.")
    for name in names or BENCHMARKS:
        start = time.perf_counter()
        importlib.import_module(f"benchmarks.{name}").main()
        print(f"\n{name}: {time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main(sys.argv[1:])
