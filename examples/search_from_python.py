"""A search from Python: 30 trials on a small long-tailed data set, in about a minute on 2 cores.

    python search_from_python.py

The study is in `runs/digits-lt` afterwards; `imbtune.load_study` reads it again.
"""

from __future__ import annotations

import imbtune


def main() -> None:
    """Search, train the winner with five seeds, and say how good it is on the test images."""
    study = imbtune.search("digits-lt", trials=30)
    print(study.winner)
    print(study.evidence)
    result = imbtune.train(study.winner, seeds=5)
    for name, (mean, deviation) in result.metrics.items():
        print(f"{name:<20} {mean:.3f} ± {deviation:.3f}")
    print(f"imbtune.load_model({str(result.path)!r}) loads the first model")


if __name__ == "__main__":
    main()
