"""What a person sees: aligned lines, in colour only on a terminal."""

import contextlib
import sys

import click

from deploy.local.supervisor import Happening, Kind

COLOURS = {
    Kind.READY: "green",
    Kind.DONE: "green",
    Kind.AGAIN: "green",
    Kind.DIED: "yellow",
    Kind.KILLED: "yellow",
    Kind.STOPPED: "bright_black",
    Kind.NOTE: "bright_black",
}


class Terminal:
    """Prints to stdout. That it is closed (the reader of a pipe went away) stops nothing that we supervise."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty()

    def line(self, text: str = "", *, colour: str | None = None, bold: bool = False) -> None:
        """One line; colours that it brings along are kept on a terminal only."""
        shown = self.paint(text, colour=colour, bold=bold) if self._colour else click.unstyle(text)
        with contextlib.suppress(OSError, ValueError):
            print(shown, flush=True)

    def paint(self, text: str, *, colour: str | None = None, bold: bool = False) -> str:
        """``text`` in a colour, if this is a terminal."""
        if not self._colour or not (colour or bold):
            return text
        return click.style(text, fg=colour, bold=bold)

    def happening(self, happening: Happening) -> None:
        """A line per part: name, what happened, the time it took, the address."""
        if happening.kind is Kind.NOTE:
            self.line(f"  {happening.text}", colour=COLOURS[Kind.NOTE])
            return
        what = self.paint(f"{happening.kind.value:<11}", colour=COLOURS[happening.kind])
        took = f"{happening.seconds:6.1f} s" if happening.seconds else " " * 8
        self.line(f"  {happening.part:<11} {what} {took}  {happening.text}".rstrip())
