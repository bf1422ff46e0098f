"""Generated parts of pages that people write: the text between two marks."""

from __future__ import annotations


def replaced(page: str, name: str, text: str) -> str:
    """The page with the text between `<!-- begin NAME … -->` and `<!-- end NAME -->` written anew.

    Raises:
        ValueError: the page lacks one of the marks.
    """
    begin = page.index("\n", page.index(f"<!-- begin {name}")) + 1
    end = page.index(f"<!-- end {name} -->")
    return f"{page[:begin]}\n{text.strip()}\n\n{page[end:]}"
