"""Environment variables that set the fields of a struct: how they are declared, parsed, and described to people."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from msgspec import ValidationError
from msgspec.structs import FieldInfo

from service.settings.formats import format_of
from service.settings.redis_url import RedisUrlError, redact_url


class SettingsError(Exception):
    """An environment variable has an invalid value. The text shows the name, the value and what is allowed."""

    def __init__(self, name: str, value: str, allowed: str, detail: str = "") -> None:
        reason = f": {detail}" if detail else ""
        super().__init__(f"{name}={redact_url(value)!r} is not allowed{reason}; allowed: {allowed}")
        self.name = name


class Env(NamedTuple):
    """What a field declares about its variable if it does not follow from the field."""

    name: str = ""
    #: The default as a text.
    default: str = ""
    allowed: str = ""


class Variable:
    """An environment variable, as a field declares it: `name: Annotated[type, …, "description"] = default`.

    Its name is that of the field in upper case. The type says what is allowed. `Env` overrides the rest.
    """

    def __init__(self, field: FieldInfo) -> None:
        # the type of an optional field may be `Annotated[…] | None`
        hint = field.type if get_origin(field.type) is Annotated else get_args(field.type)[0]
        *metadata, self.description = hint.__metadata__
        env = next((one for one in metadata if isinstance(one, Env)), Env())
        self._format = format_of(hint)
        self.field = field.name
        self.name = env.name or field.name.upper()
        self.allowed = env.allowed or self._format.allowed
        #: The default as a text; empty without one.
        self.default = env.default or _text_of(field.default)

    def parse(self, text: str) -> Any:
        """Return the value of a text. Raises `SettingsError`."""
        try:
            return self._format.parse(text)
        except RedisUrlError as error:
            raise SettingsError(self.name, text, error.allowed, error.detail) from None
        except (ValueError, ValidationError) as error:
            if self._format.is_secret:
                raise SettingsError(self.name, "…", self.allowed) from None
            raise SettingsError(self.name, text, self.allowed + _kubernetes_hint(self.name, text)) from error


def read(variables: Iterable[Variable], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the value of each field whose variable is set and not empty. Raises `SettingsError`."""
    texts = {variable: environ.get(variable.name, "").strip() for variable in variables}
    return {variable.field: variable.parse(text) for variable, text in texts.items() if text}


def _text_of(default: Any) -> str:
    return str(int(default)) if isinstance(default, int) else str(default or "")


def _kubernetes_hint(name: str, text: str) -> str:
    """Return what to do about a variable that Kubernetes injects, or an empty string for another one."""
    if not name.endswith("_PORT") or not re.match(r"(tcp|udp|sctp)://", text):
        return ""
    service = name.removesuffix("_PORT").lower()
    return (
        f". Kubernetes injects this for a Service named `{service}`: set `enableServiceLinks: false` in the pod, "
        f"or set `{name}` there"
    )
