"""What the operator lets files have beyond the policy; light, for it is asked before any child."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from webapp.settings import Settings


@dataclass(frozen=True)
class Allowed:
    """Further exact names that a file may use, and minor versions that may have saved it."""

    names: tuple[str, ...] = ()
    sklearn_versions: tuple[str, ...] = ()

    @classmethod
    def by(cls, settings: Settings) -> Self:
        """Take it from the settings."""
        return cls(settings.trusted_globals, settings.sklearn_versions)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Sequence[str]]) -> Self:
        """Make it of what JSON made of it."""
        return cls(**{name: tuple(values) for name, values in fields.items()})


def minor(version: str) -> str:
    """Shorten a version such as 1.9.1 to 1.9: private attributes may differ from the next."""
    return ".".join(version.split(".")[:2])


NOTHING_MORE: Final = Allowed()
