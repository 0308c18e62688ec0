"""Draw the diagram and the table of `docs/state-machine.md` from the table of moves; `--check` only compares."""

import sys
from pathlib import Path

from service.domain.states import FINAL, MOVES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "state-machine.md"
START, END = "<!-- drawn from service.domain.states: begin -->\n", "<!-- end -->\n"


def drawing() -> str:
    """Return the part of the page that the table of moves determines."""
    arrows = [f"    {source} --> {target}" for source, targets in MOVES.items() for target in targets]
    ends = [f"    {status} --> [*]" for status in MOVES if status in FINAL]
    rows = [f"| {source} | {', '.join(targets) or 'nothing: final'} |" for source, targets in MOVES.items()]
    diagram = ["```mermaid", "stateDiagram-v2", "    [*] --> pending", *arrows, *ends, "```"]
    return "\n".join([*diagram, "", "| from | to |", "| --- | --- |", *rows, ""])


def redrawn(page: str) -> str:
    """Return the page with the part redrawn."""
    before, rest = page.split(START)
    return before + START + drawing() + END + rest.split(END, 1)[1]


def main() -> None:
    """Write or check."""
    page = PAGE.read_text()
    if "--check" not in sys.argv:
        PAGE.write_text(redrawn(page))
    elif redrawn(page) != page:
        sys.exit("docs/state-machine.md is not what the table of moves says: run `just docs`.")


if __name__ == "__main__":
    main()
