"""Train and record models that chapters share: one record for each.

    python tools/record_models.py training-cifar10/linf-8-seed0
    python tools/record_models.py 'sizes-mnist/*-seed0'       # many
    python tools/record_models.py 'sizes-mnist/*' --part 1/2  # half of them
    python tools/record_models.py --list                      # their names

An equal record is kept, and a long run that was interrupted goes on where it
stopped; delete a record to make it again. ``--part 1/2`` and ``--part 2/2``
share the work between two processes. On a CPU core a network of
``training-cifar10`` takes 15 to 30 minutes, a model of a size sweep a few
seconds to five minutes.
"""

import argparse
import os
import sys
from fnmatch import fnmatchcase
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm.auto import tqdm

from lib import experiments, results, sizes


def points() -> dict:
    """Every model under the name of its record: settings and experiment."""
    shared = {
        "training-cifar10": experiments.CIFAR10_POINTS,
        "training-imagenette": experiments.IMAGENETTE_POINTS,
        "judges": experiments.JUDGES,
        "aligned/networks": experiments.NOISY_POINTS,
    }
    found = {
        f"{folder}/{name}": (point, experiments.train_and_attack)
        for folder, group in shared.items()
        for name, point in group.items()
    }
    for folder, sweep in sizes.SWEEPS.items():
        found |= {
            f"{folder}/{name}": (point, sizes.train_and_measure)
            for name, point in sizes.points(sweep["full"])
        }
    return found


def _part(text: str) -> tuple[int, int]:
    """``"2/3"`` as (2, 3); says what is wrong otherwise."""
    first, _, last = text.partition("/")
    if first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last):
        return int(first), int(last)
    sys.exit(f'--part must be such as "1/2" or "2/2", not "{text}"')


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("pattern", nargs="*", metavar="NAME")
    parser.add_argument("--part", default="1/1", metavar="K/OF")
    parser.add_argument("--list", action="store_true")
    chosen = parser.parse_args(arguments)
    known = points()
    if chosen.list:
        print("\n".join(known))
        return
    names = [
        name for name in known
        if any(fnmatchcase(name, each) for each in chosen.pattern)
    ]  # fmt: skip
    if not names:
        sys.exit(
            "Name a record, or a pattern of records in quotes; --list shows "
            "them all."
        )
    part, of = _part(chosen.part)
    os.environ["BOOK_RUN"] = "full"  # write records
    bar = tqdm(names[part - 1 :: of], unit="model")
    for name in bar:
        bar.set_postfix_str(name)
        record = results.load_or_run(name, *known[name])
        tqdm.write(f"{name} {record.values['standard']}")


if __name__ == "__main__":
    main(sys.argv[1:])
