"""Fragments of HTML that stages write for the report, as a browser reads them."""

from html.parser import HTMLParser

VOID = {"br", "hr", "img", "source", "input", "wbr"}  # elements without an end


class Shown(HTMLParser):
    """The tags of a fragment, its text, and the words with a background of their own."""

    def __init__(self, html: str):
        super().__init__()
        self.open = list[str]()  # what was not closed
        self.tags, self.text, self.marked = set[str](), "", list[tuple[str, str]]()  # (style, word)
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        style = dict(attrs).get("style") or ""
        if tag == "span" and style.startswith("background"):
            self.marked.append((style, ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open[-1:] == ["span"] and self.marked:
            self.marked[-1] = (self.marked[-1][0], data)
