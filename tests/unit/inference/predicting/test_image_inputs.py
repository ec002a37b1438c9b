"""The images that are given: folders, lists, Parquet, and what cannot be read of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import encode, open_folder, raises_one_line, unreadable
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import write_images

from imbtune.errors import DataError
from imbtune.inference.predicting.image_inputs import images_at

PNG = encode(np.zeros((1, 8, 8), np.uint8))


def paths(given: str | Path | list[str | Path]) -> list[str]:
    found = images_at(given)
    items = [item.path for item in found.items()]
    assert found.count in (len(items), None)
    return items


def problems(given: str | Path | list[str | Path]) -> dict[str, str]:
    return {Path(item.path).name: item.problem for item in images_at(given).items()}


def test_a_folder_is_searched_with_those_below_it_in_order(tmp_path: Path) -> None:
    for name in ("b/1.png", "b/a/2.JPG", "a/3.png", "0.png", ".hidden/4.png", "b/.5.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "plugin.py").write_text("raise SystemExit(3)")
    (tmp_path / "more.parquet").write_bytes(b"")
    found = [str(Path(path).relative_to(tmp_path)) for path in paths(tmp_path)]
    assert found == ["0.png", "a/3.png", "b/1.png", "b/a/2.JPG"]
    assert "more.parquet, plugin.py" in images_at(tmp_path).notes[0]


def test_names_with_brackets_spaces_and_line_breaks(tmp_path: Path) -> None:
    names = ["[1].png", "a*?.png", "x\ny.png", "ä 字.png", "'q\".png", "$HOME.png"]
    for name in names:
        (tmp_path / name).write_bytes(PNG)
    assert {Path(path).name for path in paths(tmp_path)} == set(names)
    inner = tmp_path / "set [a-z]*"
    write_images(inner, 2)
    assert len(paths(inner)) == 2


def test_names_that_are_not_utf8_are_escaped() -> None:
    with open_folder() as folder:
        name = os.fsencode(folder) + b"/n\xff.png"
        Path(os.fsdecode(name)).write_bytes(PNG)
        (item,) = images_at(folder).items()
        assert item.path == f"{folder}/n\\udcff.png"
        assert Path(str(item.file)).read_bytes() == PNG
        (folder / "list.txt").write_bytes(name + b"\n")
        (listed,) = images_at(folder / "list.txt").items()
        assert (listed.path, listed.problem) == (item.path, "")


def test_what_is_known_before_a_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "gone.png").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "good.png").write_bytes(PNG)
    expected = {
        "empty.png": "the file is empty",
        "gone.png": "No such file or directory",
        "good.png": "",
    }
    assert problems(tmp_path) == expected
    (tmp_path / "list.txt").write_text("pipe.png\nfolder.png\n/dev/zero\nmissing.png\n")
    assert problems(tmp_path / "list.txt") == {
        "pipe.png": "it is no regular file",
        "folder.png": "it is a folder",
        "zero": "it is no regular file",
        "missing.png": "No such file or directory",
    }


def test_a_list_is_from_the_current_folder_or_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "here/set", 1)
    write_images(tmp_path / "lists", 2)
    listed = tmp_path / "lists/mine.txt"
    listed.write_text(f"\ufeffset/0.png\r\n\n1.png\n  \n{tmp_path}/lists/0.png\n")
    monkeypatch.chdir(tmp_path / "here")
    assert problems(listed) == {"0.png": "", "1.png": ""}
    assert paths(listed) == ["set/0.png", "1.png", f"{tmp_path}/lists/0.png"]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", ""),
        ("utf-8", "\ufeff"),
        ("utf-16-le", "\ufeff"),
        ("utf-16-be", "\ufeff"),
        ("utf-32-le", "\ufeff"),
    ],
)
def test_lists_of_windows(tmp_path: Path, encoding: str, mark: str) -> None:
    write_images(tmp_path / "ä", 2)
    text = f"{mark}ä\\0.png\r\n\r\nä/1.png\r\nä\\2.png\r\n"
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    items = list(images_at(tmp_path / "list.txt").items())
    assert [item.path for item in items] == ["ä\\0.png", "ä/1.png", "ä\\2.png"]
    assert [item.problem for item in items] == ["", "", "No such file or directory"]
    assert items[0].file == str(tmp_path / "ä/0.png")


def test_a_list_may_name_files_with_backslashes_and_names_that_are_too_long(tmp_path: Path) -> None:
    (tmp_path / "a\\b.png").write_bytes(PNG)
    (tmp_path / "list.lst").write_text(f"a\\b.png\n{'x' * 300}.png\n")
    good, long = images_at(tmp_path / "list.lst").items()
    assert (good.file, good.problem) == (str(tmp_path / "a\\b.png"), "")
    assert long.problem == "File name too long"


def test_spaces_quotes_home_and_comments_in_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, 4)
    monkeypatch.setenv("HOME", str(tmp_path))
    lines = ["  0.png\t", '"1.png"', "'2.png' ", "~/3.png", "", " # none", "#0.png"]
    lines += ['"missing.png"']
    (tmp_path / "list.txt").write_text("\r\n".join(lines))
    given = images_at(tmp_path / "list.txt")
    assert given.notes == ("not read, since they begin with #: 2 lines of list.txt",)
    items = list(given.items())
    assert [item.path for item in items] == ["0.png", "1.png", "2.png", "~/3.png", "missing.png"]
    assert [item.problem for item in items] == ["", "", "", "", "No such file or directory"]
    assert given.count == 5
    assert items[3].file == str(tmp_path / "3.png")


def test_a_file_whose_name_is_the_whole_line_comes_first(tmp_path: Path) -> None:
    for name in (" a.png ", "a.png", "'b.png'", "#c.png"):
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "list.txt").write_text(" a.png \n'b.png'\n./#c.png\n'a.png'\n")
    given = images_at(tmp_path / "list.txt")
    assert [item.path for item in given.items()] == [" a.png ", "'b.png'", "./#c.png", "a.png"]
    assert not any(item.problem for item in given.items())
    assert given.notes == ()


def test_python_lists(tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    assert len(paths([tmp_path / "0.png", str(tmp_path / "1.png")])) == 2
    with raises_one_line("no images are given"):
        images_at([])


@pytest.mark.parametrize(
    ("column", "name"),
    [("image", "struct"), ("img", "bytes"), ("picture", "bytes"), ("content", "large")],
)
def test_parquet(column: str, name: str, tmp_path: Path) -> None:
    values: list[bytes | None] = [PNG, None, b"", PNG]
    kinds = {"bytes": pa.binary(), "large": pa.large_binary()}
    if name == "struct":
        rows = [{"bytes": value, "path": f"{i}.png"} for i, value in enumerate(values)]
        array = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    else:
        array = pa.array(values, kinds[name])
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": pa.array(["a"] * 4), column: array}), path, row_group_size=3)
    found = images_at(path)
    items = list(found.items())
    assert found.count == 4
    missing = "there is no image in the row" + ", only a path" * (name == "struct")
    assert [item.problem for item in items] == ["", missing, missing, ""]
    assert items[3].file == PNG
    where = ["0.png", "3.png"] if name == "struct" else [f"{path}, row 0", f"{path}, row 3"]
    assert [items[0].path, items[3].path] == where
    assert len(paths(tmp_path)) == 4  # a folder without images


def test_rows_of_bytes_of_one_length_and_of_paths(tmp_path: Path) -> None:
    fixed = pa.array([PNG, PNG], pa.binary(len(PNG)))
    pq.write_table(pa.table({"image": fixed}), tmp_path / "fixed.parquet")
    assert list(problems(tmp_path / "fixed.parquet").values()) == ["", ""]
    only_path = [{"bytes": None, "path": "a.png"}, {"bytes": PNG, "path": None}]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    path = tmp_path / "paths.parquet"
    pq.write_table(pa.table({"image": pa.array(only_path, kind)}), path)
    assert problems(path) == {
        "a.png": "there is no image in the row, only a path",
        "paths.parquet, row 1": "",
    }


def test_nothing_to_predict(tmp_path: Path) -> None:
    for folder in ("none", "others"):
        (tmp_path / folder).mkdir()
    (tmp_path / "others/a.txt").write_text("")
    write_images(tmp_path / "hidden", 1)
    (tmp_path / "hidden/0.png").rename(tmp_path / "hidden/.0.png")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "comments.txt").write_text("# a.png\n")
    (tmp_path / "bytes.txt").write_bytes(b"a\0b\n")
    (tmp_path / "cut.txt").write_bytes("a.png".encode("utf-16")[:-1])
    (tmp_path / "long.txt").write_text("x" * 10_000)
    (tmp_path / "model.pt").write_text("")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "others.parquet")
    pq.write_table(pa.table({"img": pa.array([], pa.binary())}), tmp_path / "rows.parquet")
    for name, says in {
        "none": "none has no images: give",
        "others": "others has no images (it has a.txt): give",
        "missing": "there is nothing at",
        "empty.txt": "lists no images",
        "comments.txt": "lists no images",
        "bytes.txt": "is no text file",
        "cut.txt": "is not text in UTF-16: save it as UTF-8",
        "long.txt": "too long for a path",
        "model.pt": "the ending of no image",
        "cut.parquet": "is not a complete Parquet file",
        "others.parquet": "has the columns a (int64), b (string): it needs one of encoded images",
        "hidden": "hidden has no images (it has 1 hidden file): give",
        "rows.parquet": "has no rows",
    }.items():
        with raises_one_line(says):
            images_at(tmp_path / name)


def test_a_folder_that_cannot_be_read() -> None:
    with open_folder() as folder, unreadable(folder), raises_one_line("cannot read"):
        images_at(folder)


@settings(max_examples=60)
@given(st.binary(max_size=80), st.sampled_from(["x.txt", "x.parquet", "x.png"]))
def test_any_bytes_are_items_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(content)
    try:
        items = list(images_at(path).items())
    except DataError:  # of one line, as every ImbtuneError
        return
    assert all(item.problem or item.file for item in items)


def test_a_link_to_itself_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    (tmp_path / "round.png").symlink_to("round.png")
    assert [item.path for item in images_at(tmp_path).items()] == [
        str(tmp_path / "0.png"), str(tmp_path / "round.png"),
    ]  # fmt: skip
