"""Requests to one hub, complete: redirects followed by hand, the token kept to its origin, retries, plain reasons.

Every failure that may mean "try elsewhere" is a `NotHere`, whose text tells 401, 403, 404, 429, 5xx and no connection
apart.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from plait import __version__, console
from plait.errors import OptionError
from plait.hub.trail import NotHere

_TRIES = 3
_REDIRECTS = 8
_JSON_LIMIT = 64 << 20  # bytes; a page of a thousand files takes less than one of them


class Session:
    """A client of one hub. `headers` carry the token; they go to the origin of `endpoint` alone, and never again after
    a redirect has left it."""

    def __init__(
        self, endpoint: str, *, headers: Mapping[str, str] | None = None, proxies: Mapping[str, str] | None = None
    ) -> None:
        self.endpoint = endpoint
        self.headers = dict(headers or {})
        # The HTTP library would refuse it as well, with a message that holds the token.
        if not all(value.isascii() and value.isprintable() for value in self.headers.values()):
            raise OptionError(
                "The access token has a line end, a control character or a letter that no token has, so it was not "
                "sent. Check token=, HF_TOKEN and MODELSCOPE_API_TOKEN."
            )
        self.client = httpx.Client(
            follow_redirects=False,
            timeout=httpx.Timeout(30, connect=5),
            headers={"User-Agent": f"plait/{__version__}", "Accept-Encoding": "identity"},
            mounts=_mounts(proxies),
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def json(self, address: str) -> tuple[Any, str | None]:
        """The JSON at an address, and the address of its next page (`Link: …; rel="next"`)."""
        for attempt in range(1, _TRIES + 1):
            try:
                with self.get(address) as response:
                    return self._parsed(address, response)
            except httpx.RequestError as error:  # the connection was cut while the bytes came
                if attempt == _TRIES:
                    reason = f"broke off in the middle of {address}: {_plain(error)} ({attempt} tries)"
                    raise NotHere(reason, sure=False) from error
        raise AssertionError("the last try returned or raised")

    def _parsed(self, address: str, response: httpx.Response) -> tuple[Any, str | None]:
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > _JSON_LIMIT:
                raise NotHere(f"answered {address} with more than {_JSON_LIMIT} bytes", sure=False)
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            kind = response.headers.get("content-type", "no content type")
            raise NotHere(f"answered {address} with something that is not JSON ({kind})", sure=False) from error
        following = response.links.get("next", {}).get("url")
        return answer, _led(address, following, "continues its listing at") if following else None

    @contextmanager
    def get(self, address: str, *, offset: int = 0) -> Iterator[httpx.Response]:
        """A streamed answer, 200 or 206, from byte `offset` on; retries temporary failures. Raises `NotHere`."""
        for attempt in range(1, _TRIES + 1):
            response, reason, wait = self._once(address, offset)
            if response is not None:
                try:
                    yield response
                finally:
                    response.close()
                return
            if wait is None or attempt == _TRIES:
                raise NotHere(f"{reason} ({attempt} tries)" if attempt > 1 else reason, sure=False)
            pause = max(wait, 0.3 * 2**attempt)
            console.logger("hub").debug("%s: %s; trying again in %.1f s", address, reason, pause)
            time.sleep(pause)

    def _once(self, address: str, offset: int) -> tuple[httpx.Response | None, str, float | None]:
        """One try: (answer, "", None), or (None, reason, seconds to wait at least or None when it is useless)."""
        try:
            response = self._follow(address, {"Range": f"bytes={offset}-"} if offset else {})
        except httpx.ConnectTimeout as error:
            return None, f"could not be reached: {_plain(error)}", None
        except httpx.TransportError as error:
            return None, f"could not be reached: {_plain(error)}", 0
        status = response.status_code
        if status in (200, 206) or (status == 416 and offset):
            return response, "", None
        response.close()
        if status in (408, 500, 502, 503, 504):
            return None, f"answered {status}, a temporary failure", 0
        if status == 429:
            after = response.headers.get("retry-after", "")
            seconds = float(after) if after.isascii() and after.isdecimal() else None
            told = f"; it asks to wait {after} s" if seconds is not None else ""
            return (
                None,
                f"answered 429: too many requests{told}",
                seconds if seconds is not None and seconds <= 30 else None,
            )
        raise NotHere(self._refusal(response))

    def _follow(self, address: str, extra: Mapping[str, str]) -> httpx.Response:
        trusted = True
        for _ in range(_REDIRECTS):
            trusted = trusted and _origin(address) == _origin(self.endpoint)
            request = self.client.build_request("GET", address, headers={**extra, **(self.headers if trusted else {})})
            response = self.client.send(request, stream=True)
            if response.status_code not in (301, 302, 303, 307, 308):
                return response
            response.close()
            address = _led(address, response.headers.get("location", ""), "redirects to")
        raise NotHere(f"redirects more than {_REDIRECTS} times", sure=False)

    def _refusal(self, response: httpx.Response) -> str:
        code = response.headers.get("x-error-code", "")
        match response.status_code:
            case 401 if self.headers:
                return "answered 401: the token was refused, or it does not exist"
            case 401:
                return "answered 401: it does not exist, or it is private and no token was sent"
            case 403 if code == "GatedRepo":
                return "answered 403: it is gated; accept its terms on its page and send a token"
            case 403:
                return "answered 403: access denied"
            case 404 if code == "RevisionNotFound":
                return "answered 404: it has no such revision"
            case 404:
                return "answered 404: there is no such repository or file"
        return f"answered {response.status_code}"


def _mounts(proxies: Mapping[str, str] | None) -> dict[str, httpx.BaseTransport | None] | None:
    """`proxies=` as httpx takes it; without it, httpx reads the environment."""
    if not proxies:
        return None
    for scheme in proxies:
        if scheme.removesuffix("://") not in ("http", "https", "all"):
            raise OptionError(f"proxies={dict(proxies)!r}: the keys are 'http', 'https' and 'all', not {scheme!r}.")
    try:
        return {f"{scheme.removesuffix('://')}://": httpx.HTTPTransport(proxy=each) for scheme, each in proxies.items()}
    except (ValueError, httpx.InvalidURL) as error:
        raise OptionError(f"proxies={dict(proxies)!r}: a proxy is written http://host:port ({error}).") from error


def _led(address: str, location: str, verb: str) -> str:
    """The address to which an answer from `address` leads. Raises `NotHere` when it is none, or is not safe."""
    try:
        target = urljoin(address, location)
        parts = urlsplit(target)
        _ = parts.port, httpx.URL(target)
    except (ValueError, httpx.InvalidURL):
        raise NotHere(f"{verb} {location.split('?')[0]!r}, which is no address", sure=False) from None
    if parts.scheme not in ("http", "https") or (address.startswith("https:") and parts.scheme == "http"):
        raise NotHere(f"{verb} {target.split('?')[0]!r}, which is not safe", sure=False)
    return target


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _plain(error: Exception) -> str:
    return f"{type(error).__name__}{f', {error}' if str(error) else ''}"
