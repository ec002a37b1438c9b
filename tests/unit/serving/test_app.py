"""The web application, through its own interface: pages, changes, tokens, hostile names."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

import pytest
from made_results import made_calibration, made_comparison
from made_study import RECORDS, make_study
from starlette.testclient import TestClient

from imbtune.errors import ConfigError
from imbtune.serving.app import COOKIE, make_app
from imbtune.serving.pages import MOST_PAGES, Pages
from imbtune.serving.run_server import _token, is_loopback, open_server
from imbtune.storage import Store
from imbtune.study.files import record_end
from imbtune.study.records import FINISHED

HOSTILE = "<∕script><b>&\"'100 %#"  # no slash: it is a folder
TOKEN = "a token of the test"


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    make_study(str(tmp_path / "runs/one"))
    return TestClient(make_app(str(tmp_path / "runs"), None, ["testserver"]))


def test_the_list_leads_to_the_report(client: TestClient, tmp_path: Path) -> None:
    index = client.get("/")
    assert (
        index.status_code == 200
        and "6 of 6 trials ended (4 finished, 1 stopped, 1 failed)" in index.text
    )
    (link,) = re.findall(r'href="(study/[^"]*)"', index.text)
    page = client.get(f"/{link}")
    assert page.status_code == 200 and 'id="data"' in page.text
    assert "connect-src 'self'" in page.text
    assert "https://" not in re.sub(r"<script[^>]*>.*?</script>", "", page.text, flags=re.DOTALL)
    for script in re.findall(r'<script src="([^"]*)"', page.text):
        found = client.get(script)
        assert found.headers["content-type"].startswith("text/javascript") and found.text
    assert client.get("/scripts/1/other.js").status_code == 404


def test_a_page_is_sent_again_only_when_the_study_has_changed(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imbtune.serving.pages.SHARE", 1e9)  # it is rendered as often as it changes
    first = client.get("/study/one")
    again = client.get("/study/one", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304 and not again.content
    record_end(Store(str(tmp_path / "runs/one")), FINISHED)
    changed = client.get("/study/one", headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]
    for page in (first, changed):  # the page knows its own tag, and asks with it
        assert f'data-etag="{escape(page.headers["etag"])}"' in page.text.replace("&#34;", "&quot;")


def test_what_is_not_there_is_a_page_that_says_so(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imbtune.serving.pages.OLDEST", 0.0)
    for path in ("/study/none", "/study/../../etc/passwd", "/study/one/trials", "/study/%00"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert "passwd" not in answer.text or "there is no study" in answer.text
    (tmp_path / "runs/one/study.yaml").write_text("- no mapping")
    broken = client.get("/study/one")
    assert broken.status_code == 404 and "is not a mapping" in broken.text
    assert "cannot be read" in client.get("/").text


def test_calibrations_and_comparisons_have_pages(tmp_path: Path) -> None:
    made_comparison(str(tmp_path / "table"))
    made_calibration(str(tmp_path / "rungs"))
    client = TestClient(make_app(str(tmp_path), None, ["testserver"]))
    links = re.findall(r'href="(study/[^"]*)"', client.get("/").text)
    assert sorted(links) == ["study/rungs", "study/table"]
    for link, said in zip(sorted(links), ("the finished model", "the best balanced"), strict=True):
        page = client.get(f"/{link}")
        assert page.status_code == 200 and said in page.text and 'id="live"' in page.text


def test_names_are_text_not_markup(tmp_path: Path) -> None:
    make_study(str(tmp_path / "runs" / HOSTILE))
    client = TestClient(make_app(str(tmp_path / "runs"), None, ["testserver"]))
    index = client.get("/").text
    assert '<b>&"' not in index and HOSTILE not in index
    (link,) = re.findall(r'href="(study/[^"]*)"', index)
    page = client.get(f"/{link}")
    assert page.status_code == 200 and '<b>&"' not in page.text


def test_other_machines_need_the_token(tmp_path: Path) -> None:
    make_study(str(tmp_path / "one"))
    client = TestClient(make_app(str(tmp_path), TOKEN, ["*"]), follow_redirects=False)
    for path in ("/", "/study/one", "/scripts/1/vega.js", "/?token=wrong", "/?token="):
        assert client.get(path).status_code == 401, path
    moved = client.get("/study/one", params={"token": TOKEN})
    assert moved.status_code == 303 and moved.headers["location"] == "/study/one"
    cookie = moved.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert client.cookies.get(COOKIE) and client.get("/study/one").status_code == 200
    answer = client.get("/")
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_page_of_another_site_cannot_read_a_local_server(tmp_path: Path) -> None:
    """Its requests arrive under another host's name (DNS rebinding)."""
    client = TestClient(make_app(str(tmp_path), None, ["localhost", "127.0.0.1"]))
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"host": "127.0.0.1:8420"}).status_code == 200


def test_pages_that_nobody_asks_for_are_forgotten(tmp_path: Path) -> None:
    pages = Pages(str(tmp_path))
    for number in range(3 * MOST_PAGES):
        pages._slot(f"study {number}")
    assert len(pages._slots) <= MOST_PAGES + 1


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
    ],
)
def test_only_loopback_needs_no_token(host: str, local: bool) -> None:
    assert is_loopback(host) == local


def test_a_short_token_and_a_port_in_use_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    server = open_server(str(tmp_path), "127.0.0.1", 0, said.append)
    assert said == [f"0 studies in {tmp_path}"] and "token" not in server.url
    port = int(server.url.rsplit(":", 1)[1].rstrip("/"))
    with server._socket, pytest.raises(ConfigError, match=f"--port {port} .*in use"):
        open_server(str(tmp_path), "127.0.0.1", port, said.append)
    with pytest.raises(ConfigError, match="cannot listen"):
        open_server(str(tmp_path), "no.such.host.invalid", 0, said.append)
    monkeypatch.setenv("IMBTUNE_SERVE_TOKEN", "short")
    with pytest.raises(ConfigError, match="has 5 characters: give 16 or more"):
        _token()


def test_a_study_that_runs_and_one_that_has_nothing_yet(tmp_path: Path) -> None:
    make_study(str(tmp_path / "new"), records=(), finals={}, best=False)
    make_study(str(tmp_path / "runs"), records=RECORDS[:2], finals={}, best=False)
    client = TestClient(make_app(str(tmp_path), None, ["testserver"]))
    for name in ("new", "runs"):
        assert client.get(f"/study/{name}").status_code == 200
