"""AWS KMS, region by region: the only module that calls boto3, and what its errors mean to us.

SettingsRefused   credentials or rights are missing, or the region has no such keys: somebody has to change that
Unavailable       a region does not answer, or asks us to slow down: the same call may work in a minute
KmsRefused        an answer that the caller reckons with: no such key, an alias that is taken, a key that waits
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    InvalidRegionError,
    NoCredentialsError,
    PartialCredentialsError,
)

from ledger.errors import LedgerError, SettingsRefused, Unavailable

TIMEOUT_SECONDS = 5
ATTEMPTS_MAX = 3
ALIASES_PER_PAGE = 100
ALIAS_PAGES_MAX = 100

NOT_FOUND = "NotFoundException"
ALREADY_EXISTS = "AlreadyExistsException"
_RECKONED_WITH = frozenset({NOT_FOUND, ALREADY_EXISTS, "KMSInvalidStateException", "DisabledException"})
_REFUSED = frozenset(
    {
        *("AccessDeniedException", "UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException"),
        *("InvalidSignatureException", "OptInRequired", "UnsupportedOperationException", "ValidationException"),
    }
)


class KmsClient(Protocol):
    """What is used of boto3's client for KMS, one per region."""

    def create_key(self, **request: Any) -> dict[str, Any]: ...
    def replicate_key(self, **request: Any) -> dict[str, Any]: ...
    def describe_key(self, **request: Any) -> dict[str, Any]: ...
    def create_alias(self, **request: Any) -> dict[str, Any]: ...
    def delete_alias(self, **request: Any) -> dict[str, Any]: ...
    def list_aliases(self, **request: Any) -> dict[str, Any]: ...
    def generate_mac(self, **request: Any) -> dict[str, Any]: ...
    def schedule_key_deletion(self, **request: Any) -> dict[str, Any]: ...


class KmsRefused(LedgerError):
    """KMS has answered with an error that the caller reckons with; `code` is its name."""

    def __init__(self, code: str) -> None:
        super().__init__(f"KMS answered: {code}.")
        self.code = code


class KmsCalls:
    """Calls of KMS in some regions; one client per region, with short timeouts and few attempts."""

    def __init__(self, regions: Sequence[str], client: Callable[[str], KmsClient] | None = None) -> None:
        self._clients = {region: (client or _client)(region) for region in regions}

    def call(self, region: str, operation: str, **request: Any) -> dict[str, Any]:
        """One call. Raises `KmsRefused`, `SettingsRefused` or `Unavailable`."""
        try:
            answer: dict[str, Any] = getattr(self._clients[region], operation)(**request)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            if code in _RECKONED_WITH:
                raise KmsRefused(code) from error
            if code in _REFUSED:
                raise SettingsRefused(
                    f"KMS in {region} refuses {operation} ({code}). Check the credentials and the role's rights."
                ) from error
            raise Unavailable(f"KMS in {region} does not answer {operation} now ({code}). Try again.") from error
        except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
            raise SettingsRefused("No AWS credentials were found. Give the process a role that may use KMS.") from error
        except BotoCoreError as error:
            raise Unavailable(f"KMS in {region} cannot be reached ({type(error).__name__}). Try again.") from error
        return answer

    def aliases(self, region: str) -> Iterator[str]:
        """The names of all aliases of a region."""
        request: dict[str, Any] = {"Limit": ALIASES_PER_PAGE}
        for _ in range(ALIAS_PAGES_MAX):
            answer = self.call(region, "list_aliases", **request)
            yield from (alias["AliasName"] for alias in answer["Aliases"])
            if not answer.get("Truncated"):
                return
            request["Marker"] = answer["NextMarker"]
        raise SettingsRefused(f"KMS in {region} has more aliases than Lethe reads. Give it an AWS account of its own.")

    def described(self, region: str, key: str) -> dict[str, Any] | None:
        """What KMS says of a key, by id or alias; None if it knows none."""
        try:
            metadata: dict[str, Any] = self.call(region, "describe_key", KeyId=key)["KeyMetadata"]
        except KmsRefused:
            return None
        return metadata


def _client(region: str) -> KmsClient:
    config = Config(
        connect_timeout=TIMEOUT_SECONDS,
        read_timeout=TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS_MAX},
    )
    try:
        client: KmsClient = boto3.client("kms", region_name=region, config=config)
    except (InvalidRegionError, ValueError) as error:
        raise SettingsRefused(f"LETHE_KMS_REGIONS names no region of AWS: {region!r}.") from error
    return client
