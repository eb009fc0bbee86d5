"""The entry point: options that all commands share, errors and exit codes.

Exit codes: 0 done and proven, 1 a bug of ours, 2 usage, 3 unavailable, 4 bytes or
signatures that lie, 5 partial, 6 less is proven than was required, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from functools import cached_property, partial, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from rhizome_index import __version__
from rhizome_index.errors import InterruptedByUser, RhizomeError, StoreError, UsageError

if TYPE_CHECKING:
    from rhizome_index.node.home import Home


class Settings:
    """What stands before the command, or among its own options.

    home_path  None: where homes are by default
    """

    def __init__(self, home_path: Path | None, as_json: bool, passphrase_file: Path | None) -> None:
        self.home_path = home_path
        self.as_json = as_json
        self.passphrase_file = passphrase_file

    @cached_property
    def home(self) -> Home:
        """The home, for commands that need one; what is wrong with who may read it is said."""
        from rhizome_index.node.home import Home

        home = Home.at(self.home_path or _default_home())
        home.ask = partial(_passphrase, self)
        for exposure, hint in home.exposures():
            from rhizome_index.cli.show import print_warning

            print_warning(exposure, hint, as_json=self.as_json)
        return home


def _default_home() -> Path:
    from platformdirs import user_data_path

    return user_data_path("rhizome-index")


class Commands(click.Group):
    """Commands by name, each loaded when it is used."""

    MODULES = {  # noqa: RUF012
        "init": "local",
        "passphrase": "passphrase",
        "id": "local",
        "status": "local",
        "top": "watching",
        "import": "local",
        "put": "local",
        "get": "local",
        "delete": "local",
        "renew": "signing",
        "key": "signing",
        "index": "local",
        "sample": "local",
        "query": "network",
        "explain": "network",
        "shell": "shell",
        "node": "network",
        "follow": "following",
        "unfollow": "following",
        "follows": "following",
        "sync": "following",
        "find": "following",
        "verify": "archives",
        "evidence": "archives",
        "audit": "auditing",
        "attestations": "attesting",
        "export": "archives",
        "restore": "archives",
        "scrub": "scrubbing",
        "pin": "keeping",
        "unpin": "keeping",
        "pins": "keeping",
        "quota": "keeping",
        "gc": "keeping",
        "inspect": "inspecting",
        "simulate": "simulating",
        "demo": "demo",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from importlib import import_module

        if cmd_name not in self.MODULES:
            return None
        module = import_module(f"rhizome_index.cli.{self.MODULES[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            if close := get_close_matches(args[0], self.list_commands(ctx), 1):
                raise click.UsageError(f"{error.message} Did you mean '{close[0]}'?", ctx) from None
            raise


class _NobodyReadsError(Exception):
    """Standard output is a pipe that its reader has left. As BrokenPipeError it would make click exit with 1."""


class _HomePath(click.Path):
    """A directory that has a name: an empty one would be the current directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("a home needs a name; . is the current directory", param, ctx)
        return super().convert(value, param, ctx)


HOME = _HomePath(path_type=Path, readable=False)  # whoever uses it says better what is wrong with it
PASSPHRASE_FILE = click.Path(path_type=Path, readable=False, dir_okay=False)


GO_ON = {
    "follow": "it is followed, and goes on from there: rhizome sync",
    "sync": "it goes on from there: rhizome sync",
    "pin": "the same command goes on from there",
}
WRITE_ALL = {"import", "put", "delete", "renew", "key", "index", "export", "restore"}  # or nothing


def common(command: Callable[..., Any]) -> Any:
    """Gives a command its Settings, and the options that make them on its own line too."""

    @click.option("--home", type=HOME, help="Directory of identity and store.")
    @click.option("--passphrase-file", type=PASSPHRASE_FILE, help="Read the private key's passphrase from this file.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
    @click.pass_context
    def wrapped(
        context: click.Context, /, home: Path | None, passphrase_file: Path | None, as_json: bool, **options: Any
    ) -> Any:
        settings: Settings = context.obj
        settings.home_path = home or settings.home_path
        settings.passphrase_file = passphrase_file or settings.passphrase_file
        settings.as_json = settings.as_json or as_json
        try:
            return command(settings, **options)
        except KeyboardInterrupt:
            raise _interrupted(context.command_path.split()[1]) from None
        except BrokenPipeError:
            raise _NobodyReadsError from None

    return update_wrapper(wrapped, command)


def _passphrase(settings: Settings) -> str:
    from rhizome_index.cli.passphrase import current

    return current(settings)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  rhizome sample emoji | rhizome import emoji - --order order --index by_tag=tags
  rhizome query 'first 32 emoji tagged #cat'
  rhizome node --listen /ip4/0.0.0.0/tcp/4711
  rhizome query 'count posts tagged #cats' --peer /ip4/10.0.0.7/tcp/4711/p2p/12D3KooW...
""",
)
@click.option("--home", type=HOME, envvar="RHIZOME_HOME", help="Directory of identity and store.")
@click.option("--passphrase-file", type=PASSPHRASE_FILE, help="Read the private key's passphrase from this file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.version_option(__version__, prog_name="rhizome")
@click.pass_context
def cli(context: click.Context, home: Path | None, passphrase_file: Path | None, as_json: bool) -> None:
    """Ask any peer an index query, and prove the answer before believing it."""
    context.obj = Settings(home, as_json, passphrase_file)


def main() -> None:
    """Run the command line and exit."""
    as_json = "--json" in sys.argv[1:]
    _fill_closed_streams(as_json=as_json)
    try:
        cli.main(prog_name="rhizome", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        if as_json:
            _fail(UsageError("no command", hint=f"{_command(error)} --help"), as_json=True)
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        message = error.format_message().rstrip(".")
        _fail(UsageError(message[:1].lower() + message[1:], hint=f"{_command(error)} --help"), as_json=as_json)
    except RhizomeError as error:
        _fail(error, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        _fail(_interrupted(), as_json=as_json)
    except (_NobodyReadsError, BrokenPipeError):
        _abandon_output()
        sys.exit(141)
    except OSError as error:  # files are translated where they are used, so it is the output
        _abandon_output()
        is_full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        reason = "there is no space left" if is_full else error.strerror or str(error)
        _fail(StoreError(f"cannot write the output: {reason}"), as_json=as_json)


def _fill_closed_streams(*, as_json: bool) -> None:
    """See that no file of ours is taken for a standard stream that was closed. Without an output nothing is begun."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # stays open in the place of the closed one
        pass
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        _fail(
            StoreError("cannot write the output: it is closed", hint="to have none: > /dev/null"),
            as_json=as_json,
        )


def _fail(error: RhizomeError, *, as_json: bool) -> NoReturn:
    from rhizome_index.cli.show import print_error

    print_error(error, as_json=as_json)
    sys.exit(error.exit_code)


def _command(error: click.ClickException) -> str:
    context: click.Context | None = getattr(error, "ctx", None)
    return context.command_path if context else "rhizome"


def _interrupted(command: str = "") -> RhizomeError:
    """What is true of a command that was interrupted: most leave nothing, or have nothing to leave."""
    if sys.stderr.isatty():
        print(file=sys.stderr)  # behind the ^C
    if command in GO_ON:
        return InterruptedByUser("interrupted; what was fetched is kept", hint=GO_ON[command])
    return InterruptedByUser("interrupted; nothing half-done was kept" if command in WRITE_ALL else "interrupted")


def _abandon_output() -> None:
    """Nobody takes the output any more: the interpreter must not try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
