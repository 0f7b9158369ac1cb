"""Names for the user ids that stand in the log."""

from collections.abc import Iterable

from webapp.services import accounts


def emails_of(user_ids: Iterable[str | None]) -> dict[str, str]:
    """Find the e-mail addresses of users; a deleted one has none any more."""
    return accounts.emails_of({user_id for user_id in user_ids if user_id})
