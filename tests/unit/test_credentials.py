"""A key or a password that a user types is neither written nor printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command import invoke

import imbtune
from imbtune.credentials import has_credentials, without_credentials
from imbtune.errors import ConfigError, ImbtuneError
from imbtune.paths import local_path, path_or_uri
from imbtune.storage import Store
from imbtune.tuning.cluster.address import check_address

WITH = [
    "s3://MYKEY:HIDDEN@bucket/x",
    "s3://MYKEY:HIDDEN@/x",
    "s3://MYKEY:HID/D+EN@bucket/x",  # AWS's secrets have slashes
    "s3://MYKEY:HIDDEN",
    "s3://HIDDEN@bucket",
    "S3://MYKEY:HIDDEN@bucket",
    "s3:MYKEY:HIDDEN@bucket",
    "s3:/MYKEY:HIDDEN@bucket",  # as Path makes of it
    "s3//MYKEY:HIDDEN@bucket",
    "s4://MYKEY:HIDDEN@bucket",
    " s3://MYKEY:HIDDEN@bucket",
    "'s3://MYKEY:HIDDEN@bucket'",
    "runs/s3://MYKEY:HIDDEN@bucket",
    "s3://MYKEY%3AHIDDEN%40bucket/x",
    "s3://bucket/x?access_key=MYKEY&secret_key=HIDDEN",
    "s3://bucket/x?region=a&session_token=HIDDEN",
    "s3://bucket/x?%73ecret_key=HIDDEN",
    "s3://bucket/x?endpoint_override=http://MYKEY:HIDDEN@host:9000",
    "s3://bucket/x#token=HIDDEN",
    "gs://MYKEY:HIDDEN@bucket",
    "gcs://HIDDEN@bucket",
    "hf://user:HIDDEN@datasets/x",
    "hf://HIDDEN@datasets/x",
    "https://user:HIDDEN@host/x.npz",
    "https://host/x?X-Amz-Credential=MYKEY&X-Amz-Signature=HIDDEN",
    "https://host/x?sv=1&sig=HIDDEN",
    "abfs://container@account.host/HIDDEN",
    "s3a://MYKEY:HIDDEN@bucket",
    "file://user:HIDDEN@host/x",
    "ray://user:HIDDEN@host:10001",
    "AKIA0:HIDDEN@bucket/studies",  # without the scheme
    "s3%3A%2F%2FMYKEY:HIDDEN@bucket",
    "s3%3A%2F%2FMYKEY%3AHIDDEN%40bucket",
    "file:/MYKEY:HIDDEN@bucket",
    "s3://bucket/MYKEY:HIDDEN@x",
    "s3://MYKEY:/HIDDEN@bucket",
    "s3://bucket?pass=HIDDEN",
    "s3://bucket?pw=HIDDEN",
    "s3://bucket?sk=HIDDEN",
    "s3://bucket?session=HIDDEN",
    "s3://bucket?secret_key%3DHIDDEN",
    "s3://bucket?secret_key:HIDDEN",
    "s3://bucket?region=a,secret_key=HIDDEN",
    "s3://bucket,secret_key=HIDDEN",
]
WITHOUT = [
    "runs",
    "a:b/c",
    "a@b",
    "10:30",
    "/data/a@b",
    "runs/a?key=1",
    "s3://bucket/a@c/x",
    "s3://bucket?endpoint_override=http://host:9000&region=us-east-1&scheme=http",
    "gs://anonymous@bucket/x",
    "file:///a@b/x",
    "file:/a@b",
    "https://host:80/x",
    "http://[::1]:80/x",
    "127.0.0.1:6379",
    "mix=mamix",
]


@pytest.mark.parametrize("text", WITH)
@pytest.mark.parametrize(
    "reads",
    [
        lambda text: path_or_uri("--storage", text),
        lambda text: local_path("--data", text),
        Store,
        imbtune.load_study,
        imbtune.load_model,
        imbtune.train,
        lambda text: imbtune.search("digits-lt", storage=text),
        lambda text: imbtune.search("digits-lt", data=text),
        lambda text: imbtune.search(text),
        lambda text: imbtune.space("x", like=text),
    ],
)
def test_it_is_refused_without_its_value(reads: Callable[[str], object], text: str) -> None:
    with pytest.raises(ImbtuneError, match="a key or a password in it") as caught:
        reads(text)
    assert "HIDDEN" not in str(caught.value) and "MYKEY:" not in str(caught.value)


@pytest.mark.parametrize("text", WITHOUT)
def test_others_are_not_refused(text: str) -> None:
    assert not has_credentials(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s3://MYKEY:HIDDEN@bucket", "$AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY or ~/.aws/"),
        ("gcs://MYKEY:HIDDEN@bucket", "the file that $GOOGLE_APPLICATION_CREDENTIALS names"),
        ("https://MYKEY:HIDDEN@host", "environment variables or files of the library"),
    ],
)
def test_it_says_where_keys_belong(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        path_or_uri("--storage", text)
    assert str(caught.value).startswith("--storage: it has a key or a password in it")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["search", "digits-lt", "--storage", "URI"], "--storage"),
        (["search", "digits-lt", "--storage=URI"], "--storage"),
        (["search", "digits-lt", "--storage", "URI", "--storage", "URI"], "--storage"),
        (["search", "digits-lt", "--trials", "URI"], "--trials"),  # else shown as no number
        (["search", "digits-lt", "--calibration", "URI", "--rungs", "auto"], "--calibration"),
        (["search", "digits-lt", "--set", "mix=URI"], "--set"),
        (["search", "digits-lt", "URI"], "an argument"),  # else shown as unexpected
        (["search", "URI"], "an argument"),
        (["resume", "URI"], "an argument"),
        (["train", "--trial", "URI", "3"], "--trial"),
        (["train", "URI", "--out", "x"], "an argument"),
        (["plan", "digits-lt", "--study", "URI"], "--study"),
        (["compare", "digits-lt", "--study", "URI"], "--study"),
        (["show", "spaces", "--space", "URI"], "--space"),
    ],
)
def test_no_command_shows_or_keeps_it(
    args: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = "s3://MYKEY:HIDDEN@bucket/x"
    code, out, err = invoke(*(arg.replace("URI", uri) for arg in args))
    assert code == 2 and out == ""
    assert err.startswith(f"error: {named}: it has a key or a password") and err.count("\n") == 1
    assert "HIDDEN" not in err and "MYKEY:" not in err
    assert not list(tmp_path.iterdir())


def test_not_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMBTUNE_DATA", "s3://MYKEY:HIDDEN@bucket/x")
    code, _, err = invoke("search", "fashion_mnist-lt")
    assert code == 2 and err.startswith("error: $IMBTUNE_DATA: it has a key")
    assert "HIDDEN" not in err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["u:HIDDEN@host:6379", "https://host?token=HIDDEN", "HIDDEN@h"])
def test_not_in_an_address(address: str) -> None:
    with pytest.raises(ImbtuneError, match="--address has a user, a password or a token") as caught:
        check_address(address)
    assert "HIDDEN" not in str(caught.value)


@pytest.mark.parametrize("option", ["other=HIDDEN", "HIDDEN", "region=a&x=HIDDEN", "a%3DHIDDEN"])
def test_an_option_that_pyarrow_does_not_know_is_not_repeated(option: str) -> None:
    with pytest.raises(ImbtuneError, match="has an option that pyarrow does not know") as caught:
        Store(f"s3://bucket/x?{option}")
    assert "HIDDEN" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://u:HIDDEN@127.0.0.1:1", "http://x:1?token=HIDDEN"])
def test_not_from_the_addresses_of_the_environment(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    for command, name in (
        (["list"], "RAY_API_SERVER_ADDRESS"),
        (["search", "digits-lt", "--address", "auto"], "RAY_ADDRESS"),
    ):
        code, _, err = invoke(*command)
        assert code == 2 and err.startswith(f"error: ${name} has a user, a password or a token")
        assert "HIDDEN" not in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no answer from http://u:HIDDEN@h:1/x", "no answer from http://…@h:1/x"),
        ("no answer from http://u:HID/DEN@h:1 (x@y)", "no answer from http://…@h:1 (x@y)"),
        ("s3://HIDDEN@b/x: missing", "s3://…@b/x: missing"),
        ("http://h/x?a=1&token=HIDDEN: no", "http://h/x?a=1&token=…"),
        ("s3://b?secret_key=HIDDEN&region=a", "s3://b?secret_key=…&region=a"),
        ("gs://anonymous@b/x and a@b: 3", "gs://anonymous@b/x and a@b: 3"),
        ("give s3://b/x?region=a, or --data", "give s3://b/x?region=a, or --data"),
    ],
)
def test_no_message_has_it(text: str, shown: str) -> None:
    assert str(ImbtuneError(text)).startswith(shown)
    assert "HIDDEN" not in str(ImbtuneError(text))


def test_the_command_line_of_a_script_is_recorded_without_secrets() -> None:
    given = ["--api-key", "K", "--token=K", "wandb.api_key=K", "s3://K:S@b", "--data=s3://K:S@b"]
    assert without_credentials(given) == [
        *("--api-key", "…", "--token=…", "wandb.api_key=…", "…", "…"),
    ]
    given = ["search", "x", "--set", "model.token_dim=4", "--storage", "s3://bucket/x", "--keys"]
    assert without_credentials(given) == given
