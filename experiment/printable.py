"""Sanitises untrusted text (file contents, directory names) for output."""

import hashlib


def printable(text: str) -> str:
    """Escapes all characters that are not printable, except for line breaks.

    These are control characters (terminals execute them), bidirectional marks (they disguise a name), and undecodable
    bytes.
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def printable_name(text: str) -> str:
    """As `printable`, and escapes line breaks, too."""
    return printable(text).replace("\n", "\\n")


def joined(parts: list[str], longest: int) -> str:
    """The parts with commas, as a title; of one longer than `longest`, what fits, and a checksum of the other parts."""
    parts = [printable_name(part).replace("|", "¦") for part in parts]  # a | would end a cell of a table
    text, count = ", ".join(parts), len(parts)
    while len(text) > longest and count > 1:
        count -= 1
        more = f", and more ({hashlib.sha256(', '.join(parts[count:]).encode()).hexdigest()[:6]})"
        first = ", ".join(parts[:count])
        text = (first if count > 1 else first[: longest - len(more)]) + more
    return text
