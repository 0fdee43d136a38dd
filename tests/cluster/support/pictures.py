"""Pictures of terminals, which load nothing from elsewhere."""

import io

from rich.console import Console

# Rich's own form has the address of a font, for which others would be asked.
_SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def terminal(width: int) -> Console:
    """A terminal with so many columns, which keeps what is printed."""
    return Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")


def picture(printed: Console, title: str, name: str) -> str:
    """What a terminal keeps, as SVG; the name has to be the only one of its kind where the picture is shown."""
    return printed.export_svg(title=title, code_format=_SVG, unique_id=name)
