"""Accounts: who may sign in, with which password, in which role."""

import re
import secrets
from collections.abc import Collection
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from webapp.db.engine import write_transaction
from webapp.db.tables import EMAIL_CHARS, ROLES, User, utc_now
from webapp.errors import AuthenticationError, ConflictError, InvalidInputError, UserNotFoundError
from webapp.extensions import db
from webapp.services.tokens import forget_identities

MIN_PASSWORD_CHARS: Final = 8
MAX_PASSWORD_CHARS: Final = 1024
WRONG_CREDENTIALS: Final = "wrong e-mail address or password"
HAS_ACCOUNT: Final = "this e-mail address has an account already"

_EMAIL: Final = re.compile(r'[^\s@"(),:;<>\[\]\\]{1,64}@[\w-]+(\.[\w-]+)*')
# The argon2id setting of OWASP's password storage cheat sheet, 19 MiB for a login instead of
# the library's 64, because every thread of every worker may be checking one at once.
_hasher: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_DUMMY_HASH: Final = _hasher.hash(secrets.token_bytes())


def fold_email(email: str) -> str:
    """Bring an e-mail address into the form in which it is stored and compared."""
    return email.strip().lower()


def is_email(text: str) -> bool:
    """Tell whether the text is plausibly an e-mail address."""
    email = fold_email(text)
    return len(email) <= EMAIL_CHARS and email.isprintable() and bool(_EMAIL.fullmatch(email))


def register(email: str, password: str) -> User:
    """Open an account for whoever asks, in the role ``user``."""
    return create_user(email, password, "user")


def create_user(email: str, password: str, role: str) -> User:
    """Open an account.

    Raises
    ------
    InvalidInputError : the e-mail address, the password or the role will not do
    ConflictError : the address has an account already
    """
    _check_email(email)
    _check_role(role)
    user = User(email=fold_email(email), password_hash=_hash(password), role=role)
    db.session.add(user)
    try:
        db.session.commit()
    except IntegrityError:
        db.session.rollback()
        raise ConflictError(HAS_ACCOUNT) from None
    return user


def check_is_free(email: str) -> None:
    """Refuse an address that is none, or that has an account."""
    _check_email(email)
    if has_account(email):
        raise ConflictError(HAS_ACCOUNT)


def authenticate(email: str, password: str) -> User:
    """Find the account that the e-mail address and the password belong to.

    An unknown address and a disabled account cost one hash and get one answer, like a wrong
    password.
    """
    user = _find_by_email(email)
    if user is None or user.disabled:
        _matches(_DUMMY_HASH, password)
        raise AuthenticationError(WRONG_CREDENTIALS)
    if not _matches(user.password_hash, password):
        raise AuthenticationError(WRONG_CREDENTIALS)
    if _hasher.check_needs_rehash(user.password_hash):
        _renew_hash(user, password)
    return user


def has_account(email: str) -> bool:
    """Tell whether the e-mail address belongs to an account."""
    return _find_by_email(email) is not None


def get_user(reference: str) -> User:
    """Get an account by its id or its e-mail address."""
    return _found(_find_by_email(reference) if "@" in reference else _find_by_id(reference))


def list_users() -> list[User]:
    """List all accounts, the oldest first."""
    return list(db.session.scalars(select(User).order_by(User.created_at, User.id)))


def emails_of(user_ids: Collection[str]) -> dict[str, str]:
    """Find the e-mail addresses of accounts by their ids; unknown ids have none."""
    rows = db.session.execute(select(User.id, User.email).where(User.id.in_(user_ids)))
    return {row.id: row.email for row in rows}


def set_role(reference: str, role: str) -> User:
    """Give an account, named by id or e-mail address, another role."""
    _check_role(role)
    with write_transaction() as session:
        if role == "admin":
            user = _lock(session, reference)
        else:
            user = _lock_unless_last_admin(session, reference, "demoted")
        user.role = role
    forget_identities()
    return user


def set_password(reference: str, password: str) -> User:
    """Set another password and end all sessions of the account."""
    password_hash = _hash(password)
    with write_transaction() as session:
        user = _lock(session, reference)
        user.password_hash = password_hash
        user.tokens_valid_after = utc_now()
    forget_identities()
    return user


def disable(reference: str) -> User:
    """Refuse the account's logins and end all its sessions, for good if it is enabled again."""
    with write_transaction() as session:
        user = _lock_unless_last_admin(session, reference, "disabled")
        user.disabled = True
        user.tokens_valid_after = utc_now()
    forget_identities()
    return user


def enable(reference: str) -> User:
    """Let a disabled account log in again."""
    with write_transaction() as session:
        user = _lock(session, reference)
        user.disabled = False
    forget_identities()
    return user


def delete_user(reference: str) -> None:
    """Delete an account together with the models registered by it."""
    with write_transaction() as session:
        session.delete(_lock_unless_last_admin(session, reference, "deleted"))
    forget_identities()


def ensure_first_admin(email: str, password: str | None) -> tuple[User, str | None] | None:
    """Create an admin if there is none.

    Returns
    -------
    the account with its password if that was generated here, or None if an admin exists
    """
    if db.session.scalar(select(func.count()).where(User.role == "admin")):
        return None
    generated = None
    if not password:
        password = generated = secrets.token_urlsafe(16)
    return create_user(email, password, "admin"), generated


def _check_email(email: str) -> None:
    if not is_email(email):
        raise InvalidInputError(
            f"email must be an e-mail address of at most {EMAIL_CHARS} characters",
            {"field": "email"},
        )


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise InvalidInputError(f"role must be one of {', '.join(ROLES)}", {"field": "role"})


def _hash(password: str) -> str:
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise InvalidInputError(
            f"password must have {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters",
            {"field": "password"},
        )
    return _hasher.hash(_encoded(password))


def _matches(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, _encoded(password))
    except VerifyMismatchError:
        return False


def _encoded(password: str) -> bytes:
    # A lone surrogate, which JSON and a terminal can deliver, is a character like any other here.
    return password.encode("utf-8", "surrogatepass")


def _renew_hash(user: User, password: str) -> None:
    # Compared with the hash that was checked: a password set meanwhile must not be undone.
    db.session.execute(
        update(User)
        .where(User.id == user.id, User.password_hash == user.password_hash)
        .values(password_hash=_hasher.hash(_encoded(password)))
    )
    db.session.commit()


def _find_by_email(email: str) -> User | None:
    if not is_email(email):
        return None
    return db.session.scalar(select(User).where(User.email == fold_email(email)))


def _find_by_id(user_id: str) -> User | None:
    return db.session.get(User, user_id) if user_id.isprintable() else None


def _found(user: User | None) -> User:
    if user is None:
        raise UserNotFoundError("there is no such user")
    return user


def _lock(session: Session, reference: str) -> User:
    user = get_user(reference)
    return _found(session.get(User, user.id, with_for_update=True))


def _lock_unless_last_admin(session: Session, reference: str, change: str) -> User:
    # Admins are locked first and in one order, so that two such changes neither deadlock nor
    # both find that the other one's admin will remain.
    admins = session.scalars(
        select(User.id)
        .where(User.role == "admin", User.disabled.is_(False))
        .order_by(User.id)
        .with_for_update()
    ).all()
    user = _lock(session, reference)
    if list(admins) == [user.id]:
        raise ConflictError(f"the last enabled admin cannot be {change}")
    return user
