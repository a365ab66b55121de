"""Text from files and names of directories, made safe to show: a stranger may have chosen it."""


def printable(text: str) -> str:
    """The text with escapes for what is no visible character: control characters (a terminal obeys them), marks that
    turn the direction of writing (a name passes for another), and bytes that are not UTF-8. Line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def printable_name(text: str) -> str:
    """The same on one line."""
    return printable(text).replace("\n", "\\n")
