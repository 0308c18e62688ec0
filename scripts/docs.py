"""Write the parts of the documentation that the code determines; `--check` only compares."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from service.api.auth import LEASE_HOLDER_SCOPES, REQUIRED_SCOPES
from service.api.problems import ALL_PROBLEM_TYPES, PROBLEM_TYPES
from service.app import create_app
from service.domain.api_keys import Scope
from service.domain.states import FINAL_STATUSES, TRANSITIONS
from service.settings import VARIABLES, Settings
from service.settings.redis_url import OPTIONS as URL_OPTIONS
from service.store.redis_commands import DOCTOR, OPTIONAL, REPAIR, REQUIRED_COMMANDS, names, rule

DOCS = Path(__file__).resolve().parent.parent / "docs"


def states() -> list[str]:
    """Draw the state machine."""
    arrows = [f"    {source} --> {target}" for source, targets in TRANSITIONS.items() for target in targets]
    ends = [f"    {status} --> [*]" for status in TRANSITIONS if status in FINAL_STATUSES]
    rows = [f"| {source} | {', '.join(targets) or 'nothing: final'} |" for source, targets in TRANSITIONS.items()]
    diagram = ["```mermaid", "stateDiagram-v2", "    [*] --> pending", *arrows, *ends, "```"]
    return [*diagram, "", "| from | to |", "| --- | --- |", *rows]


def variables() -> list[str]:
    """List the settings."""
    rows = [
        f"| `{one.name}` | {f'`{one.default}`' if one.default else ''} | {one.allowed} | {one.description} |"
        for one in VARIABLES
    ]
    return ["| variable | default | allowed | what for |", "| --- | --- | --- | --- |", *rows]


def problems() -> list[str]:
    """List the problems, those of one status together."""
    meanings = {kind: error.default_detail for error, kind in PROBLEM_TYPES.items()}
    kinds = sorted(ALL_PROBLEM_TYPES, key=lambda kind: (kind.status, kind.name))
    rows = [f"| {kind.status} | `{kind.name}` | {meanings.get(kind) or f'{kind.title}.'} |" for kind in kinds]
    return ["| status | name | what it means |", "| --- | --- | --- |", *rows]


def scopes() -> list[str]:
    """List the operations by the scope that they take."""
    paths = create_app(Settings.from_environment({}), "redis://nowhere").openapi_schema.to_schema()["paths"]
    places = {
        operation["operationId"]: f"`{method.upper()} {path}`"
        for path, item in paths.items()
        for method, operation in item.items()
    }
    rows = []
    for scope in (None, *Scope):
        of_scope = [places[name] for name, needed in REQUIRED_SCOPES.items() if name and needed is scope]
        besides = [
            f"{places[name]} with a `Lease-Token`"
            for name, other in LEASE_HOLDER_SCOPES.items()
            if name and other is scope
        ]
        rows.append(f"| {f'`{scope}`' if scope else 'none'} | {', '.join([*of_scope, *besides])} |")
    return ["| scope | operations |", "| --- | --- |", *rows]


def acl() -> list[str]:
    """List what each part needs of Redis, as ACL rules."""
    features = [f"| {feature} | `{' '.join(map('+{}'.format, names(rules)))}` |" for feature, rules in OPTIONAL.items()]
    return [
        "```text",
        f"ACL SETUSER jobstate on >PASSWORD {rule(*REQUIRED_COMMANDS)}",
        f"ACL SETUSER jobstate-doctor on >PASSWORD {rule(*DOCTOR)}",
        f"ACL SETUSER jobstate-repair on >PASSWORD {rule(*DOCTOR, *REPAIR)}",
        "```",
        "",
        "| optional, for any of them | add |",
        "| --- | --- |",
        *features,
    ]


def options() -> list[str]:
    """List the options of a Redis URL."""
    rows = [
        f"| `{name}` | {one.allowed} | {'rediss://' if option.needs_tls else 'any'} |" for name, one in URL_OPTIONS.items()
    ]
    return ["| option | allowed | scheme |", "| --- | --- | --- |", *rows]


def openapi() -> str:
    """Write the API document."""
    app = create_app(Settings.from_environment({}), "redis://nowhere")
    return json.dumps(app.openapi_schema.to_schema(), indent=2, ensure_ascii=False) + "\n"


def page(name: str, parts: dict[str, Callable[[], list[str]]]) -> str:
    """Return a page with its parts as the code determines them."""
    text = (DOCS / name).read_text()
    for mark, part in parts.items():
        begin, end = f"<!-- {mark}: begin -->\n", f"<!-- {mark}: end -->\n"
        before, rest = text.split(begin)
        text = before + begin + "\n".join(part()) + "\n" + end + rest.split(end, 1)[1]
    return text


#: Each file, and how it is as the code determines it.
FILES: dict[str, Callable[[], str]] = {
    "state-machine.md": lambda: page("state-machine.md", {"states": states}),
    "configuration.md": lambda: page("configuration.md", {"variables": variables, "options": options}),
    "problems.md": lambda: page("problems.md", {"problems": problems}),
    "security.md": lambda: page("security.md", {"scopes": scopes, "acl": acl}),
    "openapi.json": openapi,
}


def main() -> None:
    """Write or check."""
    for name, written in FILES.items():
        file, text = DOCS / name, written()
        if "--check" not in sys.argv:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            sys.exit(f"docs/{name} is not what the code says: run `just docs`.")


if __name__ == "__main__":
    main()
