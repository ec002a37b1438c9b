"""`imbtune serve`: live pages of all studies under a folder."""

from __future__ import annotations

import webbrowser


def serve_command(path: str, host: str, port: int, open_browser: bool) -> None:
    """Serve the reports until Ctrl-C.

    Args:
        path: folder or URI of studies, or of one study.
        host: address of this machine to listen at.
        port: 0 for any that is free.
        open_browser: whether to open the page in a browser of this machine.
    """
    from imbtune.serving.run_server import open_server

    server = open_server(path, host, port, print)
    print(f"\n  {server.url}\n\nCtrl-C ends it.", flush=True)
    if open_browser:
        webbrowser.open(server.url)
    server.run()
