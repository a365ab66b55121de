"""Sanitises untrusted text (file contents, directory names) for output."""


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
    """The first part and as many of the others as fit into `longest` characters, with commas."""
    text = ", ".join(parts)
    return text if len(text) <= longest or len(parts) < 2 else joined(parts[:-1], longest)
