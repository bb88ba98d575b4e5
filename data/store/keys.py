"""Pseudonyms: keyed hashes of identifiers, so that a store names no patient and no series.

The secret lies outside every store, readable by its owner only; so does the list that links keys to sources.
An unkeyed hash would not do: a seven-digit PatientID is found from its MD5 in seconds.

Reference:
    RFC 2104 (HMAC); DICOM PS3.15 Annex E (what identifies a patient).
"""

import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from kerasbalance.data.errors import DataError
from kerasbalance.data.store.files import read_file
from kerasbalance.files import sync_folder, write_new

SECRET_BYTES = 32


def default_key_file() -> Path:
    """Return where the secret lies unless the user says otherwise."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "kerasbalance" / "secret.key"


@dataclass(frozen=True)
class Pseudonyms:
    """Makes keys from identifiers with one secret.

    Args:
        secret: `SECRET_BYTES` random bytes.
        folder: Where the secret file lies; the links are kept beside it.
    """

    secret: bytes = field(repr=False)
    folder: Path

    @classmethod
    def load(cls, path: Path | None = None, *, create: bool = True) -> "Pseudonyms":
        """Read the secret file, or make it where there is none.

        Raises:
            DataError: If it cannot be read or made, or does not hold `SECRET_BYTES` bytes (code `KEY_FILE`).
        """
        path = default_key_file() if path is None else path
        try:
            if create and not path.exists():
                _create(path)
            secret = read_file(path)
        except OSError as error:
            raise _key_error(f"a key file that cannot be used ({error.strerror})", path) from None
        if len(secret) != SECRET_BYTES:
            raise _key_error(f"a key file of {len(secret)} bytes", path)
        return cls(secret, path.parent)

    @property
    def fingerprint(self) -> str:
        """A short hash that differs between secrets and does not reveal them."""
        return self.of("fingerprint", "")[:16]

    def of(self, domain: str, text: str) -> str:
        """Return the 32 hex digits that stand for `text`; the same text in two domains gives two keys."""
        message = f"{domain}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()[:32]

    def patient(self, patient_id: str) -> str:
        """Return the patient's key; spellings that differ by case, blanks, signs or leading zeros share it."""
        plain = re.sub(r"[\W_]+", "", patient_id).casefold().lstrip("0")
        return self.of("patient", plain or patient_id.strip())

    def remember(self, key: str, source: Path) -> bool:
        """Note, outside the store, which source a key came from; say whether that was possible.

        The secret may lie where nothing can be written; the links are a convenience and stop no ingest.
        """
        line = json.dumps({"key": key, "source": str(source)}).encode()
        try:
            descriptor = os.open(
                self.folder / "links.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o600
            )
            try:
                size = os.fstat(descriptor).st_size
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                os.write(descriptor, b"%s%s\n" % (b"\n" if torn else b"", line))
            finally:
                os.close(descriptor)
        except OSError:
            return False
        return True

    def sources(self) -> dict[str, str]:
        """Return the remembered source of each key."""
        try:
            content = read_file(self.folder / "links.jsonl")
        except OSError:
            return {}
        found: dict[str, str] = {}
        for line in content.splitlines():
            try:
                link = json.loads(line)
                found[str(link["key"])] = str(link["source"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # torn by a kill; the next ingest of that source writes it again
        return found


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        write_new(aside, secrets.token_bytes(SECRET_BYTES), mode=0o600)
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)  # of two processes that make it at once, one wins and both use its secret
        sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def _key_error(received: str, path: Path) -> DataError:
    return DataError("KEY_FILE", received, f"a file of {SECRET_BYTES} bytes that only you can read",
                     "name another with --key-file", path=path, where="key file")  # fmt: skip
