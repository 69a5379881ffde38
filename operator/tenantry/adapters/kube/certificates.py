"""The X.509 part of a kubeconfig: parsed here and written anew, so that OpenSSL never sees a stranger's bytes."""

from __future__ import annotations

import base64
import binascii
import warnings
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from tenantry.adapters.kube.refusal import WAY_OUT, KubeconfigReason, KubeconfigRefused

_KEY_MAX_BYTES: Final = 32 * 1024
"""An RSA key of 16384 bits has 13 KiB; checking a bigger one costs seconds."""

_T = TypeVar("_T")


def checked_ca(encoded: str, *, now: datetime) -> bytes:
    """The CA certificates of `certificate-authority-data` (base64 of PEM) as PEM.

    Raises:
        KubeconfigRefused: if they can't be read, or all of them have expired.
    """
    where = "certificate-authority-data"
    pem = _decoded(where, encoded, KubeconfigReason.CA_INVALID)
    certificates = _parsed(x509.load_pem_x509_certificates, pem)
    if not certificates:
        message = f"{where} holds no PEM certificate"
        raise KubeconfigRefused(KubeconfigReason.CA_INVALID, message)
    last = max(certificate.not_valid_after_utc for certificate in certificates)
    if last < now:
        message = f"{where}: the CA certificate expired on {last:%Y-%m-%d}; take the cluster's present CA"
        raise KubeconfigRefused(KubeconfigReason.CA_EXPIRED, message)
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def checked_client_certificate(certificate: str, key: str, *, now: datetime) -> tuple[bytes, bytes]:
    """`client-certificate-data` and `client-key-data` (base64 of PEM) as PEM: the chain, leaf first, and its key.

    Raises:
        KubeconfigRefused: if they can't be read, don't belong together, or the leaf is not valid now.
    """
    where = "client-certificate-data"
    pem = _decoded(where, certificate, KubeconfigReason.CLIENT_CERTIFICATE_INVALID)
    chain = _parsed(x509.load_pem_x509_certificates, pem)
    if not chain:
        raise KubeconfigRefused(KubeconfigReason.CLIENT_CERTIFICATE_INVALID, f"{where} holds no PEM certificate")
    leaf = chain[0]
    if leaf.not_valid_after_utc < now:
        message = f"{where}: the client certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}; {WAY_OUT}"
        raise KubeconfigRefused(KubeconfigReason.CLIENT_CERTIFICATE_EXPIRED, message)
    if leaf.not_valid_before_utc > now:
        message = (
            f"{where}: the client certificate is valid only from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"
        )
        raise KubeconfigRefused(KubeconfigReason.CLIENT_CERTIFICATE_NOT_YET_VALID, message)
    return b"".join(part.public_bytes(Encoding.PEM) for part in chain), _checked_key(leaf, key)


def _checked_key(leaf: x509.Certificate, encoded: str) -> bytes:
    where = "client-key-data"
    pem = _decoded(where, encoded, KubeconfigReason.CLIENT_KEY_INVALID)
    key = _parsed(lambda data: load_pem_private_key(data, password=None), pem) if len(pem) <= _KEY_MAX_BYTES else None
    if key is None:
        message = f"{where} holds no PEM private key without a passphrase"
        raise KubeconfigRefused(KubeconfigReason.CLIENT_KEY_INVALID, message)
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    leaf_key = _parsed(lambda certificate: certificate.public_key().public_bytes(*spki), leaf)
    if key.public_key().public_bytes(*spki) != leaf_key:
        message = f"{where} is not the key of client-certificate-data"
        raise KubeconfigRefused(KubeconfigReason.CLIENT_KEY_MISMATCH, message)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _decoded(where: str, encoded: str, reason: KubeconfigReason) -> bytes:
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise KubeconfigRefused(reason, f"{where} is not base64") from None


_A = TypeVar("_A")


def _parsed(parse: Callable[[_A], _T], data: _A) -> _T | None:
    """What the foreign parser makes of a stranger's bytes; None for whatever it stumbles over."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd but readable certificates: the server decides about them
            return parse(data)
    except Exception:  # noqa: BLE001 - the parser's exceptions are of a dozen kinds and all mean: not readable
        return None
