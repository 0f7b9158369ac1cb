"""What a worker gives up once it has started: see ``docs/model-safety.md``, "Workers"."""

import logging
from contextlib import suppress
from typing import Literal

from webapp import landlock, seccomp

logger = logging.getLogger(__name__)

# The last family of addresses that databases and the look-up of names need (AF_NETLINK).
_LAST_FAMILY = 16

_confined = False


def confine_worker(*, network: bool) -> None:
    """Give up, in all threads and for ever, what no request needs; go on without if that fails.

    Parameters
    ----------
    network : whether something is reached by sockets, such as a database
    """
    global _confined
    if not seccomp.available():
        return
    try:
        rules = seccomp.Filter()
        if network:
            rules.refuse("socket", when=seccomp.exceeds(0, _LAST_FAMILY))
        else:
            rules.refuse("socket", "connect", "bind")
        rules.install()
    except OSError as error:
        logger.warning("This worker is not confined: %s", error)
        return
    _confined = True
    # After the rules, which forbid to gain rights: Landlock asks for that.
    with suppress(OSError):  # a kernel without it
        landlock.enter_domain()


def level() -> Literal["seccomp", "none"]:
    """Tell what confines this process."""
    # Not asked of the kernel: in a container it would tell of the container's rules.
    return "seccomp" if _confined else "none"
