"""The settings: one table, read from a file and the environment, checked once."""

import os
import re
import secrets
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NoReturn

PREFIX: Final = "PELLUCID_"
MIN_SECRET_BYTES: Final = 32
# Kubernetes sets such variables for a service that is named like the program.
_SERVICE_LINK: Final = re.compile(r"PELLUCID_(SERVICE_|PORT)")
MINOR_VERSION: Final = re.compile(r"(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})", re.ASCII)
_UNITS: Final = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}


class SettingError(Exception):
    """A setting has a value that the program cannot use."""


def _text(value: str) -> str:
    return value


def _path(value: str) -> Path:
    if not value:
        raise ValueError("a path")
    return Path(value).absolute()


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if value.startswith("unix:/"):
        return value
    if not (host and colon and port.isdecimal() and int(port) < 65536):
        raise ValueError("HOST:PORT, for example 127.0.0.1:8000, or unix:/path")
    return value


def _integer(minimum: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"\d{1,15}", value) or int(value) < minimum:
            raise ValueError(f"a whole number of at least {minimum}")
        return int(value)

    return parse


def _seconds(value: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", value):
        raise ValueError("a number of seconds, for example 0.5")
    return float(value)


def _size(value: str) -> int:
    match = re.fullmatch(r"(\d{1,15})\s*([a-z]*)", value.strip().lower())
    if match is None or match[2] not in _UNITS or int(match[1]) == 0:
        raise ValueError("a number of bytes, for example 67108864 or 64 MiB")
    return int(match[1]) * _UNITS[match[2]]


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        for choice in allowed:
            if value.lower() == choice.lower():
                return choice
        raise ValueError(f"one of {', '.join(allowed)}")

    return parse


def _names(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _minor_versions(value: str) -> tuple[str, ...]:
    versions = _names(value)
    if not all(map(MINOR_VERSION.fullmatch, versions)):
        raise ValueError("minor versions, for example 1.7, 1.8")
    return versions


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value and not any(value.startswith(f"{scheme}:") for scheme in schemes):
            raise ValueError(f"a URL that begins with {', '.join(s + ':' for s in schemes)}")
        return value

    return parse


def _database_url(value: str) -> str:
    # SQLAlchemy 2.1 would pick psycopg2 for a bare postgresql: URL; psycopg 3 is what we install.
    value = _url("sqlite", "postgresql", "postgresql+psycopg", "postgres")(value)
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", value)


def _key(value: str) -> str:
    if value and len(value.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"at least {MIN_SECRET_BYTES} bytes")
    return value


def _setting(
    default: str,
    help: str,
    parse: Callable[[str], Any] = _text,
    *,
    shown: str | None = None,
    secret: bool = False,
) -> Any:  # Any, as dataclasses.field itself: the annotation of the attribute holds
    return field(
        repr=not secret,
        metadata={
            "default": default,
            "help": help,
            "parse": parse,
            "shown": shown if shown is not None else (default or "none"),
            "secret": secret,
        },
    )


@dataclass(frozen=True)
class Settings:
    """What the operator can set; the order is that of the documented table."""

    bind: str = _setting("127.0.0.1:8000", "address and port to listen on", _address)
    workers: int = _setting("", "worker processes", _integer(1), shown="CPU count")
    threads: int = _setting("4", "threads in each worker", _integer(1))
    instance_path: Path = _setting("instance", "folder of database, models and secrets", _path)
    database_url: str = _setting(
        "",
        "database, sqlite: or postgresql:",
        _database_url,
        shown="SQLite in the instance folder",
        secret=True,
    )
    redis_url: str = _setting(
        "", "Redis for the login throttle", _url("redis", "rediss", "unix"), secret=True
    )
    log_dir: Path = _setting("logs", "folder of the log", _path)
    log_level: str = _setting(
        "INFO",
        "least level written; a request that fails or is slow writes its DEBUG lines as well",
        _choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    )
    log_segment_bytes: int = _setting("64 MiB", "size at which the log rotates", _size)
    log_retention_days: int = _setting("30", "days that the log is kept", _integer(1))
    log_max_bytes: int = _setting("10 GiB", "bytes of log that are kept", _size)
    log_stdout: str = _setting(
        "auto",
        "lines on stdout: short ones on a terminal (auto), json, or off",
        _choice("auto", "json", "off"),
    )
    slow_request_seconds: float = _setting("1.0", "a slower request is a WARNING", _seconds)
    slow_query_seconds: float = _setting("0.5", "a slower SQL statement is logged", _seconds)
    slow_operation_seconds: float = _setting("1.0", "a slower operation is a WARNING", _seconds)
    max_upload_bytes: int = _setting("64 MiB", "largest model file", _size)
    max_body_bytes: int = _setting("32 MiB", "largest other body", _size)
    max_rows: int = _setting("100000", "most rows in one prediction", _integer(1))
    model_cache_bytes: int = _setting("1 GiB", "loaded models kept by a worker", _size)
    jwt_secret_key: str = _setting(
        "", "key that signs tokens, ≥ 32 bytes", _key, shown="generated", secret=True
    )
    access_token_seconds: int = _setting("900", "life of an access token", _integer(1))
    refresh_token_seconds: int = _setting(
        "2592000", "life of a refresh token", _integer(1), shown="2592000 (30 days)"
    )
    registration: str = _setting("open", "who may register", _choice("open", "closed"))
    trusted_proxies: int = _setting("0", "reverse proxies in front", _integer(0))
    allowed_hosts: tuple[str, ...] = _setting(
        "", "Host names answered, those of probes too", _names, shown="any"
    )
    metrics_token: str = _setting("", "bearer token for /metrics", secret=True)
    max_features: int = _setting("10000", "most features of a model", _integer(1))
    max_user_versions: int = _setting("10000", "most versions that a user may store", _integer(1))
    max_user_bytes: int = _setting("20 GiB", "bytes of models that a user may store", _size)
    check_memory_bytes: int = _setting("2 GiB", "memory that the check of a model may take", _size)
    engine: str = _setting(
        "auto",
        "what serves models: the fastest engine that is proven (auto), or sklearn",
        _choice("auto", "sklearn"),
    )
    model_seconds: int = _setting(
        "30", "a model that needs longer for a prediction or its load is stopped", _integer(1)
    )
    trusted_globals: tuple[str, ...] = _setting("", "further names a model may use", _names)
    sklearn_versions: tuple[str, ...] = _setting(
        "",
        "further scikit-learn versions, as 1.7, 1.8, whose models are loaded: they may fail, or"
        " predict otherwise than there",
        _minor_versions,
    )
    admin_email: str = _setting("", "e-mail of the first admin", shown="admin@localhost")
    admin_password: str = _setting(
        "", "password of the first admin", shown="generated", secret=True
    )

    @property
    def needs_network(self) -> bool:
        """Tell whether the database, or anything else, is reached by sockets."""
        return bool(self.redis_url) or not self.database_url.startswith("sqlite:")


SETTINGS: Final = fields(Settings)
_BY_NAME: Final = {spec.name: spec for spec in SETTINGS}


def env_name(name: str) -> str:
    """Name the environment variable of a setting."""
    return PREFIX + name.upper()


def load(
    environ: Mapping[str, str] = os.environ, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read, check and freeze the settings.

    Raises
    ------
    SettingError : a value is wrong, a name unknown or a file unreadable
    """
    raw = _read_environment(environ)
    instance_path = _parse("instance_path", raw.get("instance_path", "instance"))
    if overrides and "instance_path" in overrides:
        instance_path = Path(overrides["instance_path"])
    raw = _read_file(instance_path / "settings.toml") | raw
    values = {
        spec.name: _parse(spec.name, raw.get(spec.name, spec.metadata["default"]))
        for spec in SETTINGS
        if spec.name != "workers"
    }
    values["workers"] = _parse("workers", raw.get("workers") or str(os.cpu_count() or 1))
    values["instance_path"] = instance_path
    values |= overrides or {}
    if not values["database_url"]:
        values["database_url"] = f"sqlite:///{instance_path / 'pellucid.db'}"
    if not values["jwt_secret_key"]:
        values["jwt_secret_key"] = _kept_secret(instance_path / "jwt_secret_key")
    return Settings(**values)


def load_or_exit() -> Settings:
    """Load the settings, or end the program with one line and status 2."""
    try:
        return load()
    except SettingError as error:
        exit_with(str(error))


def exit_with(message: str) -> NoReturn:
    """End the program: one line on stderr, exit status 2."""
    sys.stderr.write(f"pellucid: {message}\n")
    raise SystemExit(2)


def find_log_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Find the log folder, whatever the other settings say: the log can always be read."""
    raw: dict[str, str] = {}
    try:
        raw = _read_file(Path(environ.get(env_name("instance_path"), "instance"), "settings.toml"))
    except SettingError as error:
        sys.stderr.write(f"pellucid: {error}\n")
    return Path(environ.get(env_name("log_dir")) or raw.get("log_dir") or "logs").absolute()


def forget_secrets(environ: dict[str, str] | os._Environ[str] = os.environ) -> None:
    """Take the secrets out of the environment, where a child or a traceback could show them."""
    for spec in SETTINGS:
        if spec.metadata["secret"]:
            environ.pop(env_name(spec.name), None)


def _read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    raw: dict[str, str] = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or _SERVICE_LINK.match(variable):
            continue
        name = variable.removeprefix(PREFIX).lower()
        secret_file = _BY_NAME.get(name.removesuffix("_file"))
        if name.endswith("_file") and secret_file and secret_file.metadata["secret"]:
            raw.setdefault(secret_file.name, _read_secret(variable, Path(value)))
        elif name in _BY_NAME:
            raw[name] = value
        else:
            raise SettingError(_unknown(variable, [env_name(known) for known in _BY_NAME]))
    return raw


def _read_secret(variable: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{variable}: cannot read that file ({_why(error)})") from None


def _read_file(path: Path) -> dict[str, str]:
    try:
        # As written: 1.10 is no 1.1 where it means a version.
        content = tomllib.loads(path.read_text(), parse_float=str)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"{path.name} in the instance folder: {_why(error)}") from None
    raw: dict[str, str] = {}
    for name, value in content.items():
        if name.lower() not in _BY_NAME:
            raise SettingError(_unknown(f"{name} in settings.toml", list(_BY_NAME)))
        raw[name.lower()] = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return raw


def _unknown(name: str, known: list[str]) -> str:
    close = get_close_matches(name.split()[0], known, 1)
    return f"unknown setting {name}" + (f"; did you mean {close[0]}?" if close else "")


def _why(error: Exception) -> str:
    return error.strerror or "error" if isinstance(error, OSError) else str(error)


def _parse(name: str, value: str) -> Any:
    spec = _BY_NAME[name]
    try:
        return spec.metadata["parse"](value)
    except ValueError as error:
        given = "" if spec.metadata["secret"] else f", not {value[:80]!r}"
        raise SettingError(f"{env_name(name)} must be {error}{given}") from None


def _kept_secret(path: Path) -> str:
    """Read a generated secret, or make one that only its owner may read."""
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        if not path.exists():
            # Linked into place whole, so that a second process never reads half a key.
            temporary = path.with_name(f".{path.name}-{os.getpid()}")
            with open(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(48))
            try:
                os.link(temporary, path)
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        return _key(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise SettingError(f"{path.name} in the instance folder: {_why(error)}") from None
