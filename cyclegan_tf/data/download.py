"""Downloads that go on where they were interrupted."""

import http.client
import os
import urllib.error
import urllib.request

from tqdm import tqdm

from cyclegan_tf.errors import UserError

_ATTEMPTS, _TIMEOUT = 3, 30


def download(url, path):
    """Fetches `url` into the file `path`, with a progress bar on a terminal.

    What has come so far is in PATH.part; a later call goes on there, if the server can. The content is not checked.

    Raises:
      UserError: it ended early more than twice in a row, or could not be written.
    """
    part = f"{path}.part"
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    reason = ""
    for _ in range(_ATTEMPTS):
        try:
            if _fetch(url, part):
                os.replace(part, path)
                return
            reason = "it ended early"
        except urllib.error.HTTPError as error:
            reason = str(error)
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                os.remove(part)  # Of another version of the file: longer than what the server has.
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
    raise UserError(f"download of {url} failed: {reason}; start again to go on with {part}")


def _fetch(url, part):
    """Appends the rest of `url` to file `part`; returns whether it is whole."""
    have = os.path.getsize(part) if os.path.exists(part) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        if response.status != http.client.PARTIAL_CONTENT:
            have = 0  # The server begins again.
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = tqdm(desc=os.path.basename(url), total=total, initial=have, unit="B", unit_scale=True, disable=None)
        with open(part, "ab" if have else "wb") as file, bar:
            while data := response.read(2**18):
                file.write(data)
                bar.update(len(data))
    return total is None or os.path.getsize(part) == total
