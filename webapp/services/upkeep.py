"""What a worker does once an hour: it sweeps up after uploads that never ended."""

import logging
import threading
import time
from typing import Final

from webapp.ml.store import ModelStore

logger = logging.getLogger(__name__)

EVERY_SECONDS: Final = 3600


def start(store: ModelStore) -> None:
    """Sweep now and every hour, in a thread of this process."""
    threading.Thread(target=_work, args=[store], daemon=True, name="upkeep").start()


def _work(store: ModelStore) -> None:
    while True:
        try:
            removed = store.sweep(older_than_seconds=EVERY_SECONDS)
        except OSError:  # it need not be so in an hour
            logger.exception("Sweeping the model store failed")
        else:
            if removed:
                logger.info("Swept the model store", extra={"details": {"uploads": removed}})
        time.sleep(EVERY_SECONDS)
