"""HTML page with embedded figures, so that it needs no other file."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

from matplotlib.figure import Figure

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 1200px; margin: 1em auto;
        padding: 0 1em; color: #222; background: #fff; }}
figure {{ margin: 1em 0; }}
img {{ max-width: 100%; border: 1px solid #ddd; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: left; padding: 0.1em 1em 0.1em 0; vertical-align: top; }}
td {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
<table>
{facts}
</table>
<nav><p>{links}</p></nav>
{sections}
</body>
</html>
"""


def as_png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=100)
    return file.getvalue()


def html_page(
    title: str,
    facts: Mapping[str, str],
    sections: Mapping[str, Sequence[tuple[str, bytes]]],
) -> str:
    """Write the page.

    Args:
        title (str): Title of the page.
        facts (Mapping[str, str]): Names and values for a table.
        sections (Mapping): From the heading of a section to its figures,
            pairs of a caption and the content of a PNG file.

    Returns:
        str: HTML with the figures in it.
    """
    parts = []
    for number, (heading, pictures) in enumerate(sections.items()):
        parts.append(f'<h2 id="s{number}">{escape(heading)}</h2>')
        for text, png in pictures:
            data = base64.b64encode(png).decode()
            parts.append(
                f'<figure><img alt="{escape(f"{heading}: {text}")}" '
                f'src="data:image/png;base64,{data}">'
                f'<figcaption>{escape(text)}</figcaption></figure>'
            )
    return PAGE.format(
        title=escape(title),
        facts='\n'.join(
            f'<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>'
            for name, value in facts.items()
        ),
        links=' | '.join(
            f'<a href="#s{number}">{escape(heading)}</a>'
            for number, heading in enumerate(sections)
        ),
        sections='\n'.join(parts),
    )
