"""The page is well-formed and needs no other file."""

import base64
from html.parser import HTMLParser

from matplotlib.figure import Figure

from pixcon_mm.visualization.page import as_png, html_page

VOID = {'meta', 'link', 'img'}


class Reader(HTMLParser):
    """Checks that tags are closed in turn; collects references and text."""

    def __init__(self):
        super().__init__()
        self.open, self.references, self.ids, self.text = [], [], [], ''

    def handle_starttag(self, tag, attributes):
        names = dict(attributes)
        self.references += [names[n] for n in ('src', 'href') if n in names]
        self.ids += [f'#{names["id"]}'] if 'id' in names else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_page():
    png = as_png(Figure(figsize=(1, 1)))
    name = '<b>&"\'.jpg'
    reader = read(html_page(name, {'a': name}, {name: [(name, png)]}))
    assert reader.text.count(name) == 6  # title, heading, fact, link, h2, text
    pictures = [r for r in reader.references if r.startswith('data:image')]
    (data,) = (r.removeprefix('data:image/png;base64,') for r in pictures)
    assert base64.b64decode(data) == png
    links = [r for r in reader.references if r.startswith('#')]
    assert links == reader.ids
    assert len(links) + len(pictures) + 1 == len(reader.references)
