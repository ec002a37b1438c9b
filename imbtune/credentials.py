"""Keys and passwords in what a user types: found, so that they are neither written nor printed.

A study records its storage and its command line, and messages repeat paths. So a URI with a key is
refused before anything starts, in a message without the URI.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

ANONYMOUS = "anonymous@"  # of a public bucket: gs://anonymous@BUCKET
URI = re.compile(r"[\s'\"<(]*(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<rest>.*)", re.DOTALL)
# a name and a password before an @, which may have slashes; not the colon of a scheme
PASSWORD = re.compile(r"[^\s:/@=]+:(?!/)[^\s@]+@[^\s@]|//[^/]*:[^@]*@")
OPTION = re.compile(r"[?&;#,]([^=:&;#?,]+)[=:]([^&;#,]*)")
KNOWN_OPTIONS = {  # of pyarrow's S3 and GCS URIs, without those that hold keys
    "region", "scheme", "endpoint_override", "allow_bucket_creation", "allow_bucket_deletion",
    "allow_delayed_open", "background_writes", "check_directory_existence_before_creation",
    "default_bucket_location", "force_virtual_addressing", "project_id", "retry_limit_seconds",
    "smart_defaults", "tls_ca_file_path", "tls_verify_certificates",
}  # fmt: skip
SECRET = re.compile(
    r"key|secret|token|passw|pwd|credential|signature|auth|bearer|^sig$|^sas|^pass$|^pw$|^sk$|session",
    re.IGNORECASE,
)
MASK = "…"
OTHERWISE = {  # where the libraries look for keys, by scheme
    "s3": "in $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY or ~/.aws/credentials",
    "gs": "in the file that $GOOGLE_APPLICATION_CREDENTIALS names",
}


class CredentialsError(ValueError):
    """A text has a key or a password in it; the message does not repeat the text."""


def check_no_credentials(text: str) -> None:
    """CredentialsError for a URI with a key or a password, which would be written and printed."""
    if not has_credentials(text):
        return
    if re.match(r"\W*(abfs|abfss|az|hdfs|wasbs):", unquote(text), re.IGNORECASE):
        raise CredentialsError(
            "it may have a key or a password in it, and imbtune reads folders, s3:// and gs:// "
            "alone: give one of these"
        )
    found = re.search(r"\b(s3|gs|gcs)[an]?:?//?", unquote(text), re.IGNORECASE)
    scheme = found[1].lower().replace("gcs", "gs") if found else ""
    where = OTHERWISE.get(scheme, "in environment variables or files of the library that reads it")
    what = "it has a key or a password in it, which"
    if not _has_secret(text):
        what = "it has an option that pyarrow does not know, which may be a key or a password and"
    raise CredentialsError(
        f"{what} would be written into the study: leave that out of the address, and give it "
        f"{where}"
    )


def has_credentials(text: str) -> bool:
    """Whether a text is a URI with a user, a password, or an option such as `?access_key=…`.

    A secret may have any character: in `s3://KEY:A/B@BUCKET` the first slash is part of it. An
    option that pyarrow's URIs do not have may be one under another name, such as `?pass=…`.
    """
    return _has_secret(text) or _has_unknown_option(text)


def _has_secret(text: str) -> bool:
    for form in (text, unquote(text)):
        found = URI.match(form)
        known = _is_uri(form)
        if found and known:
            authority = _authority(found["scheme"].lower(), found["rest"])
            if "@" in authority or re.search(r":(?!\d*$)", authority.rpartition("]")[2]):
                return True
        if PASSWORD.search(form):
            return True
        if not known and "//" not in form:
            continue
        options = [(unquote(name), unquote(value)) for name, value in OPTION.findall(form)]
        if any(SECRET.search(name) or "@" in value for name, value in options):
            return True
    return False


def _has_unknown_option(text: str) -> bool:
    if not _is_uri(text) and not _is_uri(unquote(text)) and "//" not in text:
        return False
    address, _, options = unquote(text).partition("?")
    if address.lower().startswith("file:") and not re.search("[=:]", options):
        return False  # the name of a file with a question mark
    names = (option.partition("=")[0] for option in re.split(r"[?&;,]", options) if option)
    return any(name not in KNOWN_OPTIONS for name in names)


def _is_uri(text: str) -> bool:
    """Whether it begins with a scheme: of a bucket, or any other with a slash after the colon."""
    found = URI.match(text)
    return bool(
        found and (found["rest"].startswith("/") or re.fullmatch("s3|gs|gcs", found["scheme"]))
    )


def masked(text: str) -> str:
    """A message with `…` for users and passwords in URIs, and for values of secret options."""
    text = re.sub(
        r"(\w:/{1,2})(?!anonymous@)[^\s@/'\"<>()]*(:[^\s@'\"<>()]*)?@", rf"\1{MASK}@", text
    )
    return re.sub(
        rf"([?&;,](?=[^=\s]*(?:{SECRET.pattern}))[\w%.-]+=)[^&;,\s'\"<>()]+",
        rf"\1{MASK}",
        text,
        flags=re.IGNORECASE,
    )


def without_credentials(words: Sequence[str]) -> list[str]:
    """A command line with `…` for what may be secret: such URIs, and values of `--token` and so on.

    Args:
        words: of the command line, options as `--name value` or `--name=value`.
    """
    found = []
    hide = False  # the next word, as the value of an option
    for before, word in zip(("", *words), words, strict=False):
        name, equals, _ = word.partition("=")
        is_option = word.startswith("-")
        secret = bool(SECRET.search(name)) and (is_option or bool(equals))
        if before == "--set" and not has_credentials(word):
            found.append(word)  # a setting, which is no secret whatever its name
        elif hide and not is_option:
            found.append(MASK)
        elif secret and equals:
            found.append(f"{name}={MASK}")
        elif has_credentials(word) or (equals and has_credentials(word.partition("=")[2])):
            found.append(MASK)
        else:
            found.append(word)
        hide = secret and is_option and not equals
    return found


def _authority(scheme: str, rest: str) -> str:
    """The part of a URI that may hold a user and a password, as in `user:password@host:80`."""
    if scheme == "file" and not rest.startswith("//"):
        return ""
    start = rest[2:] if scheme == "file" else rest.lstrip("/")
    authority = unquote(re.split(r"[/?#]", start, maxsplit=1)[0])
    if scheme in ("gs", "gcs"):
        authority = authority.removeprefix(ANONYMOUS)
    return authority
