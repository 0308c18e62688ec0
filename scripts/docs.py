"""Generate the parts of the documentation that follow from the code; `--check` only compares them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from litestar.routes import HTTPRoute

from service.api.auth import ACCESS
from service.api.openapi.document import complete, to_openapi_30
from service.api.problems import ALL_PROBLEM_TYPES, PROBLEM_TYPES
from service.app import create_app
from service.domain.api_keys import Scope
from service.domain.states import FINAL_STATUSES, TRANSITIONS
from service.settings import VARIABLES, Settings
from service.settings.redis_url import OPTIONS as URL_OPTIONS
from service.settings.redis_url import Option
from service.store.redis_commands import (
    DOCTOR_COMMANDS,
    OPTIONAL_COMMANDS,
    REPAIR_COMMANDS,
    REQUIRED_COMMANDS,
    acl_names,
    acl_rule,
)

DOCS = Path(__file__).resolve().parent.parent / "docs"


def states() -> list[str]:
    """Return the diagram and the table of the state machine."""
    arrows = [f"    {source} --> {target}" for source, targets in TRANSITIONS.items() for target in targets]
    ends = [f"    {status} --> [*]" for status in TRANSITIONS if status in FINAL_STATUSES]
    rows = [f"| {source} | {', '.join(targets) or 'nothing: final'} |" for source, targets in TRANSITIONS.items()]
    diagram = ["```mermaid", "stateDiagram-v2", "    [*] --> pending", *arrows, *ends, "```"]
    return [*diagram, "", "| from | to |", "| --- | --- |", *rows]


def variables() -> list[str]:
    """Return the table of the settings."""
    rows = [
        f"| `{one.name}` | {f'`{one.default}`' if one.default else ''} | {one.allowed} | {one.description} |"
        for one in VARIABLES
    ]
    return ["| variable | default | allowed | description |", "| --- | --- | --- | --- |", *rows]


def problems() -> list[str]:
    """Return the table of the problem types, by status and name."""
    meanings = {kind: error.default_detail for error, kind in PROBLEM_TYPES.items()}
    kinds = sorted(ALL_PROBLEM_TYPES, key=lambda kind: (kind.status, kind.name))
    rows = [f"| {kind.status} | `{kind.name}` | {meanings.get(kind) or f'{kind.title}.'} |" for kind in kinds]
    return ["| status | name | meaning |", "| --- | --- | --- |", *rows]


def scopes() -> list[str]:
    """Return the table of the operations by required scope."""
    app = create_app(Settings.from_environment({}), "redis://nowhere")
    declared = sorted(
        (route.path_format, method, *handler.opt[ACCESS])
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items()
        if isinstance(handler.operation_id, str)  # not a page
    )
    rows = []
    for scope in (None, *Scope):
        operations = [f"`{method} {path}`" for path, method, required, _ in declared if required is scope]
        operations += [
            f"`{method} {path}` with a `Lease-Token`"
            for path, method, _, holder in declared
            if holder and holder is scope
        ]
        rows.append(f"| {f'`{scope}`' if scope else 'none'} | {', '.join(operations)} |")
    return ["| scope | operations |", "| --- | --- |", *rows]


def acl() -> list[str]:
    """List what each part needs of Redis, as ACL rules."""
    features = [
        f"| {feature} | `{' '.join(map('+{}'.format, acl_names(rules)))}` |"
        for feature, rules in OPTIONAL_COMMANDS.items()
    ]
    return [
        "```text",
        f"ACL SETUSER jobstate on >PASSWORD {acl_rule(*REQUIRED_COMMANDS)}",
        f"ACL SETUSER jobstate-doctor on >PASSWORD {acl_rule(*DOCTOR_COMMANDS)}",
        f"ACL SETUSER jobstate-repair on >PASSWORD {acl_rule(*DOCTOR_COMMANDS, *REPAIR_COMMANDS)}",
        "```",
        "",
        "| optional | add |",
        "| --- | --- |",
        *features,
    ]


def _scheme_of(option: Option) -> str:
    if option.needs_sentinel:
        return "redis+sentinel://, rediss+sentinel://"
    return "rediss://, rediss+…://" if option.needs_tls else "any"


def options() -> list[str]:
    """Return the table of the options of a Redis URL."""
    rows = [f"| `{name}` | {option.allowed} | {_scheme_of(option)} |" for name, option in URL_OPTIONS.items()]
    return ["| option | allowed | scheme |", "| --- | --- | --- |", *rows]


def openapi(convert: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document) -> str:
    """Return the OpenAPI document, converted by `convert`."""
    app = create_app(Settings.from_environment({}), "redis://nowhere")
    document = convert(complete(app.openapi_schema.to_schema()))
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def page(name: str, parts: dict[str, Callable[[], list[str]]]) -> str:
    """Return the text of a page with its generated parts."""
    text = (DOCS / name).read_text()
    for mark, part in parts.items():
        begin, end = f"<!-- {mark}: begin -->\n", f"<!-- {mark}: end -->\n"
        before, rest = text.split(begin)
        text = before + begin + "\n".join(part()) + "\n" + end + rest.split(end, 1)[1]
    return text


#: Each file, with the function that returns its text.
FILES: dict[str, Callable[[], str]] = {
    "state-machine.md": lambda: page("state-machine.md", {"states": states}),
    "configuration.md": lambda: page("configuration.md", {"variables": variables, "options": options}),
    "problems.md": lambda: page("problems.md", {"problems": problems}),
    "security.md": lambda: page("security.md", {"scopes": scopes, "acl": acl}),
    "openapi.json": openapi,
    "openapi-3.0.json": lambda: openapi(to_openapi_30),
}


def main() -> None:
    """Write the files, or compare them with `--check`."""
    for name, generate in FILES.items():
        file, text = DOCS / name, generate()
        if "--check" not in sys.argv:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            sys.exit(f"docs/{name} is out of date: run `just docs`.")


if __name__ == "__main__":
    main()
