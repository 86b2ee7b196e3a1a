#!/usr/bin/env python3
"""Command line of the service. ``python run.py --help`` lists the commands; default: ``serve``."""

import argparse
import sys
from pathlib import Path
from uuid import UUID

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
    parser.set_defaults(name="serve")
    commands = parser.add_subparsers(metavar="command")
    serve = _add_command(commands, "serve")
    serve.add_argument("--handover", type=int, help=argparse.SUPPRESS)  # For a reload.
    serve.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    for name in ("migrate", "seed"):
        _add_command(commands, name)
    doctor = _add_command(commands, "doctor")
    doctor.add_argument("--send-to", metavar="EMAIL", help="send a test mail to this email")
    doctor.add_argument(
        "--json", dest="as_json", action="store_true", help="print the result as JSON"
    )
    mail = _add_command(commands, "mail")
    mail_commands = mail.add_subparsers(metavar="command")
    retry = _add_command(mail_commands, "mail retry")
    retry.add_argument(
        "mail_id", metavar="ID", nargs="?", type=UUID, help="the mail (default: all of them)"
    )
    preview = _add_command(mail_commands, "mail preview")
    preview.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("mail-preview"),
        help="the folder to write to (default: mail-preview)",
    )
    keys = commands.add_parser("keys", help="Manage API keys, the keys of tokens, and encryption.")
    key_commands = keys.add_subparsers(metavar="command", required=True)
    _add_command(key_commands, "keys reencrypt")
    rotate = _add_command(key_commands, "keys rotate")
    rotate.add_argument(
        "--revoke-old",
        action="store_true",
        help="also make the tokens of all earlier keys invalid, at once",
    )
    create = _add_command(key_commands, "keys create")
    create.add_argument(
        "--name",
        dest="key_name",
        metavar="NAME",
        required=True,
        help="the name, which the security log shows",
    )
    create.add_argument(
        "--scope",
        dest="scopes",
        metavar="SCOPE",
        action="append",
        required=True,
        help="what the key may do, such as users:read; may be given again",
    )
    listing = _add_command(key_commands, "keys list")
    listing.add_argument("--json", action="store_true", help="print JSON")
    revoke = _add_command(key_commands, "keys revoke")
    revoke.add_argument("key_name", metavar="NAME", help="the name of the key")
    _add_user_commands(commands)
    arguments = vars(parser.parse_args())
    return run_command(arguments.pop("name"), arguments)


def _add_user_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the commands of ``users``."""
    users = commands.add_parser("users", help="Look at accounts, act on them, and import them.")
    user_commands = users.add_subparsers(metavar="command", required=True)
    users_import = _add_command(user_commands, "users import")
    users_import.add_argument("file", type=Path, help="the file, with an account a line")
    listing = _add_command(user_commands, "users list")
    listing.add_argument("--search", metavar="TEXT", help="a part of the username or the email")
    listing.add_argument("--locked", action="store_true", help="only locked accounts")
    listing.add_argument("--unverified", action="store_true", help="only unverified emails")
    listing.add_argument(
        "--limit",
        metavar="NUMBER",
        type=_count,
        help="at most so many accounts (default: 50, and with --json all)",
    )
    listing.add_argument("--after", metavar="PLACE", help="continue a list at this place")
    named = {
        name: _add_command(user_commands, f"users {name}")
        for name in (
            "show",
            "lock",
            "unlock",
            "verify",
            "reset",
            "delete",
            "export",
            "disable-two-factor",
            "roles",
        )
    }
    for command in named.values():
        command.add_argument("user", metavar="USER", help="the email, username or id of the user")
    named["reset"].add_argument(
        "--revoke-password",
        action="store_true",
        help="the old password and all sessions end at once",
    )
    sign_out = _add_command(user_commands, "users sign-out")
    sign_out.add_argument(
        "user", metavar="USER", nargs="?", help="the email, username or id of the user"
    )
    sign_out.add_argument("--all-users", action="store_true", help="sign everybody out")
    for command in (sign_out, named["delete"]):
        command.add_argument("--yes", action="store_true", help="do not ask")
    others = {"list": listing, "import": users_import, "sign-out": sign_out}
    for name, command in {**named, **others}.items():
        if name != "export":
            command.add_argument("--json", action="store_true", help="print JSON")
    roles = named["roles"]
    for name, help_text in (("add", "give this role"), ("remove", "take this role away")):
        roles.add_argument(f"--{name}", metavar="ROLE", action="append", default=[], help=help_text)


def _count(text: str) -> int:
    """Return a number from 1 to 1000. Raise ``ValueError``."""
    if not 1 <= (number := int(text)) <= 1000:
        raise argparse.ArgumentTypeError("must be from 1 to 1000")
    return number


def _add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str
) -> argparse.ArgumentParser:
    """Add the command of ``COMMANDS`` with this name. Its last word is typed."""
    parser = commands.add_parser(name.rpartition(" ")[2], help=COMMANDS[name].help)
    parser.set_defaults(name=name)
    return parser


if __name__ == "__main__":
    sys.exit(main())
