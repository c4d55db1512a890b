"""What every provider of epoch keys does, wherever it keeps them (STYLE 14): one class of tests for all of them.

AWS KMS is played twice: by moto, for the shapes of boto3's calls, and by our own fake, for states that moto leaves out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import pytest
from moto import mock_aws

from ledger.custody import kms as key_kms
from ledger.custody.key_files import FileKeyProvider
from ledger.custody.kms import KmsKeyProvider
from ledger.custody.provider import COPIES_MIN, EpochKeyProvider
from ledger.errors import EpochInUse, KeyDestroyed, KeyMissing
from ledger.sealing import KEY_BYTES
from tests.ledger.fake_kms import FakeKms

Starter = Callable[[], EpochKeyProvider]
REGIONS = ("eu-central-1", "eu-west-1")


@pytest.fixture(params=["file", "aws-kms by moto", "aws-kms by our fake"])
def started(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Starter]:
    """A function that starts one more process on the same place: a provider that remembers nothing."""
    monkeypatch.setattr(key_kms, "READY_PAUSE_SECONDS", 0.0)
    if request.param == "file":
        yield lambda: FileKeyProvider((tmp_path / "a", tmp_path / "b"))
    elif request.param == "aws-kms by our fake":
        kms = FakeKms()
        yield lambda: KmsKeyProvider(REGIONS, "lethe", 7, client=kms.client)
    else:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        with mock_aws():
            yield lambda: KmsKeyProvider(REGIONS, "lethe", 7)


class TestKeyProvider:
    """The contract of `EpochKeyProvider`."""

    def test_looking_makes_no_epoch(self, started: Starter) -> None:
        """Given nothing, when it is asked what there is, then nothing is made, and there is no current epoch: whether
        the first may be made is for the vault to say."""
        provider = started()
        with pytest.raises(KeyMissing):
            provider.current()
        assert (provider.living(), provider.destroyed(), provider.returned()) == ((), (), ())
        assert started().living() == ()

    def test_the_first_epoch_is_made_when_it_is_created(self, started: Starter) -> None:
        """Given nothing, when the first epoch is created, then it is 1, alive, with a key of 32 bytes."""
        provider = started()
        provider.create(1)
        assert (provider.current(), provider.living(), provider.destroyed()) == (1, (1,), ())
        assert len(provider.key(1)) == KEY_BYTES
        assert len(provider.copies()) >= COPIES_MIN

    def test_every_process_has_the_same_keys(self, started: Starter) -> None:
        """Given epochs made by one process, when another starts, then it has the same, all different."""
        first = started()
        first.create(1)
        first.create(2)
        first.create(3)
        second = started()
        keys = [second.key(epoch) for epoch in second.living()]
        assert keys == [first.key(1), first.key(2), first.key(3)]
        assert len(set(keys)) == 3

    def test_asking_for_a_key_makes_none(self, started: Starter) -> None:
        """Given no such epoch, when its key is asked for, then KeyMissing, and none is made."""
        provider = started()
        for epoch in (1, 7):
            with pytest.raises(KeyMissing):
                provider.key(epoch)
        provider.create(1)
        with pytest.raises(KeyMissing):
            provider.key(2)
        assert started().living() == (1,)

    def test_only_the_next_epoch_is_made_and_only_once(self, started: Starter) -> None:
        """Given the first epoch, then 2 can be made, twice with one key, and neither 0 nor 4 can."""
        provider = started()
        provider.create(1)
        provider.create(2)
        key = provider.key(2)
        provider.create(2)
        started().create(2)
        provider.forget_cached()
        assert provider.key(2) == key
        for epoch in (0, -1, 4):
            with pytest.raises(ValueError, match="next epoch is 3"):
                provider.create(epoch)
        assert started().living() == (1, 2)

    def test_what_is_made_is_seen_at_once_by_who_starts_now(self, started: Starter) -> None:
        """Given an epoch that was just made, when another process starts, then it is the current one there."""
        provider = started()
        provider.create(1)
        provider.create(2)
        assert (provider.current(), started().current()) == (2, 2)

    def test_who_comes_second_sees_what_it_did_not_make(self, started: Starter) -> None:
        """Given a process that looked before another made the epoch, when it makes it too, then it lives there."""
        second = started()
        assert second.living() == ()
        started().create(1)
        second.create(1)
        assert (second.living(), second.current()) == ((1,), 1)

    def test_processes_that_make_an_epoch_at_once_get_one_key(self, started: Starter) -> None:
        """Given four providers that make the same epoch at once, then all have one key for it."""
        started().create(1)
        barrier = Barrier(4)

        def make(_: int) -> bytes:
            provider = started()
            barrier.wait()
            provider.create(2)
            return provider.key(2)

        with ThreadPoolExecutor(4) as threads:
            assert len(set(threads.map(make, range(4)))) == 1
        assert started().living() == (1, 2)

    def test_a_destroyed_epoch_is_gone_for_everybody(self, started: Starter) -> None:
        """Given two epochs, when the first is destroyed, then no process opens it, and the second is untouched."""
        provider, other = started(), started()
        provider.create(1)
        provider.create(2)
        kept = provider.key(2)
        assert provider.key(1) == other.key(1)

        destruction = provider.destroy(1)

        other.forget_cached()
        for process in (provider, other, started()):
            with pytest.raises(KeyMissing, match="destroyed"):
                process.key(1)
            assert (process.living(), process.destroyed(), process.current()) == ((2,), (1,), 2)
            assert process.key(2) == kept
            assert process.returned() == ()
        assert destruction.epoch == 1
        assert len({copy.place for copy in destruction.copies}) == len(provider.copies())
        assert all(copy.method for copy in destruction.copies)
        assert destruction.gone_after_days == provider.delay_days

    def test_a_process_notices_within_the_time_it_says(self, started: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
        """Given a process that holds a destroyed key, when the time to notice has passed, then it has let it go."""
        provider, other = started(), started()
        provider.create(1)
        provider.create(2)
        assert other.key(1) == provider.key(1)
        provider.destroy(1)
        provider.create(3)
        for module in ("ledger.custody.key_files", "ledger.custody.kms"):
            later = time.monotonic() + other.notice_seconds + 0.001
            monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda later=later: later, sleep=None))
        with pytest.raises(KeyMissing):
            other.key(1)
        assert other.current() == 3

    def test_destroying_twice_answers_the_same(self, started: Starter) -> None:
        """Given a destroyed epoch, when it is destroyed again, by anybody, then the answer is the first one."""
        provider = started()
        provider.create(1)
        provider.create(2)
        first = provider.destroy(1)
        assert provider.destroy(1) == first
        assert started().destroy(1) == first

    def test_the_current_epoch_cannot_be_destroyed(self, started: Starter) -> None:
        """Given the newest epoch, when it is to be destroyed, then it is refused, also after others went."""
        provider = started()
        provider.create(1)
        with pytest.raises(EpochInUse):
            provider.destroy(1)
        provider.create(2)
        provider.destroy(1)
        with pytest.raises(EpochInUse):
            provider.destroy(2)
        assert len(started().key(2)) == KEY_BYTES

    def test_an_epoch_that_never_was_cannot_be_destroyed(self, started: Starter) -> None:
        """Given two epochs, when another is to be destroyed, then it is missing: nothing is claimed of it."""
        provider = started()
        provider.create(1)
        provider.create(2)
        for epoch in (0, 3):
            with pytest.raises(KeyMissing):
                provider.destroy(epoch)

    def test_the_number_of_a_destroyed_epoch_is_never_used_again(self, started: Starter) -> None:
        """Given a destroyed epoch, when it is to be made again, then it is refused, and the count goes on (I5)."""
        provider = started()
        for epoch in (1, 2, 3):
            provider.create(epoch)
        provider.destroy(2)
        with pytest.raises(KeyDestroyed):
            started().create(2)
        provider.destroy(1)
        provider.create(4)
        assert (started().living(), started().destroyed()) == ((3, 4), (1, 2))

    def test_what_was_forgotten_is_asked_for_again(self, started: Starter) -> None:
        """Given cached keys, when they are forgotten, then the same keys come again from the place itself."""
        provider = started()
        provider.create(1)
        key = provider.key(1)
        provider.forget_cached()
        assert provider.key(1) == key
