"""The worker of the service, with less patience, for tests that cannot wait as long."""

from webapp.web.worker import PatientWorker


class HastyWorker(PatientWorker):
    """Waits seconds where the service waits half a minute."""

    head_seconds = 2
    body_seconds = 4
    bytes_per_second = 16 * 2**20
