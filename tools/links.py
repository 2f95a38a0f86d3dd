"""Check the links of every Markdown file: the file is there, and so is the heading.

Pages are also named in code, manifests and messages (`docs/….md`); those names are checked too. Links to
other hosts are not followed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

TOP = Path(__file__).resolve().parent.parent
MENTION = re.compile(r"(?<![\w/.-])docs/[\w/-]+\.md\b")
OF_A_BUNDLE = "docs/README.md"
"""Also the name of the model card in an exported bundle, so a mention of it says nothing."""


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True, text=True)
    return [TOP / name for name in listed.stdout.split("\0") if name and (TOP / name).is_file()]


def tokens_of(page: Path) -> Iterator[Token]:
    for block in MarkdownIt("gfm-like", {"linkify": False}).parse(page.read_text(encoding="utf-8")):
        yield block
        yield from block.children or ()


@cache
def anchors(page: Path) -> frozenset[str]:
    """As GitHub makes them: lower case, punctuation gone, spaces as hyphens, repeated ones numbered."""
    found: Counter[str] = Counter()
    names: set[str] = set()
    tokens = list(tokens_of(page))
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(child.content for child in inline.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            names.add(f"{slug}-{found[slug]}" if found[slug] else slug)
            found[slug] += 1
    return frozenset(names)


def faults_of(page: Path) -> Iterator[str]:
    for token in tokens_of(page):
        link = token.attrGet("href") or token.attrGet("src")
        if isinstance(link, str) and (fault := fault_of(page, link)):
            yield f"{page.relative_to(TOP)}: {fault}"


def fault_of(page: Path, link: str) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.exists():
        return f"links to {link}, which does not exist"
    if parts.fragment and parts.fragment not in anchors(target):
        return f"links to {link}, but {target.relative_to(TOP)} has no heading of that name"
    return None


def mentions(file: Path) -> Iterator[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    for name in sorted(set(MENTION.findall(text)) - {OF_A_BUNDLE}):
        if not (TOP / name).exists():
            yield f"{file.relative_to(TOP)}: names {name}, which does not exist"


def main() -> int:
    files = tracked_files()
    pages = [file for file in files if file.suffix == ".md"]
    faults = [
        *(fault for page in pages for fault in faults_of(page)),
        *(fault for file in files for fault in mentions(file)),
    ]
    print("\n".join(faults or [f"{len(pages)} pages: every link leads somewhere"]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
