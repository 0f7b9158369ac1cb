"""Slow down who guesses passwords, counted over all workers."""

import hashlib
import hmac
import ipaddress
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, NoReturn

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import RedisStorage, Storage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy import case, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from webapp.db.engine import delete_expired
from webapp.db.tables import ThrottleCounter, utc_now
from webapp.errors import ServiceUnavailableError, ThrottledError
from webapp.extensions import db
from webapp.services.accounts import fold_email
from webapp.settings import Settings

WINDOW_MINUTES: Final = 15
PAIR_LIMIT: Final = RateLimitItemPerMinute(5, WINDOW_MINUTES, namespace="login-pair")
IP_LIMIT: Final = RateLimitItemPerMinute(50, WINDOW_MINUTES, namespace="login-ip")
REDIS_TIMEOUT_SECONDS: Final = 3
# One household or server has a whole /64 of addresses to try from (RFC 6177).
IPV6_PREFIX: Final = 64


class DatabaseStorage(Storage):
    """Counters of the library ``limits`` in a table, so that all workers share them."""

    STORAGE_SCHEME = None

    @property
    def base_exceptions(self) -> type[Exception]:
        """Name what may go wrong here."""
        return SQLAlchemyError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count, in one statement that holds under concurrency; start anew if expired."""
        now = utc_now()
        with db.engine.begin() as connection:
            dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
            new = {"count": amount, "expires_at": now + timedelta(seconds=expiry)}
            expired = ThrottleCounter.expires_at <= now
            statement = (
                dialect.insert(ThrottleCounter)
                .values(key=key, **new)
                .on_conflict_do_update(
                    index_elements=[ThrottleCounter.key],
                    set_={
                        "count": case((expired, amount), else_=ThrottleCounter.count + amount),
                        "expires_at": case(
                            (expired, new["expires_at"]), else_=ThrottleCounter.expires_at
                        ),
                    },
                )
                .returning(ThrottleCounter.count)
            )
            count: int = connection.execute(statement).scalar_one()
            delete_expired(connection, ThrottleCounter, now)
        return count

    def get(self, key: str) -> int:
        """Read a counter; an expired one is 0."""
        query = select(ThrottleCounter.count).where(
            ThrottleCounter.key == key, ThrottleCounter.expires_at > utc_now()
        )
        with db.engine.connect() as connection:
            return connection.scalar(query) or 0

    def get_expiry(self, key: str) -> float:
        """Read when a counter starts anew, in seconds since the epoch."""
        query = select(ThrottleCounter.expires_at).where(ThrottleCounter.key == key)
        with db.engine.connect() as connection:
            return (connection.scalar(query) or utc_now()).timestamp()

    def clear(self, key: str) -> None:
        """Set a counter back."""
        with db.engine.begin() as connection:
            connection.execute(delete(ThrottleCounter).where(ThrottleCounter.key == key))

    def reset(self) -> int | None:
        """Set all counters back and tell how many there were."""
        with db.engine.begin() as connection:
            return connection.execute(delete(ThrottleCounter)).rowcount

    def check(self) -> bool:
        """Tell whether the table can be read."""
        self.get("")
        return True


class LoginThrottle:
    """Limits on failed logins: 5 for an e-mail address and client, 50 for a client, in 15 min."""

    def __init__(self, settings: Settings) -> None:
        self._limiter = FixedWindowRateLimiter(_storage(settings.redis_url))
        self._key = settings.jwt_secret_key.encode()

    def check(self, email: str, ip: str) -> None:
        """Raise ThrottledError if there were too many failures already."""
        with _unavailable_if_broken():
            for limit, digest in self._limits(email, ip):
                if not self._limiter.test(limit, digest):
                    self._refuse(limit, digest)

    def failed(self, email: str, ip: str) -> None:
        """Count a failure; raise ThrottledError if others, at the same time, used up the limit."""
        with _unavailable_if_broken():
            counted = [(*key, self._limiter.hit(*key)) for key in self._limits(email, ip)]
            for limit, digest, allowed in counted:
                if not allowed:
                    self._refuse(limit, digest)

    def succeeded(self, email: str, ip: str) -> None:
        """Forget the pair's failures, or raise ThrottledError if they just reached the limit.

        Logins that run at the same time all pass ``check``: without this second look a burst
        would be as many guesses as there are threads.
        """
        self.check(email, ip)
        with _unavailable_if_broken():
            (limit, digest), _ = self._limits(email, ip)
            # Most logins follow no failure: a read is cheaper than a write that deletes nothing.
            if self._limiter.storage.get(limit.key_for(digest)):
                self._limiter.clear(limit, digest)

    def _limits(self, email: str, ip: str) -> tuple[tuple[RateLimitItem, str], ...]:
        network = _network(ip)
        return (
            (PAIR_LIMIT, self._digest(f"{fold_email(email)}\n{network}")),
            (IP_LIMIT, self._digest(network)),
        )

    def _digest(self, text: str) -> str:
        # Keyed, because people type their password into the wrong field, and a plain hash of
        # one can be guessed by whoever reads the table.
        return hmac.new(
            self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256
        ).hexdigest()

    def _refuse(self, limit: RateLimitItem, digest: str) -> NoReturn:
        reset_time = self._limiter.get_window_stats(limit, digest).reset_time
        raise ThrottledError(
            "too many failed logins; try again later",
            retry_after_seconds=max(1, math.ceil(reset_time - utc_now().timestamp())),
        )


@contextmanager
def _unavailable_if_broken() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise ServiceUnavailableError("the login throttle's store does not answer") from error


def _storage(redis_url: str) -> Storage:
    if not redis_url:
        return DatabaseStorage()
    return RedisStorage(
        redis_url.replace("unix:", "redis+unix:", 1)
        if redis_url.startswith("unix:")
        else redis_url,
        wrap_exceptions=True,
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
    )


def _network(ip: str) -> str:
    """Reduce an IPv6 address to its network; leave anything else, a socket's too, as it is."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if isinstance(address, ipaddress.IPv4Address):
        return ip
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), IPV6_PREFIX), strict=False))
