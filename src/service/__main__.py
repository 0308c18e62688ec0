"""The command `jobstate`, as `python -m service`."""

from jobstate.cli import main

if __name__ == "__main__":
    main(prog_name="jobstate")
