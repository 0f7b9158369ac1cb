"""The failures that the program names; only ``web/errors.py`` turns them into responses."""

import errno
from collections.abc import Mapping
from typing import Any, Final

# That nothing more can be opened passes by itself, and is no fault of the thing asked for.
OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


class AppError(Exception):
    """A failure with a status, a message that is safe to show, and details."""

    status = 500

    def __init__(
        self,
        message: str,
        details: Mapping[str, Any] | None = None,
        *,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})
        self.retry_after_seconds = retry_after_seconds


class InvalidInputError(AppError):
    """The request does not match what the route or the model expects."""

    status = 400


class AuthenticationError(AppError):
    """The caller did not prove who they are."""

    status = 401


class PermissionDeniedError(AppError):
    """The caller is known and not allowed."""

    status = 403


class ModelNotFoundError(AppError):
    """No such model, or another owner's private one."""

    status = 404


class UserNotFoundError(AppError):
    """No such user."""

    status = 404


class ApiKeyNotFoundError(AppError):
    """No such API key, or another user's."""

    status = 404


class RequestNotFoundError(AppError):
    """The log holds no such request."""

    status = 404


class ConflictError(AppError):
    """The request contradicts what is already there."""

    status = 409


class PayloadTooLargeError(AppError):
    """More bytes, rows or versions than the settings allow."""

    status = 413


class UnsupportedMediaTypeError(AppError):
    """The body is of a media type that the route does not read."""

    status = 415


class ModelRejectedError(AppError):
    """An uploaded file was refused; ``details["reason"]`` is a stable code."""

    status = 422


class ThrottledError(AppError):
    """Too many attempts; ``retry_after_seconds`` says when to come back."""

    status = 429


class ModelLoadError(AppError):
    """A model that was accepted cannot be loaded any more."""

    status = 500


class PredictionError(AppError):
    """An estimator failed on valid input."""

    status = 500


class ServiceUnavailableError(AppError):
    """Something that the service needs does not answer now."""

    status = 503


class StorageFullError(AppError):
    """There is no room left to store the upload."""

    status = 507
