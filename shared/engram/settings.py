"""Settings from ``ENGRAM_*`` variables: typed, documented, and an unknown name is an error."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from engram.domain.spaces import SpaceSpec, choose_default, parse_embedding
from engram.embedding.registry import ProviderSettings
from engram.errors import UsageError

# Read by the command line and the clients, not by the services.
CLIENT_NAMES = ("ENGRAM_URL", "ENGRAM_API_KEY")

# A secret may be given as the path of a file that holds it, as containers mount secrets.
FILE_SUFFIX = "_FILE"
_MAX_SECRET_BYTES = 64 * 1024

Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseModel):
    """Everything a service can be told. Each field's description is its documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    database_url: SecretStr | None = Field(
        None, description="Postgres, postgresql://user:password@host:port/database."
    )
    nats_url: SecretStr | None = Field(
        None, description="NATS with JetStream, nats://user:password@host:port; commas for more."
    )
    data_dir: Path | None = Field(
        None, description="Where `engram up` keeps its servers and credentials."
    )
    embedding: str | None = Field(
        None,
        description="Space of new stores, provider:model@dimensions; voyage with a key, or minilm.",
    )
    voyage_api_key: SecretStr | None = Field(
        None, alias="VOYAGE_API_KEY", description="Key of Voyage AI."
    )
    voyage_base_url: str | None = Field(None, description="Another address of Voyage's API.")
    openai_base_url: str | None = Field(
        None, description="Any OpenAI-compatible API, such as http://127.0.0.1:11434/v1."
    )
    openai_api_key: SecretStr | None = Field(None, description="Key of the OpenAI-compatible API.")
    provider_timeout_s: float = Field(
        30.0, gt=0, le=600, description="Longest wait for one embedding request, in seconds."
    )
    provider_tier: int = Field(
        1, ge=1, le=3, description="Usage tier at Voyage AI, 1 to 3, which says what it allows."
    )
    provider_rpm: int | None = Field(
        None, ge=3, description="Calls a minute that the provider allows, instead of the preset."
    )
    provider_tpm: int | None = Field(
        None,
        ge=1_000,
        description="Tokens a minute that the provider allows, instead of the preset.",
    )
    provider_price: float | None = Field(
        None,
        ge=0,
        description="US dollars paid for a million tokens, instead of the list price of the model.",
    )
    query_timeout_s: float = Field(
        5.0, gt=0, le=60, description="Longest wait for a query's vector before full text answers."
    )
    host: str = Field("127.0.0.1", description="Address the HTTP API listens on.")
    port: Port = Field(8080, description="Port of the HTTP API; 0 takes a free one.")
    ops_host: str = Field("127.0.0.1", description="Address of /healthz, /readyz and /metrics.")
    ops_port: Port = Field(8081, description="Port of /healthz, /readyz and /metrics.")
    replicas: int = Field(1, ge=1, le=5, description="Copies of each stream in a NATS cluster.")
    stream_max_bytes: int = Field(
        4 * 1024**3,
        ge=64 * 1024**2,
        description="Size at which a stream refuses what is new; NATS reserves it for each of two.",
    )
    queue_limit: int = Field(
        20_000, ge=1, description="Memories waiting in one ingest process before it answers 429."
    )
    outbox_limit: int = Field(
        200_000, ge=1, description="Unpublished events before ingest answers 429."
    )
    live_share: int = Field(
        200, ge=1, description="Memories of one workspace in an embedder's live lane; more is bulk."
    )
    import_max_bytes: int = Field(
        2 * 1024**3, ge=1, description="Largest body of one import, in bytes."
    )
    import_max_items: int = Field(
        10_000_000, ge=1, description="Most items of one import; a longer file ends there."
    )
    import_jobs_limit: int = Field(
        10, ge=1, description="Imports of one workspace that may wait or run at once."
    )
    access_flush_s: float = Field(
        5.0, gt=0, le=60, description="Seconds between two writings of what searches found."
    )
    otlp_url: str | None = Field(
        None,
        description="Where traces go, such as http://127.0.0.1:4318 (OTLP); needs engram[otel].",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line that is written."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="Log lines as JSON or for people; auto asks the terminal."
    )

    @field_validator("embedding")
    @classmethod
    def _known_space(cls, value: str | None) -> str | None:
        if value is not None:
            parse_embedding(value)
        return value

    @property
    def space(self) -> SpaceSpec:
        """The space that a new store is made with."""
        if self.embedding:
            return parse_embedding(self.embedding)
        return choose_default(_shown(self.voyage_api_key))

    @property
    def providers(self) -> ProviderSettings:
        """What the embedding providers need."""
        return ProviderSettings(
            voyage_api_key=_shown(self.voyage_api_key),
            voyage_base_url=self.voyage_base_url,
            openai_base_url=self.openai_base_url,
            openai_api_key=_shown(self.openai_api_key),
            timeout_s=self.provider_timeout_s,
        )

    def require_database(self) -> str:
        """Return the database URL.

        Raises:
            UsageError: it is not set.
        """
        return _required(self.database_url, "ENGRAM_DATABASE_URL", "postgresql://…")

    def require_nats(self) -> str:
        """Return the NATS URL.

        Raises:
            UsageError: it is not set.
        """
        return _required(self.nats_url, "ENGRAM_NATS_URL", "nats://…")


