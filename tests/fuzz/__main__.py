"""`python -m tests.fuzz`: many cases of all targets in several processes, and a table of what came out of them."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from tests.fuzz.targets import TARGETS, counts
from tests.fuzz.workers import prepare, run

CHUNK = 50


def main() -> int:
    """Runs the cases, and prints the outcomes of each target; 1 where a case failed."""
    options = _options()
    started = time.monotonic()
    outcomes: Counter[tuple[str, str]] = Counter()
    n_failures = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = folder  # of the processes, which may be killed
        for done, (found, failures) in enumerate(_results(options), 1):
            outcomes.update(found)
            n_failures += len(failures)
            for text in failures:
                print(text, file=sys.stderr, flush=True)
            if done % 100 == 0:
                print(f"{sum(outcomes.values())} cases, {time.monotonic() - started:.0f} s", flush=True)
    _print_table(outcomes)
    print(f"{n_failures} failures in {time.monotonic() - started:.0f} s", flush=True)
    return 1 if n_failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=int(os.environ.get("FUZZ_CASES", "100000")))
    parser.add_argument("--first", type=int, default=1_000_000, help="number of the first case of each target")
    parser.add_argument("--target", choices=[*TARGETS], help="one target instead of all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def _results(options: argparse.Namespace) -> Iterator[tuple[Counter[tuple[str, str]], list[str]]]:
    """The results of the parts of all targets; a process that was killed ends the run."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context, prepare) as pool:
        parts = {pool.submit(run, name, numbers): (name, numbers) for name, numbers in _chunks(options)}
        for part in as_completed(parts):
            try:
                yield part.result()
            except BrokenProcessPool as error:
                name, numbers = parts[part]
                yield Counter(), [f"{name} {numbers}, or another part: a process was killed: {error}"]
                pool.shutdown(cancel_futures=True)
                return


def _chunks(options: argparse.Namespace) -> Iterator[tuple[str, range]]:
    """Parts of the cases of each target, from all targets in turn."""
    n_cases = {options.target: options.cases} if options.target else counts(options.cases)
    parts = [
        (start / n, name, start, min(n, start + CHUNK)) for name, n in n_cases.items() for start in range(0, n, CHUNK)
    ]
    for _, name, start, end in sorted(parts):
        yield name, range(options.first + start, options.first + end)


def _print_table(outcomes: Counter[tuple[str, str]]) -> None:
    """The outcomes of each target."""
    kinds = sorted({kind for _, kind in outcomes}, key=lambda kind: -sum(outcomes[name, kind] for name in TARGETS))
    rows = [["target", *kinds, "cases"]]
    for name in [name for name in TARGETS if any(of == name for of, _ in outcomes)]:
        numbers = [outcomes[name, kind] for kind in kinds]
        rows.append([name, *map(str, numbers), str(sum(numbers))])
    totals = [sum(count for (_, kind), count in outcomes.items() if kind == each) for each in kinds]
    rows.append(["all", *map(str, totals), str(sum(totals))])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(entry.rjust(width) for entry, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    sys.exit(main())
