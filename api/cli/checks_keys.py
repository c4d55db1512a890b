"""The hard checks of what lies outside the databases: epoch keys, the journal of tombstones, the backup horizon."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from api.bootstrap import make_provider
from api.cli.checks import Check, Finding, Patient
from ledger.custody.journal import FOLDERS_MIN, JOURNAL, Custody
from ledger.custody.journal_check import count_tombstones, require_lines, require_not_put_back
from ledger.custody.kept_checkpoints import CHECKPOINTS
from ledger.custody.provider import COPIES_MIN, EpochKeyProvider
from ledger.errors import JournalLost, LedgerError, SettingsRefused
from ledger.keys.epoch_keys import require_epoch_keys
from ledger.keys.horizon import require_horizon
from ledger.sealing import KEY_BYTES
from retention.policy.pack import use_packs_of
from retention.policy.promised_horizon import promised_horizon_days

MEND_FILES: Final = (
    "Make folders and files private (chmod go-rwx) and owned by the user Lethe runs as; restore missing copies. "
    "A copy that has come back is removed when its epoch is destroyed again."
)
MEND_KMS: Final = "See docs/how-to/keep-epoch-keys.md for the rights and regions that are needed."
MEND_VAULT: Final = "Until these keys are there nothing starts: docs/how-to/keep-epoch-keys.md, if keys are missing."
MEND_JOURNAL: Final = "Compare the folders line by line, keep the journal that is whole, and take the other away."
MEND_LOST_JOURNAL: Final = "Until then nothing starts. See docs/how-to/keep-epoch-keys.md, if the journal is lost."
MEND_HORIZON: Final = "Shorten LETHE_EPOCH_KEPT_DAYS or LETHE_EPOCH_DAYS; until then nothing starts."


def check_keys(patient: Patient) -> Iterator[Finding]:
    """The epoch keys: at least two private copies that are equal, those of this vault, none of a destroyed epoch."""
    if patient.settings.key_provider != "file":
        yield _kms_keys(patient)
        return
    folders = patient.settings.folders_for_keys()
    wrong = list(_wrong_with(folders))
    if wrong:
        yield Finding("epoch keys", "fail", "; ".join(wrong), MEND_FILES, hard=True)
        return
    try:
        _require_keys_of_vault(patient, make_provider(patient.settings))
    except LedgerError as error:
        yield Finding("epoch keys", "fail", str(error), MEND_VAULT, hard=True)
        return
    epochs = {path.name for folder in folders if folder.exists() for path in folder.glob("epoch-*.key")}
    if not epochs:
        yield Finding("epoch keys", "ok", "none yet: the first is made when it is needed", hard=True)
        return
    disks = {folder.stat().st_dev for folder in folders}
    seen = f"{len(epochs)} living, each in {len(folders)} private copies"
    if len(disks) < COPIES_MIN and patient.production:
        yield Finding("epoch keys", "warn", f"{seen}, all on one disk", "Put the copies on different disks.", hard=True)
    else:
        yield Finding("epoch keys", "ok", seen, hard=True)


def check_custody(patient: Patient) -> Iterator[Finding]:
    """The journal of tombstones: whole, the same in every folder, and no shorter than the vault's own list."""
    folders = patient.settings.folders_for_custody()
    tombstones = sum(count_tombstones(connection) for _, connection in patient.on("vault"))
    having = [folder for folder in folders if (folder / JOURNAL).exists()]
    if not having:
        try:
            require_lines(tombstones, 0, [str(folder) for folder in folders])
            if any((folder / CHECKPOINTS).exists() for folder in folders):
                _require_not_put_back(patient, Custody(folders))
        except JournalLost as error:
            yield Finding("custody", "fail", str(error), MEND_LOST_JOURNAL, hard=True)
            return
        yield Finding("custody", "ok", "no journal yet: nothing was destroyed", hard=True)
        return
    if len(having) < len(folders) or len(folders) < FOLDERS_MIN:
        seen = f"the journal is in {len(having)} of {len(folders)} folders"
        yield Finding("custody", "warn", seen, "Nothing, if a folder is new: it is filled at the next destruction.")
        return
    try:
        custody = Custody(folders)
        lines = custody.check()
        require_lines(tombstones, lines, custody.folders())
        _require_not_put_back(patient, custody)
    except JournalLost as error:
        yield Finding("custody", "fail", str(error), MEND_LOST_JOURNAL, hard=True)
    except LedgerError as error:
        yield Finding("custody", "fail", str(error), MEND_JOURNAL, hard=True)
    else:
        yield Finding("custody", "ok", f"{lines:,} tombstones, the same in {len(folders)} folders", hard=True)


