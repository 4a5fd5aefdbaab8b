"""The real Label Studio, started on loopback: tasks in, annotations by two people through its API, exports out.

``python tests/campaign/exchange/label_studio_server.py PROGRAM`` writes the exports that lie in
``tests/campaign/exchange/label_studio/`` anew, where PROGRAM is the command ``label-studio`` of some environment
(``pip install label-studio``). The people and their answers are made up.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import runpy
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PEOPLE = (("first@example.org", "a-long-secret-1"), ("second@example.org", "a-long-secret-2"))
FORMATS = {"JSON": "json.json", "JSON_MIN": "json_min.json", "CSV": "csv.csv"}


class Session:
    """What one person does in a browser."""

    def __init__(self, address: str) -> None:
        self.address, self.cookies = address, http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def request(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        headers = {"Content-Type": kind, "X-CSRFToken": self._token(), "Referer": self.address}
        request = urllib.request.Request(self.address + path, body, headers, method=method)
        try:
            with self._opener.open(request, timeout=120) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read()[:2000]!r}") from error

    def json(self, method: str, path: str, content: Any = None) -> Any:
        found = self.request(method, path, None if content is None else json.dumps(content).encode())
        return json.loads(found) if found else None

    def form(self, path: str, **fields: str) -> None:
        self.request("GET", path)
        fields["csrfmiddlewaretoken"] = self._token()
        self.request("POST", path, urllib.parse.urlencode(fields).encode(), "application/x-www-form-urlencoded")

    def _token(self) -> str:
        return next((cookie.value or "" for cookie in self.cookies if cookie.name == "csrftoken"), "")


@contextmanager
def label_studio(program: str, images: Path) -> Iterator[str]:
    """The address of a server that serves the images of a folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "LABEL_STUDIO_BASE_DATA_DIR": folder,
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(images.parent),
            "COLLECT_ANALYTICS": "false",
            "LATEST_VERSION_CHECK": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
        }
        environment.pop("PYTHONPATH", None)
        command = [program, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
        command += ["--data-dir", folder, "--username", PEOPLE[0][0], "--password", PEOPLE[0][1]]
        with open(Path(folder, "log"), "wb") as log:
            server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
            try:
                address = f"http://127.0.0.1:{port}"
                _wait(address, server, Path(folder, "log"))
                yield address
            finally:
                server.terminate()
                server.wait(60)


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(900):  # it takes a minute of a processor to make its database
        if server.poll() is not None:
            break
        if _answers(f"{address}/health"):
            return
        time.sleep(1)
    raise RuntimeError(log.read_text(errors="replace")[-4000:])


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True


def exports(program: str, images: Path, tasks: bytes, interface: str, said: list[dict[str, Any]]) -> dict[str, Any]:
    """What Label Studio exports once people have answered.

    Parameters
    ----------
    program : str
        The command ``label-studio``.
    images : Path
        Their folder.
    tasks : bytes
        JSON.
    interface : str
        XML.
    said : list of dict
        Each has ``person`` (0 or 1), ``task`` (from 0) and ``label``, None where the person skips the task; and may
        have ``note``, ``draft`` (True), ``ground_truth`` (True) and ``then``, the label that it is changed to.

    Returns
    -------
    dict
        ``files``, the content of each of :data:`FORMATS`; ``tasks``, in Label Studio's order; ``images``, as it served
        them.
    """
    with label_studio(program, images) as address:
        first, second = people = (Session(address), Session(address))
        first.form("/user/login/", email=PEOPLE[0][0], password=PEOPLE[0][1])
        invitation = first.json("GET", "/api/invite")["invite_url"]
        second.form(invitation, email=PEOPLE[1][0], password=PEOPLE[1][1])
        project = first.json("POST", "/api/projects/", {"title": "test", "label_config": interface})["id"]
        storage = {"project": project, "path": str(images), "use_blob_urls": True, "title": "images"}
        first.json("POST", "/api/storages/localfiles/", storage)
        first.json("POST", f"/api/projects/{project}/import", json.loads(tasks))
        listed = first.json("GET", f"/api/tasks?project={project}&page_size=1000&fields=all")["tasks"]
        for entry in said:
            _annotate(people[entry["person"]], listed[entry["task"]]["id"], entry)
        export = f"/api/projects/{project}/export?download_all_tasks=true&exportType="
        return {
            "files": {name: first.request("GET", export + kind) for kind, name in FORMATS.items()},
            "tasks": listed,
            "images": [first.request("GET", task["data"]["image"]) for task in listed],
        }


def _annotate(person: Session, task: int, entry: dict[str, Any]) -> None:
    content = {"result": _result(entry["label"], entry.get("note", "")), "lead_time": 1.5}
    if entry.get("draft"):
        person.json("POST", f"/api/tasks/{task}/drafts", content)
        return
    content |= {"was_cancelled": entry["label"] is None, "ground_truth": entry.get("ground_truth", False)}
    made = person.json("POST", f"/api/tasks/{task}/annotations/", content)
    if "then" in entry:
        person.json("PATCH", f"/api/annotations/{made['id']}/", {"result": _result(entry["then"], "")})


def _result(label: str | None, note: str) -> list[dict[str, Any]]:
    choice = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}
    text = {"from_name": "note", "to_name": "image", "type": "textarea", "value": {"text": [note]}}
    return ([] if label is None else [choice]) + ([text] if note else [])


def png(grey: int) -> bytes:
    """An image of one colour."""
    rows = b"".join(b"\0" + bytes([grey]) * 4 for _ in range(4))
    parts = (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def said_by(classes: Sequence[str]) -> list[dict[str, Any]]:
    """What two people say of eight images: all that Label Studio's exports can hold."""
    return [
        {"person": 0, "task": 0, "label": classes[0]},
        {"person": 1, "task": 0, "label": classes[1]},
        {"person": 0, "task": 1, "label": None},
        {"person": 1, "task": 1, "label": classes[2], "note": 'said, "so"\nhere'},
        {"person": 0, "task": 2, "label": classes[3]},
        {"person": 0, "task": 3, "label": classes[4]},
        {"person": 1, "task": 3, "label": "cannot tell"},
        {"person": 0, "task": 4, "label": "not an image of any class"},
        {"person": 1, "task": 5, "label": classes[5], "ground_truth": True},
        {"person": 1, "task": 6, "label": classes[6], "draft": True},
        {"person": 0, "task": 6, "label": classes[0], "then": classes[6]},
    ]


def main(program: str) -> None:
    """Write the exports that the tests read."""
    from ccma_fast.campaign.exchange.formats import export_assignment

    shared = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    assignment = shared["assignment"].__wrapped__()
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "photos")
        for number, task in enumerate(assignment.tasks):
            Path(images, task.image).parent.mkdir(parents=True, exist_ok=True)
            Path(images, task.image).write_bytes(png(number))
        tasks, interface = export_assignment("label-studio", assignment, Path(folder, "t.json"), images="photos")
        found = exports(program, images, tasks.read_bytes(), interface.read_text(), said_by(assignment.classes))
    for name, content in found["files"].items():
        Path(__file__).with_name("label_studio").joinpath(name).write_bytes(content)


if __name__ == "__main__":
    main(sys.argv[1])
