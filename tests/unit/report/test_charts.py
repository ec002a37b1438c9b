"""Every chart is a valid specification, also where much is missing; the page is made of them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_study import make_study
from PIL import Image
from report_study import HOSTILE, full, make_data, trial, usual

from imbtune.errors import ConfigError, StorageError, StudyError
from imbtune.report.charts.dot_plots import in_lines, lanes
from imbtune.report.charts.finals_charts import _apart, margin_chart
from imbtune.report.figures import svg_of, with_key
from imbtune.report.frames.studies_frames import studies_frame
from imbtune.report.packed import packed, packed_columns, unpacked
from imbtune.report.pages.calibration_page import FIGURES as OF_CALIBRATION
from imbtune.report.pages.comparison_page import FIGURES as OF_COMPARISON
from imbtune.report.pages.rendering import MARK, SCRIPTS, vendored
from imbtune.report.pages.studies_page import studies_page
from imbtune.report.pages.study_page import study_page
from imbtune.report.plots import StudyPlots
from imbtune.report.sections import EVERY, FRONT
from imbtune.report.study_data import NothingToDrawError, StudyData
from imbtune.report.write import (
    CAPTIONS,
    check_replaceable,
    out_path,
    write_figures,
    write_report,
)
from imbtune.study.lock import Activity
from imbtune.study.view import Study

MANY = 1000


@pytest.fixture(scope="module")
def whole() -> StudyData:
    return full()


@pytest.mark.parametrize("name", [text.name for text in EVERY])
def test_a_chart_is_valid_vega_lite(name: str, whole: StudyData) -> None:
    chart = getattr(StudyPlots(whole), name)()
    spec = chart.to_dict()  # Altair checks it against the schema
    assert "/vega-lite/v6." in spec["$schema"]
    assert "NaN" not in json.dumps(spec)
    assert getattr(StudyPlots, name).__doc__


STUDIES = {
    "nothing": make_data([]),
    "one trial": make_data([trial(0)]),
    "one stopped trial": make_data([trial(1)]),
    "only failures": make_data([trial(n, None) for n in range(5)]),
    "no finals": make_data([trial(n) for n in range(6)]),
    "no presets": make_data([trial(n, preset=None) for n in range(6)], {4: (0.5, 0.6)}),
    "running": make_data([trial(n) for n in range(3)], info={"trials": 50}),
    "nothing recorded": make_data(
        [trial(0), trial(1)], info={"data": {}, "space": {}, "rungs": {}}
    ),
    "1,000 classes": make_data(
        [trial(n, recall=[0.5] * MANY) for n in range(4)],
        classes=[f"class {i}" for i in range(MANY)],
        counts=[MANY - i for i in range(MANY)],
    ),
    "equal scores": make_data([trial(n, 0.5) for n in range(6)], {0: (0.5, 0.5), 4: (0.5, 0.5)}),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_page_says_what_is_there(name: str) -> None:
    page = study_page(STUDIES[name])
    assert page.startswith("<!doctype html>\n" + MARK)
    assert "Traceback" not in page and "None</" not in page
    content = unpacked(data_of(page)) if 'id="data"' in page else {"figures": {}}
    for key, figure in content["figures"].items():
        assert set(figure["tables"]) <= set(content["tables"]), key
    missing = page.count("Not shown: ")
    shown = {key.partition("-")[0] for key in content["figures"]}
    assert missing + len(shown) + page.count('class="wide"') == len(EVERY) - len(FRONT.figures)


def data_of(page: str) -> str:
    found = re.search(r'id="data">([^<]*)<', page)
    assert found
    return found[1]


def test_hostile_names_are_escaped(whole: StudyData) -> None:
    page = study_page(whole)
    assert HOSTILE not in page
    assert "<b id=hostile" not in page
    assert "&lt;/script&gt;&lt;b id=hostile&gt;" in page
    assert HOSTILE in json.dumps(unpacked(data_of(page)), ensure_ascii=False).replace(
        "\\\\", "\\"
    ).replace('\\"', '"')


def test_a_table_is_packed_without_loss() -> None:
    frame = pd.DataFrame(
        {
            "number": [1.0, np.nan, 123456.789],
            "text": ["a", None, HOSTILE],
            "flag": [True, False, True],
        }
    )
    found = unpacked(packed({"table": packed_columns(frame)}))["table"]
    assert found["n"] == 3
    assert found["columns"]["number"]["values"] == [1, None, 123460]
    assert found["columns"]["text"] == {"levels": ["a", HOSTILE], "codes": [0, -1, 1]}
    assert found["columns"]["flag"]["levels"] == [True, False]


@pytest.mark.parametrize("name", SCRIPTS)
def test_vendored_files_are_what_was_published(name: str) -> None:
    folder = files("imbtune.report") / "static"
    pin = json.loads((folder / "pins.json").read_text("utf-8"))[name]
    content = (folder / f"{name}.min.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() == pin["sha256"]
    assert "Redistribution and use" in (folder / f"{name}.LICENSE").read_text("utf-8")
    assert "sourceMappingURL" not in vendored(name)
    assert "</script" not in vendored(name).lower()


def test_several_studies_are_compared() -> None:
    other = make_data([trial(n) for n in range(6)], {0: (0.5, 0.4)}, info={"name": "other"})
    page = studies_page([usual(), other])
    assert HOSTILE not in page
    assert len(unpacked(data_of(page))["figures"]) == 2
    assert "(the finals of all have the same seeds): imbtune compare" in page
    assert "It counts the fresh seeds alone, not the validation images" in page
    assert "To resume it" not in page
    with pytest.raises(StudyError, match="is given twice"):
        studies_page([usual(), usual()])


def test_a_renamed_folder_stands_beside_the_name() -> None:
    study = replace(usual(), info={**usual().info, "name": "made"})
    assert "<h1>made <span>·" in study_page(study) and "· folder" not in study_page(study)
    page = study_page(replace(study, path="runs/copy/"))
    assert "<h1>made <span>· folder copy ·" in page
    assert "folder copy ·" in study_page(replace(study, path="s3://bucket/copy?region=x"))


def test_a_study_that_is_not_complete_is_told_beside_others() -> None:
    killed = make_data(
        [trial(0, 0.4, preset=None, host="a"), trial(2, 0.3, preset="smote", host="a")],
        info={"name": "killed", "trials": 40, "end": None},
        activity=Activity(locked=False),
    )
    failed = make_data([trial(0, 0.4)], info={"name": "failed", "trials": 8, "end": "failed"})
    page = studies_page([usual(), killed, failed])
    assert "killed: The search has not recorded its end" in page and "2 of 40 trials" in page
    assert "To resume it: imbtune resume runs/made" in page and ">2 of 40<" in page
    assert "failed: The search ended because trials failed for one reason" in page
    assert studies_frame([killed]).iloc[0]["preset"] == "smote"
    none = make_data([trial(0, 0.4, preset=None)], info={"name": "none"})
    assert studies_frame([none]).iloc[0]["preset"] is None


def test_a_study_on_disk(tmp_path: Path) -> None:
    make_study(str(tmp_path / "tiny"))
    study = Study(str(tmp_path / "tiny"))
    path = study.report()
    assert path == str(tmp_path / "tiny" / "report.html")
    assert "Trial 3 has the best balanced accuracy: 0.710" in Path(path).read_text("utf-8")
    assert study.report() == path  # an earlier report is replaced
    assert study.plot.finals().to_dict()["datasets"]
    with pytest.raises(
        NothingToDrawError,
        match="has 4 finished trials at the full budget, and importance needs 50",
    ):
        study.importance()


def test_the_lead_of_a_study_is_in_the_unit_of_its_score() -> None:
    share = usual()
    loss = make_data(
        [trial(0, -0.7), trial(4, -0.5)],
        {0: (-0.70, -0.72), 4: (-0.50, -0.51)},
        info={"name": "loss", "space": {"objective": "log_loss", "knobs": {}}},
    )
    page = studies_page([share, loss, usual_of("third")])
    assert '<th class="n">lead</th>' in page
    text = re.sub("<[^>]+>", "", page)
    assert "+10.5 points (p" in text and "+0.205 (p" in text and "+20.5" not in text


def test_studies_with_different_metrics_share_no_axis() -> None:
    loss = make_data(
        [trial(0, -0.7), trial(4, -0.5)],
        {0: (-0.70, -0.72), 4: (-0.50, -0.51)},
        info={"name": "loss", "space": {"objective": "log_loss", "knobs": {}}},
    )
    page = studies_page([usual(), loss, usual_of("third")])
    figures = unpacked(data_of(page))["figures"]
    titles = {
        key: set(re.findall(r'"title": "([^"]* of one run)"', json.dumps(figure)))
        for key, figure in figures.items()
        if key.startswith("progress")
    }
    assert titles == {
        "progress-0": {"balanced accuracy of one run"},
        "progress-1": {"negative log loss of one run"},
    }
    (one, other) = re.findall(r"<h4>(.*?)</h4>.*?</figure>", page, re.DOTALL)
    assert (one, other) == ("Balanced accuracy", "Negative log loss")
    first, _, second = page.partition("<h4>Negative log loss</h4>")
    assert ">third, winner: 4  mamix<" in first
    assert ">third" not in second.partition("<noscript>")[0]
    assert "(balanced accuracy; negative log loss), so their scores cannot be compared" in page
    assert page.count('"metric">balanced accuracy<') == 2


def usual_of(name: str) -> StudyData:
    study = usual()
    return replace(study, info={**study.info, "name": name})


def test_studies_with_one_metric_share_an_axis_that_names_it() -> None:
    page = studies_page([usual(), usual_of("other")])
    figures = unpacked(data_of(page))["figures"]
    assert "balanced accuracy of one run" in json.dumps(figures["progress-0"])
    assert "progress-1" not in figures and "<h4>" not in page
    assert "Score: the balanced accuracy on validation images" in page


def test_a_mean_beside_its_corrected_interval_is_followed_by_the_corrected_mean() -> None:
    study = usual()
    assert study.evidence is not None
    assert ", corrected" not in studies_page([study, usual_of("other")])
    images = replace(study.evidence, images=True, mean_corrected=0.594, lead_corrected=-0.011)
    page = studies_page([replace(study, evidence=images), usual_of("other")])
    assert '0.615, <span class="short">corrected 0.594</span>' in page
    assert '+10.5 points</span>, <span class="short">corrected −1.1 points</span>' in page


def test_negative_scores_have_a_true_minus_everywhere_on_the_page() -> None:
    study = make_data([trial(0, -1.26), trial(4, -1.31)], {0: (-1.2, -1.3), 4: (-1.4, -1.5)})
    page = study_page(study)
    assert 'class="n">−1.2600</td>' in page and 'class="n">−1.2500</td>' in page  # run, finals
    assert ": −1.250 (95 % interval " in page
    assert "has −1.260 in one run" in study_page(make_data([trial(0, -1.26)], info={"end": "x"}))
    assert "-1.2" not in studies_page([study, usual_of("other")])


def test_other_files_are_not_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    with pytest.raises(StudyError, match="exists and is no report"):
        check_replaceable(mine)
    with pytest.raises(ConfigError, match="is a folder"):
        out_path([usual()], str(tmp_path))
    with pytest.raises(StudyError, match="has other files"):
        write_figures(usual(), str(tmp_path))
    assert mine.read_text() == "mine"
    assert out_path([usual(), usual()], None) == Path("report.html")


@pytest.mark.parametrize("place", ["/proc/x.html", "/proc/a/x.html", "/etc/passwd/x"])
def test_a_place_that_takes_no_file_is_one_line(place: str) -> None:
    with pytest.raises(StudyError) as raised:
        write_report([make_data([])], place)
    assert "\n" not in str(raised.value) and "/" in str(raised.value)
    with pytest.raises(StudyError):
        write_figures(make_data([]), place)


def test_a_full_disk_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("imbtune.storage.store.write_through", full)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(StorageError, match="No space left on device"):
        write_report([make_data([])], str(tmp_path / "x.html"))
    with pytest.raises(StorageError, match="No space left on device"):
        write_figures(make_data([]), str(tmp_path / "figures"))


def test_labels_of_the_slope_chart_do_not_cover_one_another() -> None:
    recalls = [1.0, 1.0, 0.99, 0.98, 0.5, 0.02, 0.01, 0.0]
    frame = pd.DataFrame({"class": list("abcdefgh"), "recall": recalls, "change": 0.3})
    named = _apart(frame, (-0.05, 1.0), 0.05)
    gaps = -np.diff(named["at"])
    assert (gaps >= 0.05 * 1.05 - 1e-9).all()
    assert named["at"].between(-0.05, 1.0).all()
    assert named["words"].iloc[0] == "+30 a"


def test_a_knob_that_hardly_acts_has_no_panel() -> None:
    rows = [trial(n, **{"mix.omega": 0.2 if n in (2, 4) else None}) for n in range(12)]
    panels = StudyPlots(make_data(rows))._panels("knobs")
    assert "optimizer.lr" in [name for name, _ in panels]
    assert "mix.omega" not in [name for name, _ in panels]
    few = StudyPlots(make_data([trial(0), trial(2)]))._panels("knobs")  # of two trials, in both
    assert "mix.omega" in [name for name, _ in few]


def test_a_saved_chart_is_opaque(tmp_path: Path, whole: StudyData) -> None:
    StudyPlots(whole).scores().save(str(tmp_path / "r.png"))
    with Image.open(tmp_path / "r.png") as image:
        assert image.convert("RGBA").getchannel("A").getextrema() == (255, 255)


def test_figures_as_files(tmp_path: Path) -> None:
    study = make_data([trial(0)])
    names = write_figures(study, str(tmp_path / "figures"))
    assert write_figures(study, str(tmp_path / "figures")) == names
    assert {"scores.png", "scores.svg", CAPTIONS} <= set(names)
    assert (tmp_path / "figures" / "scores.png").read_bytes().startswith(b"\x89PNG")
    captions = (tmp_path / "figures" / CAPTIONS).read_text("utf-8")
    assert "(`finals`): no figure, the study has no finals." in captions


def test_seeds_with_equal_scores_do_not_cover_each_other() -> None:
    rows = {"a": [0.6, 0.5, 0.6, 0.601, 0.6, 0.6], "b": [0.6]}
    frame = pd.DataFrame([(label, x) for label in rows for x in rows[label]])
    frame.columns = ["label", "score"]
    assert lanes(frame, 0.01) == [0, 0, 1, 3, 2, 3, 0]  # at most four places
    assert lanes(frame[:0], 0.01) == []


def test_a_long_name_takes_lines_and_loses_no_letter() -> None:
    long = "26 any_class_knn+linear+margin_aware + logit_adjustment + effective_number linear"
    words, lines = in_lines(pd.Series([long, "3 erm"]), 350)
    assert lines == 2
    assert " ".join(words[0].split("\n")) == long
    assert words[1] == "\n3 erm"  # directly above its row
    assert in_lines(pd.Series([long]), 560)[1] == 1


def test_every_picture_says_what_its_marks_mean() -> None:
    """Those of the finals name the dots, the bar, the circle and both colours."""
    texts = [*EVERY, *OF_COMPARISON, *OF_CALIBRATION]
    assert [text.name for text in texts if not text.key] == []
    plots = StudyPlots(usual())
    finals = next(text for text in EVERY if text.name == "finals")
    title = with_key(plots.finals().to_dict(), finals.key)["title"]
    assert title["orient"] == "bottom" and max(map(len, title["text"])) <= 560 / 5
    said = " ".join(title["text"])
    for words in ("Small dots", "Large mark", "Bar:", "Hollow circle", "Orange", "Blue"):
        assert words in said
    text = "".join(re.findall(r">([^<>]+)<", svg_of(with_key(plots.rungs().to_dict(), "Grey: a."))))
    assert "Grey: a." in text


def test_the_legend_of_the_margins_names_each_kind_once() -> None:
    frame = pd.DataFrame(
        {
            "class": ["a", "a"],
            "split": ["training", "validation"],
            "images": [9, 9],
            "margin": [0.8, 0.2],
        }
    )
    svg = svg_of(margin_chart(frame).to_dict())
    assert len(re.findall(r">(?:training|validation)<", svg)) == 2
