"""What the operator lets files have beyond the policy; light, for it is asked before any child."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from webapp.settings import Settings


@dataclass(frozen=True)
class Allowed:
    """Further exact names that a file may use."""

    names: tuple[str, ...] = ()

    @classmethod
    def by(cls, settings: "Settings") -> Self:
        """Take it from the settings."""
        return cls(names=settings.trusted_globals)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Sequence[str]]) -> Self:
        """Make it of what JSON made of it."""
        return cls(**{name: tuple(values) for name, values in fields.items()})


NOTHING_MORE: Final = Allowed()
