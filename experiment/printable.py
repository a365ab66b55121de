"""Text from files and names of directories, made safe to show: a stranger may have chosen it."""

import re


def printable(text: str) -> str:
    """The text with escapes for what is no visible character: control characters (a terminal obeys them), marks that
    turn the direction of writing (a name passes for another), and bytes that are not UTF-8. Line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def name(text: str) -> str:
    """A name for a table or a sentence: on one line, and without what Markdown takes for a column or a tag."""
    return re.sub(r"\n|\||<(?=[A-Za-z/!?])", lambda found: f"\\x{ord(found[0]):02x}", printable(text))
