"""How long what fails over a network is tried again, by a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from launcher import retries
from launcher.retries import StorageError
from launcher.sending import Superseded

GONE, REFUSED = OSError("AWS Error NETWORK_CONNECTION"), OSError("AWS Error ACCESS_DENIED during PutObject")


class Clock:
    """Goes on when somebody waits, and while a network answers nobody."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.tries = 1000.0, 0
        monkeypatch.setattr(retries.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(retries.time, "sleep", self.passes)

    def passes(self, seconds: float) -> None:
        self.now += seconds

    def outage(self, seconds: float, error: Exception, each: float = 0.0) -> Callable[[], str]:
        """Do something over a network that is gone for so long; a try takes `each` seconds to find out."""
        over = self.now + seconds

        def work() -> str:
            self.tries += 1
            if self.now >= over:
                return "done"
            self.passes(each)
            raise error

        return work


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def lasting(work: Callable[[], str]) -> str:
    return retries.at_length(lambda: retries.again(work, "x cannot be read", patient=True))


@pytest.mark.parametrize("each", [0.0, 100.0])
@pytest.mark.parametrize("error", [GONE, REFUSED])
def test_a_network_that_is_gone_for_minutes_and_keys_that_are_renewed_are_waited_for(
    clock: Clock, error: OSError, each: float
) -> None:
    assert lasting(clock.outage(235.0, error, each)) == "done"


@pytest.mark.parametrize("each", [0.0, 100.0])
@pytest.mark.parametrize("error", [GONE, REFUSED])
def test_what_is_gone_for_longer_is_told_within_minutes(clock: Clock, error: OSError, each: float) -> None:
    with pytest.raises(StorageError, match="x cannot be read: AWS Error"):
        lasting(clock.outage(1e6, error, each))
    assert 1240.0 <= clock.now <= 1300.0 + 3 * each


def test_a_short_try_takes_half_a_minute_and_no_more_than_one_that_hangs(clock: Clock) -> None:
    with pytest.raises(StorageError):
        retries.again(clock.outage(1e6, GONE), "x", patient=True)
    assert clock.now == 1030.0
    with pytest.raises(StorageError):
        retries.again(clock.outage(1e6, GONE, 100.0), "x", patient=True)
    assert clock.now == 1130.0


def test_where_access_is_refused_a_short_try_is_the_only_one(clock: Clock) -> None:
    with pytest.raises(StorageError, match="ACCESS_DENIED"):
        retries.again(clock.outage(1e6, REFUSED), "x", patient=True)
    assert (clock.tries, clock.now) == (1, 1000.0)


def test_what_cannot_pass_is_not_waited_for(clock: Clock) -> None:
    with pytest.raises(Superseded):
        retries.at_length(clock.outage(1e6, Superseded("another attempt")))
    assert (clock.tries, clock.now) == (1, 1000.0)


def test_that_something_is_waited_for_is_told_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    lasting(clock.outage(200.0, GONE))
    assert capsys.readouterr().err == "x cannot be read: AWS Error NETWORK_CONNECTION; trying again for 240 s\n"


def test_an_error_is_masked_before_it_is_cut() -> None:
    address = "s3://KEY:" + "a" * 40 + "@bucket/x"
    told = retries.first_line(OSError("x" * 270 + address))  # the end of the key lies behind the cut
    assert "aaa" not in told
    assert len(told) <= 300
