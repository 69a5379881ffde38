"""Uploads that dead processes have left half done: found and aborted, for obstore can do neither."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from tenantry.ports.backup import StoreCredentialsError, StoreError, StoreLocation, StoreUnreachableError

SECONDS: Final = 30
_EMPTY: Final = hashlib.sha256(b"").hexdigest()
_UPLOAD: Final = re.compile(rb"<Upload>(.*?)</Upload>", re.DOTALL)
_FIELD: Final = re.compile(rb"<(Key|UploadId)>([^<]+)</\1>")
_PART: Final = re.compile(r"#[0-9]+$")
"""How object_store calls what it has not finished in a folder."""


async def abort_uploads(location: StoreLocation, prefix: str) -> int:
    """Abort what was begun below a prefix (with a slash at its end) and never ended; how many there were.

    Nothing is done where the store is neither a folder nor compatible with S3, or the operator has no keys of its own
    for it: there a lifecycle rule of the bucket has to do it.

    Raises:
        StoreError: the store refused, or did not answer.
    """
    parts = urlsplit(location.url)
    if parts.scheme == "file":
        return await asyncio.to_thread(_sweep_folder, Path(parts.path) / prefix)
    if parts.scheme != "s3" or "secretAccessKey" not in location.credentials:
        return 0
    base = parts.path.strip("/")
    bucket = _Bucket(location, parts.netloc)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
            return await bucket.abort(session, f"{base}/{prefix}" if base else prefix)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise StoreUnreachableError(f"the store: {type(error).__name__}") from None


def _sweep_folder(folder: Path) -> int:
    left = [path for path in folder.glob("*") if _PART.search(path.name)]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


class _Bucket:
    """One bucket, by requests that are signed here (AWS Signature Version 4)."""

    def __init__(self, location: StoreLocation, bucket: str) -> None:
        self._region = location.region or "us-east-1"
        self._endpoint = location.endpoint.rstrip("/") or f"https://s3.{self._region}.amazonaws.com"
        self._bucket = bucket
        self._credentials = location.credentials

    async def abort(self, session: aiohttp.ClientSession, prefix: str) -> int:
        found = _UPLOAD.findall(await self._send(session, "GET", "", {"uploads": "", "prefix": prefix}))
        uploads = [
            {name.decode(): html.unescape(value.decode()) for name, value in _FIELD.findall(each)} for each in found
        ]
        own = [each for each in uploads if {"Key", "UploadId"} <= each.keys() and each["Key"].startswith(prefix)]
        for each in own:
            await self._send(session, "DELETE", f"/{each['Key']}", {"uploadId": each["UploadId"]})
        return len(own)

    async def _send(self, session: aiohttp.ClientSession, method: str, path: str, query: Mapping[str, str]) -> bytes:
        place = urlsplit(self._endpoint)
        full = quote(f"{place.path}/{self._bucket}{path}", safe="/-_.~")
        text = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items())
        )
        headers = self._headers(method, place.netloc, full, text, datetime.now(UTC))
        url = URL(f"{place.scheme}://{place.netloc}{full}?{text}", encoded=True)
        async with session.request(method, url, headers=headers, allow_redirects=False) as answer:
            body = await answer.read()
            if answer.status in (401, 403):
                raise StoreCredentialsError(f"the store answered {answer.status} to the listing of open uploads")
            if answer.status in (404, 405, 501):
                return b""  # it has no such thing, or it is gone already
            if answer.status >= 300:
                raise StoreError(f"the store answered {answer.status} to the listing of open uploads")
            return body

    def _headers(self, method: str, host: str, path: str, query: str, now: datetime) -> dict[str, str]:
        moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        headers = {"host": host, "x-amz-content-sha256": _EMPTY, "x-amz-date": moment}
        if token := self._credentials.get("sessionToken"):
            headers["x-amz-security-token"] = token
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        request = "\n".join((method, path, query, lines, names, _EMPTY))
        scope = f"{day}/{self._region}/s3/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        key = f"AWS4{self._credentials['secretAccessKey']}".encode()
        for part in (day, self._region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}".encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._credentials['accessKeyId']}/{scope}, SignedHeaders={names}, "
            f"Signature={signature}"
        )
        return headers
