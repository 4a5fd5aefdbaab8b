"""Text of files that people and other programs write: the file itself says its encoding, which is never guessed."""

from __future__ import annotations

import codecs
import re

__all__ = ["decoded"]

# The longest first: that of UTF-32 begins as that of UTF-16 does. Excel's "Unicode text" is UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# What only text of another encoding has inside, or text put together from several files.
_NO_TEXT = {"\0": "a zero byte", "\ufeff": "a byte order mark"}

_LINE_ENDS = re.compile(r"\r\n|\r|\n")

# Bytes of a line that an error message shows.
_SHOWN = 40


def decoded(content: bytes) -> str:
    """The text of a file: in UTF-8, or as its byte order mark says in UTF-8, UTF-16 or UTF-32.

    Raises
    ------
    ValueError
        Bytes that are not of this encoding, a zero byte or a byte order mark inside; the text names the line.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(_refusal(content, error)) from None
    if inside := next((mark for mark in _NO_TEXT if mark in text), None):
        line = len(_LINE_ENDS.findall(text, 0, text.index(inside))) + 1
        raise ValueError(f"must be text in UTF-8, got {_NO_TEXT[inside]} inside, in line {line}")
    return text


def _refusal(content: bytes, error: UnicodeDecodeError) -> str:
    if not error.encoding.startswith("utf-8"):
        name = error.encoding[:6].upper()
        return f"its byte order mark says {name}, but it is damaged or cut off at byte {error.start}: {error.reason}"
    start = error.start + (len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0)
    before = content[:start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    line = before.count(b"\n") + 1
    shown = before.rpartition(b"\n")[2][-_SHOWN:] + content[start : start + _SHOWN].splitlines()[0]
    return (
        f"line {line} is not in UTF-8, got the byte 0x{content[start]:02x} in "
        f"'{shown.decode(errors='backslashreplace')}'; expected a file saved as UTF-8 (in spreadsheets 'CSV UTF-8' or "
        "'Unicode text')"
    )
