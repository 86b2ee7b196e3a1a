#!/usr/bin/env python3
"""Command line of the service: ``python run.py [serve|migrate|seed]``. The default is ``serve``."""

import argparse
import sys

try:
    from service.cli.commands import COMMANDS, run_command
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] in ("", "service", "sql"):
        raise
    print(
        f"The package {missing.name} is not installed for this Python. Start with `make run`, "
        "which installs it.",
        file=sys.stderr,
    )
    sys.exit(2)


def main() -> int:
    """Run the command named on the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="run.py", description="A user-account service and RealWorld API."
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.__doc__)
    return run_command(parser.parse_args().command or "serve")


if __name__ == "__main__":
    sys.exit(main())
