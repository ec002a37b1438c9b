"""How long-running work tells the user about its progress: events, their state, and its views."""

from imbtune.progress.log_lines import Log, line_width, no_line, print_line, wrapped

__all__ = ["Log", "line_width", "no_line", "print_line", "wrapped"]
