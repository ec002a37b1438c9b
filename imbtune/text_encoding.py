"""The encoding of a text file: UTF-8, or what its byte order mark says.

Programs on Windows write UTF-16, such as PowerShell's `>` and Excel's "Unicode Text".
"""

from __future__ import annotations

import codecs

# Longest first: the mark of UTF-32 begins with that of UTF-16
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MARK_BYTES = 4  # of the longest mark


def encoding_of(content: bytes) -> str:
    """The name of the encoding of a text, for `bytes.decode` and `open`; both leave the mark out.

    Args:
        content: the text's bytes, or at least its first `MARK_BYTES`.
    """
    return next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8-sig")


def decoded(content: bytes) -> str:
    """The text without its byte order mark.

    Raises:
        UnicodeDecodeError: it is in another encoding.
    """
    return content.decode(encoding_of(content))
