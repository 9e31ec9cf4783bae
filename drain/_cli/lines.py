"""What commands that print a table have in common."""

from rich.console import Console


def whole_lines() -> Console:
    """Standard output: as wide as the terminal, and elsewhere in whole lines, for whoever reads it there."""
    console = Console()
    return console if console.is_terminal else Console(width=1000)