def _shown(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _required(secret: SecretStr | None, name: str, example: str) -> str:
    if secret is None or not secret.get_secret_value():
        raise UsageError(
            "setting_missing",
            f"{name} is not set.",
            cure=f"Set it to {example}, or run everything at once with `engram up`.",
        )
    return secret.get_secret_value()


def variable_names() -> dict[str, str]:
    """Return the environment variable of every field, by field name."""
    fields = Settings.model_fields
    return {name: field.alias or f"ENGRAM_{name.upper()}" for name, field in fields.items()}


def secret_names() -> tuple[str, ...]:
    """Return the variables of secrets: each may also be given as ``<name>_FILE``."""
    names = variable_names()
    annotations = {name: info.annotation for name, info in Settings.model_fields.items()}
    return tuple(
        names[name] for name, kind in annotations.items() if SecretStr in (kind, *get_args(kind))
    )


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment.

    Args:
        environ: the variables; the process's own by default.

    Raises:
        UsageError: an unknown ``ENGRAM_*`` name (with a suggestion), a value that does not fit, or
            a secret's file that cannot be used.
    """
    environ = os.environ if environ is None else environ
    _refuse_unknown(environ)
    environ = {**environ, **_secrets_in_files(environ)}
    values = {
        variable: environ[variable] for variable in variable_names().values() if variable in environ
    }
    by_field = {variable: name for name, variable in variable_names().items()}
    try:
        return Settings.model_validate({by_field[name]: value for name, value in values.items()})
    except ValidationError as error:
        raise _wrong_value(error) from None


def _secrets_in_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets that are given as files, by the name each would have as a variable."""
    found = {}
    for name in secret_names():
        path = environ.get(name + FILE_SUFFIX)
        if path is None:
            continue
        if name in environ:
            raise UsageError(
                "setting_given_twice",
                f"Both {name} and {name}{FILE_SUFFIX} are set.",
                cure="Keep one of them.",
            )
        found[name] = _secret_in(path, name + FILE_SUFFIX)
    return found


def _secret_in(path: str, variable: str) -> str:
    """Return what a file holds, without the line break that editors and echo put at its end."""
    try:
        with Path(path).open("rb") as file:
            secret = file.read(_MAX_SECRET_BYTES).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise UsageError(
            "secret_file_unreadable",
            f"The file that {variable} names cannot be read ({type(error).__name__}).",
            cure="Give the path of a text file that this process may read.",
        ) from None
    if not secret:
        raise UsageError(
            "secret_file_empty",
            f"The file that {variable} names is empty.",
            cure="Write the secret into it.",
        )
    return secret


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    files = [name + FILE_SUFFIX for name in secret_names()]
    known = [*variable_names().values(), *files, *CLIENT_NAMES]
    for name in environ:
        if not name.startswith("ENGRAM_") or name in known:
            continue
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]}?" if close else "See docs/settings.md for the names."
        raise UsageError(
            "unknown_setting",
            f"{name} is no setting of engram.",
            cure=f"{hint} In Kubernetes set enableServiceLinks: false.",
        )


def _wrong_value(error: ValidationError) -> UsageError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "?"
    variable = variable_names().get(field, field)
    return UsageError(
        "wrong_setting",
        f"{variable} does not fit: {first['msg']}.",
        cure="See docs/settings.md for what it takes.",
    )
