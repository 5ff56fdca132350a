"""Train and record the networks that several chapters share.

    python tools/record_models.py                # all of them
    python tools/record_models.py linf-8-seed0   # one of them

Each becomes ``results/training-cifar10/NAME.json`` with its weights beside
it. An interrupted run goes on where it stopped; an equal record is kept.
On a CPU core a network takes 15 to 30 minutes.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["BOOK_RUN"] = "full"  # write records

from lib import experiments, results


def main(names: list[str]) -> None:
    points = experiments.CIFAR10_POINTS
    unknown = [name for name in names if name not in points]
    if unknown:
        sys.exit(
            f"no network named {', '.join(unknown)}; there are "
            f"{', '.join(points)}"
        )
    for name in names or points:
        record = results.load_or_run(
            f"training-cifar10/{name}", points[name],
            experiments.train_and_attack,
        )  # fmt: skip
        print(name, record.values["standard"], record.values["robust"])


if __name__ == "__main__":
    main(sys.argv[1:])
