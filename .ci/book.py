#!/usr/bin/env python3
"""The book's links, for `.ci/run book`.

As a preprocessor of mdBook it turns links that lead out of `docs` into links to copies of those files below `source`. `book.py finish DIR` makes the copies
and fails when a link or an anchor of the built book leads nowhere.
"""

import json
import posixpath
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)\s]+)\)")


def outward(page, target):
    """Where a link of a page leads, if that is out of the book; below `source`, from the page."""
    file, _, anchor = target.partition("#")
    if "://" in target or not file:
        return target
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), file))
    if path.startswith("docs/") or path == "docs":
        return target
    up = "../" * page.count("/")
    # mdBook takes each link to a .md file for one to a page of its own.
    name = path[:-3] + "-md.txt" if path.endswith(".md") else path + "/index.html" if (ROOT / path).is_dir() else path
    return f"{up}source/{name}"


def preprocess():
    _, book = json.load(sys.stdin)

    def walk(items):
        for item in items:
            chapter = item.get("Chapter") if isinstance(item, dict) else None
            if chapter:
                page = chapter.get("path") or ""
                chapter["content"] = LINK.sub(lambda m: f"]({outward(page, m.group(1))})", chapter["content"])
                walk(chapter["sub_items"])

    walk(book.get("items") or book.get("sections"))
    json.dump(book, sys.stdout)


class Page(HTMLParser):
    """What a page links to, and what can be linked to on it."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.update(attrs[name] for name in ("id", "name") if attrs.get(name))
        for name in ("href", "src"):
            if attrs.get(name) and tag != "base":
                self.links.add(attrs[name])


def copy(name, book):
    """Copies a file of the repository to where links lead; of a directory, what is in it."""
    path = re.sub(r"-md\.txt$", ".md", name.removesuffix("/index.html"))
    there, here = ROOT / path, book / "source" / name
    if not there.exists():
        return False
    here.parent.mkdir(parents=True, exist_ok=True)
    if not there.is_dir():
        shutil.copy(there, here)
        return True
    rows = []
    for file in sorted(there.rglob("*")):
        inside = file.relative_to(there).as_posix()
        if file.is_file() and not any(part in ("node_modules", "target") for part in file.parts):
            rows.append(f'<li><a href="{inside}.txt">{inside}</a></li>')
            (here.parent / f"{inside}.txt").parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, here.parent / f"{inside}.txt")
    here.write_text(f"<!doctype html><title>{path}</title><h1>{path}</h1><ul>{''.join(rows)}</ul>")
    return True


def finish(book):
    pages = {file: Page(file.read_text()) for file in sorted(book.rglob("*.html"))}
    dead, links = [], 0
    for file, page in pages.items():
        # The page for what is not there is served at any depth, and the one for print has all of them.
        if file.name in ("404.html", "print.html", "toc.html"):
            continue
        for link in sorted(page.links):
            if re.match(r"[a-z]+:|//", link):
                continue
            links += 1
            target, _, anchor = link.partition("#")
            path = (file.parent / unquote(target)).resolve() if target else file
            relative = path.relative_to(book).as_posix() if path.is_relative_to(book) else ""
            there = path.exists() or (relative.startswith("source/") and copy(relative.removeprefix("source/"), book))
            if not there or (anchor and path in pages and unquote(anchor) not in pages[path].ids):
                dead.append(f"{file.relative_to(book)}: {link}")
    print(f"{len(pages)} pages, {links} links")
    if dead or links < 100:
        sys.exit("links of the book lead nowhere:\n" + "\n".join(dead))


if sys.argv[1:2] == ["supports"]:
    sys.exit(0)
elif sys.argv[1:2] == ["finish"]:
    finish(Path(sys.argv[2]).resolve())
else:
    preprocess()
