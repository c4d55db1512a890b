"""Settings, read from the environment with the prefix LETHE_ (and from a file .env beside the program).

Without any, Lethe runs on an embedded PostgreSQL in a folder of its own: that is the laptop. In production the two
database URLs are given, and nothing is started.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every setting of the program. The documentation's list is checked against this class."""

    model_config = SettingsConfigDict(env_prefix="LETHE_", env_file=".env", extra="ignore", hide_input_in_errors=True)

    data_dir: Path = Field(
        default=Path(".lethe"), description="Where the embedded databases and, by default, the epoch keys live."
    )
    ledger_url: str | None = Field(
        default=None, description="The ledger's database for the role lethe_writer. Unset: the embedded server."
    )
    reader_url: str | None = Field(
        default=None, description="The ledger's database for the role lethe_reader. Needed with LETHE_LEDGER_URL."
    )
    rebuilder_url: str | None = Field(
        default=None, description="The ledger's database for the role lethe_rebuilder, for rebuilds only."
    )
    vault_url: str | None = Field(
        default=None, description="The vault's database for the role lethe_vault. Needed with LETHE_LEDGER_URL."
    )
    ledger_owner_url: str | None = Field(
        default=None, description="The ledger's database for its owner, for migrations only."
    )
    vault_owner_url: str | None = Field(
        default=None, description="The vault's database for its owner, for migrations only."
    )
    key_folders: list[Path] = Field(
        default_factory=list,
        description="Folders for the epoch keys, at least two, best on different disks. Unset: two in LETHE_DATA_DIR.",
    )
    key_provider: Literal["file", "aws-kms"] = Field(
        default="file", description="Where the epoch keys are: files in LETHE_KEY_FOLDERS, or AWS KMS."
    )
    kms_regions: list[str] = Field(
        default_factory=list,
        description="AWS regions that hold a copy of each epoch key, at least two, the primary first. For aws-kms.",
    )
    kms_alias_prefix: str = Field(
        default="lethe",
        pattern=r"^[A-Za-z0-9/_-]{1,100}$",
        description="Epoch keys in KMS are found as alias/PREFIX-epoch-000001. One per installation. For aws-kms.",
    )
    kms_pending_days: int = Field(
        default=7, ge=7, le=30, description="Days that KMS waits before it deletes a copy. For aws-kms."
    )
    epoch_days: int = Field(default=7, ge=1, description="Length of an epoch, in days.")
    epoch_kept_days: int = Field(
        default=21, ge=1, description="How long the key of a past epoch is kept, in days, for backups of its time."
    )
    custody_folders: list[Path] = Field(
        default_factory=list,
        description="Folders for the journal of tombstones, at least two, beside no database. Unset: the key folders.",
    )
    retention_schedule: Literal["daily", "off"] = Field(
        default="daily", description="Whether the worker makes and applies each account's retention plan every day."
    )
    packs_dir: Path | None = Field(
        default=None, description="A folder with policy packs of your own (*.toml), beside those that ship."
    )
    log_origin: str = Field(
        default="lethe.localhost",
        pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9.:-]*[A-Za-z0-9])?(?:/[A-Za-z0-9._~-]+)*$",
        max_length=200,
        description="The house's part of every log's name, as HOST or HOST/PATH: who checks a log knows it by that.",
    )
    log_public: bool = Field(
        default=True,
        description="Whether checkpoints and hash tiles are served to everybody, or to the account's auditors only.",
    )
    witnesses: list[str] = Field(
        default_factory=list,
        description="Witnesses that cosign checkpoints: verifier key, a space, and the address they are asked at.",
    )
    witnesses_needed: int = Field(
        default=0, ge=0, description="How many of the witnesses must have cosigned a checkpoint before it is served."
    )
    timestamp_url: str | None = Field(
        default=None, description="The RFC 3161 authority that stamps checkpoints, daily and after each destruction."
    )
    timestamp_roots: Path | None = Field(
        default=None, description="A file (PEM) with the root certificates that the authority's tokens must lead to."
    )
    environment: Literal["laptop", "production"] = Field(
        default="laptop", description="In production, logs are JSON and the embedded server is refused."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least level logged."
    )
    host: str = Field(default="127.0.0.1", description="The address `lethe serve` listens on.")
    port: int = Field(
        default=8000, ge=0, le=65535, description="The port `lethe serve` listens on; 0 picks a free one."
    )
    body_bytes_max: int = Field(
        default=16 * 1024 * 1024,
        ge=1024,
        description="The largest JSON body taken, in bytes. NDJSON streams have none.",
    )
    requests_per_minute: int = Field(
        default=60_000, ge=1, description="Requests per minute and API key before 429; counted per process."
    )
    pool_connections_max: int = Field(default=16, ge=2, le=200, description="Connections per role and process.")
    worker_poll_seconds: float = Field(
        default=0.2, gt=0, description="How often the worker looks for new events, in seconds."
    )

    def folders_for_keys(self) -> tuple[Path, ...]:
        """The key folders, or the two that a laptop uses."""
        return tuple(self.key_folders) or (self.data_dir / "keys-a", self.data_dir / "keys-b")

    def folders_for_custody(self) -> tuple[Path, ...]:
        """The folders of the journal of tombstones: those named, or the key folders."""
        return tuple(self.custody_folders) or self.folders_for_keys()
