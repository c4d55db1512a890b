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
