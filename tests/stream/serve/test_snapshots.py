"""Pictures of events over HTTP."""

from __future__ import annotations

import http.client
from pathlib import Path
from types import SimpleNamespace

from stream.serve.config import HttpConfig
from stream.serve.server import HttpServer


def test_pictures_are_served_to_whoever_may_see_cameras_and_no_other_file_is(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "pictures"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "e.jpg").write_bytes(b"a picture")
    for other in (tmp_path / "secret.jpg", folder / "top.jpg", folder / "a" / "notes.txt"):
        other.write_bytes(b"secret")
    (folder / "a" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    config = HttpConfig.model_validate({"port": 0, "token": "t"})
    server = HttpServer(
        config,
        metrics=bytes,
        checks={},
        cameras=lambda: SimpleNamespace(),
        snapshots=(folder,),
    )
    server.start()

    def get(path: str, token: str = "t") -> tuple[int, bytes]:
        # Unlike urllib it sends the path as it is.
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    try:
        assert get("/snapshots/a/e.jpg") == (200, b"a picture")
        assert get("/snapshots/a/e.jpg", token="x")[0] == 401
        for path in (
            "a/none.jpg",
            "a/notes.txt",
            "a/link.jpg",
            "../secret.jpg",
            "%2e%2e/secret.jpg",
            "a/..%2f..%2fsecret.jpg",
            "a/../top.jpg",
            "./top.jpg",
            "a%00/e.jpg",
            "..%2fpictures/a",
            "x" * 300 + "/e.jpg",
        ):
            status, said = get(f"/snapshots/{path}")
            assert status == 404, path
            assert b"secret" not in said.replace(path.encode(), b"")
    finally:
        server.close()
