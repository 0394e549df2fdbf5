"""What a site is willing to read: an answer of a known, small length, as it is."""

from __future__ import annotations

import httpx

from mmfed_common.wire import CHUNK, OVERHEAD

MOST = CHUNK + OVERHEAD


def fit_to_read(response: httpx.Response) -> None:
    """Look at an answer's head before its body is read, so that no server can fill a site's memory.

    Raises
    ------
    httpx.HTTPStatusError
        When it is not a success: what a proxy has to say about it is not read.
    ValueError
        When it does not say how long it is, is too long, or is packed.
    """
    length = response.headers.get("content-length", "")
    small = length.isdigit() and len(length) < 12 and int(length) <= MOST
    if small and response.headers.get("content-encoding", "identity") == "identity":
        return
    if not response.is_success:
        raise httpx.HTTPStatusError(
            f"HTTP {response.status_code}", request=response.request, response=response
        )
    raise ValueError("an answer of unknown or too great length")
