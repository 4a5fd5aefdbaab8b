"""Check the built site: ``python docs/check.py docs/_build/html``.

Every link and anchor inside the site leads somewhere, nothing is loaded from another host, and every word of prose is
in the English dictionary, in ``docs/words.txt`` or in code somewhere on the site. ``--external`` asks other hosts, too.
"""

from __future__ import annotations

import argparse
import re
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

WORDS = Path(__file__).with_name("words.txt")

# What a browser fetches by itself, by element.
_LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "embed": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
    "link": "href",
    "image": "href",
    "use": "href",
}
_NOT_LOADED = {"canonical", "author", "license", "next", "prev", "index", "search", "help"}
_ELSEWHERE = re.compile(r"""url\(\s*["']?(?:https?:)?//|@import\s+["'](?:https?:)?//""")
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_CODE = {"code", "pre", "kbd", "samp", "tt", "dt"}
_SILENT = {"script", "style", "svg", "math", "nav", "footer"}
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass
class Page(HTMLParser):
    """What a page links to and loads, its anchors, its prose and the words of its code."""

    file: Path
    links: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)
    anchors: set[str] = field(default_factory=set)
    prose: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self.feed(self.file.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if tag in _LOADED and not (tag == "link" and set(given.get("rel", "").split()) <= _NOT_LOADED):
            self.loaded.add(given.get(_LOADED[tag], ""))
            self.loaded |= {part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()}
        if _ELSEWHERE.search(given.get("style", "")):
            self.loaded.add(f"//{given['style']}")
        if tag not in _VOID:
            self._open.append("pre" if "highlight" in given.get("class", "").split() else tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and tag not in _VOID:
            if self._open.pop() in (tag, "pre"):
                break

    def handle_data(self, data: str) -> None:
        if "style" in self._open and _ELSEWHERE.search(data):
            self.loaded.add(f"//{data}")
        if "article" in self._open and not _SILENT.intersection(self._open):
            (self.code if _CODE.intersection(self._open) else self.prose).append(data)


def broken_links(pages: dict[Path, Page], root: Path) -> Iterator[str]:
    """Links to a page, a file or an anchor of the site that is not there."""
    for page in pages.values():
        for link in sorted(page.links):
            target = urlsplit(link)
            if target.scheme or target.netloc:
                continue
            file = (page.file.parent / unquote(target.path)).resolve() if target.path else page.file
            file = file / "index.html" if file.is_dir() else file
            if not file.is_relative_to(root) or not file.exists():
                yield f"{page.file.relative_to(root)}: {link!r} leads nowhere"
            elif target.fragment and file in pages and unquote(target.fragment) not in pages[file].anchors:
                yield f"{page.file.relative_to(root)}: {link!r} has no such anchor"


def loaded_from_elsewhere(pages: dict[Path, Page], root: Path) -> Iterator[str]:
    """What pages and style sheets make a browser fetch from another host, and what they load and do not have."""
    for page in pages.values():
        for source in sorted(page.loaded):
            target = urlsplit(source)
            if target.scheme not in ("", "data") or target.netloc or source.startswith("//"):
                yield f"{page.file.relative_to(root)}: loads {source[:100]!r} from another host"
            elif target.path and target.scheme != "data" and not (page.file.parent / unquote(target.path)).exists():
                yield f"{page.file.relative_to(root)}: loads {source!r}, which is not there"
    for sheet in sorted(root.rglob("*.css")):
        for found in _ELSEWHERE.findall(sheet.read_text("utf-8")):
            yield f"{sheet.relative_to(root)}: loads {found!r} ... from another host"


def misspelt(pages: Iterable[Page], root: Path) -> Iterator[str]:
    """Words of prose that neither the dictionary, nor the list of words, nor any code has."""
    from spylls.hunspell import Dictionary

    pages = list(pages)
    known = {word.lower() for word in WORDS.read_text("utf-8").split()}
    known |= {word.lower() for page in pages for text in page.code for word in _words(text)}
    dictionary = Dictionary.from_files("en_US")

    @cache
    def is_word(word: str) -> bool:
        lower = word.lower().replace("’", "'")
        stem = re.sub(r"'s?$", "", lower)
        return stem in known or lower in known or dictionary.lookup(word) or dictionary.lookup(stem)

    for page in pages:
        for word in sorted({word for text in page.prose for word in _words(text)}):
            # Symbols of formulas and acronyms are no words of English.
            if len(word) > 2 and word.isascii() and not word.isupper() and not is_word(word):
                yield f"{page.file.relative_to(root)}: unknown word {word!r}"


def _words(text: str) -> list[str]:
    return [word for part in re.split(r"[\w.]*(?:://|[@/\\_=])\S*", text) for word in _WORD.findall(part)]


def unanswered(pages: Iterable[Page]) -> Iterator[str]:
    """Links to other hosts that do not answer, or not with a page."""
    links = {
        link.partition("#")[0] for page in pages for link in page.links if link.startswith(("http://", "https://"))
    }

    def ask(link: str) -> str | None:
        request = urllib.request.Request(link, headers={"User-Agent": "Mozilla/5.0 (a check of links)"})
        try:
            with urllib.request.urlopen(request, timeout=20):
                return None
        except (OSError, ValueError) as error:
            return f"{link}: {error}"

    with ThreadPoolExecutor(8) as pool:
        yield from filter(None, pool.map(ask, sorted(links)))


def main() -> int:
    """0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path, help="the folder of the built site")
    parser.add_argument("--external", action="store_true", help="also ask other hosts for what is linked to there")
    arguments = parser.parse_args()
    root = arguments.site.resolve()
    pages = {file: Page(file) for file in sorted(root.rglob("*.html")) if "_static" not in file.parts}
    if not pages:
        parser.error(f"{arguments.site} has no pages")
    found = [*broken_links(pages, root), *loaded_from_elsewhere(pages, root), *misspelt(pages.values(), root)]
    if arguments.external:
        found += unanswered(pages.values())
    print("\n".join(found) or f"{len(pages)} pages: links, hosts and spelling are right")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
