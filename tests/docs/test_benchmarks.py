"""docs/benchmarks.md shows what the benchmarks measured."""

from __future__ import annotations

from pathlib import Path

import bench


def test_the_documents_show_the_figures_that_are_kept() -> None:
    document = bench.DOCUMENT.read_text(encoding="utf-8")
    assert document == bench.written(document, bench.section(bench.RESULTS))


def test_every_benchmark_has_its_heading() -> None:
    """With figures or without: other documents refer to them."""
    for results in (bench.RESULTS, Path("nowhere")):
        headings = [s for s in bench.section(results).splitlines() if s.startswith("### ")]
        assert headings == [f"### {title}" for title in bench.TITLES.values()]
