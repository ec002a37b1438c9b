"""The paths and URIs that a user gives: each is understood, or refused before anything starts.

A study may be in a local folder or in a bucket; a data set, a model and a space file are local.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from imbtune.credentials import CredentialsError, check_no_credentials
from imbtune.errors import ConfigError, shown
from imbtune.limits import FILE_NAME_BYTES, PATH_BYTES, URI_BYTES

BUCKETS = {"s3": "s3", "gs": "gs", "gcs": "gs"}  # schemes of buckets, as pyarrow names them
# Without a slash after the colon, only these are taken for a scheme: a folder may be called `a:b`
SCHEMES = {*BUCKETS, "s3a", "s3n", "file", "http", "https", "hdfs", "abfs", "abfss", "az", "wasbs"}
ALLOWED = "give a folder, s3://BUCKET/… or gs://BUCKET/…"
# A mistyped URI, such as s3//BUCKET or gs;//BUCKET, and a path of Windows
MISTYPED = re.compile(rf"({'|'.join(sorted(SCHEMES))})[^\w/]*//", re.IGNORECASE)
WINDOWS = re.compile(r"[A-Za-z]:\\|\\\\")


def path_or_uri(what: str, value: object) -> str:
    """The folder or the bucket's URI that a user gives, as a path or URI that every module reads.

    `~` and `~user` become the home folder, `file:///a%20b` becomes `/a b`, and `S3://` `s3://`.

    Args:
        what: the option or thing that it is given for, for the message.

    Raises:
        ConfigError: an empty one, which a shell makes of an unset variable; a bucket without a
            name; another scheme; a key or a password in it, which the message does not repeat; a
            user that does not exist; no path at all.
    """
    if not isinstance(value, str | Path):
        raise ConfigError(f"{what} {shown(value)}: give a path")
    text = str(value)
    try:
        return parse(text)
    except CredentialsError as error:
        raise ConfigError(f"{what}: {error}") from error
    except ValueError as error:
        given = text if text.strip() and text.isprintable() else shown(text)
        hint = " (as text: a Path has no two slashes)" if isinstance(value, Path) else ""
        raise ConfigError(f"{what} {given}: {error}{hint}") from error


def folder_name(path: str) -> str:
    """The last part of a folder's path or URI; that of the current folder for `.`."""
    if is_uri(path):
        return path.partition("?")[0].rstrip("/").rpartition("/")[2]
    return Path(path).name or Path(path).resolve().name


def local_path(what: str, value: object) -> str:
    """As :func:`path_or_uri`, for a folder or file that must be on this machine.

    Raises:
        ConfigError: as there; also for a bucket.
    """
    path = path_or_uri(what, value)
    if is_uri(path):
        raise ConfigError(f"{what} {path}: it is read and written on this machine: give a path")
    return path


def is_uri(path: str) -> bool:
    """Whether a parsed path is in a bucket."""
    return "://" in path


def parse(text: str) -> str:
    """A path or URI in the form of :func:`path_or_uri`; parsing it again changes nothing.

    Raises:
        ValueError: it cannot be used; the message says why, and what to give.
    """
    _check_characters(text)
    check_no_credentials(text)
    scheme, colon, rest = text.partition(":")
    name = scheme.lower()
    is_name = bool(re.fullmatch(r"[a-z][a-z0-9+.-]*", name))
    if colon and is_name and (rest.startswith("/") or name in SCHEMES):
        if name == "file":
            return parse(str(Path("/", _file_path(rest))))
        return _bucket_uri(name, rest)
    if "://" in text:
        raise ValueError(ALLOWED)
    if MISTYPED.match(text):
        raise ValueError(f"it looks like a mistyped URI: {ALLOWED}, or ./{text} for a folder")
    if WINDOWS.match(text):
        raise ValueError("it is a path of Windows: give one of this machine, such as /data/runs")
    if text.startswith("~"):
        found = os.path.expanduser(text)  # noqa: PTH111 — Path raises where there is no such user
        if found == text:
            raise ValueError(f"there is no user {text[1:].partition('/')[0]!r}: {ALLOWED}")
        return found
    plain = str(Path(text))  # without the ./ that makes `./~a` and `./s3:a` folders
    return str(Path(plain).absolute()) if plain != text and re.match(r"~|[^/]+:", plain) else text


def _bucket_uri(scheme: str, rest: str) -> str:
    if scheme not in BUCKETS:
        raise ValueError(ALLOWED)
    if not rest.startswith("//"):
        raise ValueError(f"a bucket is written {scheme}://BUCKET/…")
    address, question, options = rest[2:].partition("?")
    bucket, *folders = address.rstrip("/").split("/")
    if not bucket.rpartition("@")[2].strip():
        raise ValueError(f"it names no bucket: give {scheme}://BUCKET/…")
    if "" in folders:
        raise ValueError("a folder in it has no name: leave out the second slash")
    if re.search(r"\s", bucket):
        raise ValueError(f"the bucket's name has a space: give {scheme}://BUCKET/…")
    if len(address.encode()) > URI_BYTES:
        raise ValueError(f"it is longer than {URI_BYTES} bytes: give a shorter one")
    if "#" in address:
        raise ValueError("'#' ends a URI: write %23, or give another name")
    return f"{BUCKETS[scheme]}://{address}{question}{options}"


def _file_path(rest: str) -> str:
    """The path in the URI `file:REST`."""
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = slash + path if host in ("", "localhost") else ""
    if not rest.strip("/") or not rest.startswith("/") or re.search(r"[?#]", rest):
        raise ValueError("it names no folder: give file:///FOLDER, or the plain path")
    path = unquote(rest, errors="strict")
    _check_characters(path)
    return path


def _check_characters(text: str) -> None:
    """ValueError for no characters, or for some that a file system or YAML cannot hold."""
    if not text.strip():
        raise ValueError("it is empty: give a value, or leave it out")
    if "\0" in text:
        raise ValueError("a path cannot have a NUL character")
    if not is_utf8(text):
        raise ValueError("it is not UTF-8 text: give another path")
    if re.search(r"[\x01-\x08\x0b-\x1f\x7f-\x9f]", text):
        raise ValueError("a path cannot have a control character: give another path")
    if "://" not in text and len(text.encode()) > PATH_BYTES:
        raise ValueError(f"it is longer than {PATH_BYTES:,} bytes: give a shorter path")
    if any(len(name.encode()) > FILE_NAME_BYTES for name in text.partition("?")[0].split("/")):
        raise ValueError(f"a name in it is longer than {FILE_NAME_BYTES} bytes: give a shorter one")


def is_utf8(text: str) -> bool:
    """Whether a text has no bytes of a file name that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
