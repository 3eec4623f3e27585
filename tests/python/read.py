"""Reads a TUF repository with python-tuf's ngclient over HTTP on the loopback.

usage: read.py DIR ROOT PATH...   (DIR/metadata, DIR/targets; ROOT is the pinned root)
"""

import functools
import http.server
import json
import os
import sys
import tempfile
import threading

from tuf.ngclient import Updater


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


directory, root, paths = sys.argv[1], sys.argv[2], sys.argv[3:]
handler = functools.partial(Quiet, directory=directory)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_address[1]}"

with tempfile.TemporaryDirectory() as state, open(root, "rb") as pinned:
    metadata, downloads = os.path.join(state, "metadata"), os.path.join(state, "targets")
    os.mkdir(metadata)
    os.mkdir(downloads)
    updater = Updater(
        metadata,
        f"{base}/metadata/",
        downloads,
        f"{base}/targets/",
        bootstrap=pinned.read(),
    )
    updater.refresh()
    found = {}
    for path in paths:
        info = updater.get_targetinfo(path)
        if info is None:
            found[path] = None
            continue
        with open(updater.download_target(info), "rb") as file:
            found[path] = {"text": file.read().decode(errors="replace"), "custom": info.custom}
    found["root"] = updater._trusted_set.root.version
json.dump(found, sys.stdout)