def check_horizon(patient: Patient) -> Iterator[Finding]:
    """What was destroyed is gone from backups as soon as every account was promised."""
    settings = patient.settings
    use_packs_of(settings.packs_dir)
    for _, connection in patient.on("writer"):
        try:
            delay_days = make_provider(settings).delay_days
            promised = promised_horizon_days(connection)
            days = require_horizon(settings.epoch_days, settings.epoch_kept_days, delay_days, promised)
        except LedgerError as error:
            yield Finding("backup horizon", "fail", str(error), MEND_HORIZON, hard=True)
        else:
            yield Finding("backup horizon", "ok", f"{days} days after a key is destroyed, at most", hard=True)


def _require_not_put_back(patient: Patient, custody: Custody) -> None:
    for _, connection in patient.on("writer"):
        require_not_put_back(connection, custody)


KEY_CHECKS: Final[tuple[Check, ...]] = (check_keys, check_custody, check_horizon)


def _kms_keys(patient: Patient) -> Finding:
    try:
        provider = make_provider(patient.settings)
        returned, copies = provider.returned(), provider.copies()
        _require_keys_of_vault(patient, provider)
    except LedgerError as error:
        state = "in the settings" if isinstance(error, SettingsRefused) else "in KMS"
        return Finding("epoch keys", "fail", f"{state}: {error}", MEND_KMS, hard=True)
    if returned:
        places = ", ".join(copy.place for copy in returned)
        seen = f"destroyed, and not waiting for their deletion: {places}"
        return Finding(
            "epoch keys", "fail", seen, "Destroy these epochs again, and find out who cancelled it.", hard=True
        )
    return Finding("epoch keys", "ok", f"KMS answers in {len(copies)} regions", hard=True)


def _require_keys_of_vault(patient: Patient, provider: EpochKeyProvider) -> None:
    for _, connection in patient.on("vault"):
        require_epoch_keys(connection, provider)


def _wrong_with(folders: tuple[Path, ...]) -> Iterator[str]:
    if len(folders) < COPIES_MIN:
        yield f"{len(folders)} folder, where {COPIES_MIN} copies are needed"
    if len({folder.resolve() for folder in folders}) < len(folders):
        yield "two of the folders are one"
    held: dict[str, dict[Path, bytes | None]] = {}
    destroyed = {path.stem for folder in folders if folder.exists() for path in folder.glob("epoch-*.destroyed")}
    for folder in folders:
        if not folder.exists():
            continue
        for path in (folder, *sorted(folder.glob("epoch-*.key"))):
            status = path.stat()
            private = not stat.S_IMODE(status.st_mode) & 0o077 and status.st_uid == os.geteuid()
            if not private:
                yield f"{path} is open to others, or belongs to another user"
            if path.stem in destroyed:
                yield f"{path} is a copy of a destroyed epoch that has come back"
            elif path != folder:
                readable = private or os.access(path, os.R_OK)
                held.setdefault(path.name, {})[folder] = path.read_bytes() if readable else None
    for name, copies in held.items():
        if len(copies) < len(folders):
            yield f"{name} is in {len(copies)} of {len(folders)} folders"
        if len(set(copies.values())) > 1:
            yield f"the copies of {name} differ"
        if any(copy is not None and len(copy) != KEY_BYTES for copy in copies.values()):
            yield f"{name} is not {KEY_BYTES} bytes long"
