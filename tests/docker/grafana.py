"""Stands in for Grafana, for which Debian has no package: reads the same provisioned files.

Two requests are answered. /api/health says that a data source and a dashboard were found;
/api/datasources/proxy/uid/UID/… passes a query on to the data source of that id. Nothing is drawn, so the
tests do not cover the look of a panel.
"""

import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

PROVISIONING = Path("/etc/grafana/provisioning")


def sources() -> dict[str, str]:
    """Addresses of the data sources, by id."""
    text = "".join(path.read_text() for path in PROVISIONING.glob("datasources/*.yaml"))
    return dict(re.findall(r"^ +uid: (\S+)$.*?^ +url: (\S+)$", text, re.MULTILINE | re.DOTALL))


def dashboards() -> list[Path]:
    """Files of the folders that are named as holding dashboards."""
    text = "".join(path.read_text() for path in PROVISIONING.glob("dashboards/*.yaml"))
    return [
        file
        for folder in re.findall(r"^ +path: (\S+)$", text, re.MULTILINE)
        for file in Path(folder).glob("*.json")
    ]


class Handler(BaseHTTPRequestHandler):
    """Answers GET."""

    def do_GET(self) -> None:
        """Health, or a query passed on."""
        if self.path == "/api/health":
            self._answer(200 if sources() and dashboards() else 503, b"{}")
        elif found := re.fullmatch(r"/api/datasources/proxy/uid/(\w+)(/.*)", self.path):
            with urlopen(sources()[found[1]] + found[2]) as reply:
                self._answer(reply.status, reply.read())
        else:
            self._answer(404, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", 3000), Handler).serve_forever()
