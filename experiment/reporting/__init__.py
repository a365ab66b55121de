"""Numbers as text, figures and a page."""
