"""Downloads that resume after an interruption."""

import http.client
import os
import urllib.error
import urllib.request

from tqdm import tqdm

from cyclegan_tf.errors import UserError

_ATTEMPTS = 3
_TIMEOUT_SECONDS = 30


def download(url: str, path: str) -> None:
    """Downloads `url` to the file `path`, with a progress bar on a terminal.

    PATH.part keeps partial content, so a later call resumes the download if the server supports ranges. The caller must
    verify the content.

    Raises:
      UserError: the download failed three times in a row, or the file cannot be written.
    """
    part = f"{path}.part"
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    reason = ""
    for _ in range(_ATTEMPTS):
        try:
            if _fetch(url, part):
                os.replace(part, path)
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            reason = str(error)
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                if error.headers.get("Content-Range") == f"bytes */{os.path.getsize(part)}":  # The part is complete.
                    os.replace(part, path)
                    return
                os.remove(part)  # The part is longer than the server's file, so it belongs to another version.
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    raise UserError(f"download of {url} failed: {reason}; start again to resume from {part}")


def _fetch(url: str, part: str) -> bool:
    """Appends the rest of `url` to the file `part`; returns whether the file is complete."""
    done = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
        if response.status != http.client.PARTIAL_CONTENT:
            done = 0  # The server sends the whole file.
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        bar = tqdm(desc=os.path.basename(url), total=total, initial=done, unit="B", unit_scale=True, disable=None)
        with open(part, "ab" if done else "wb") as file, bar:
            while data := response.read(2**18):
                file.write(data)
                bar.update(len(data))
    return total is None or os.path.getsize(part) == total
