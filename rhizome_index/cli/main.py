"""The entry point: options that all commands share, errors and exit codes.

Exit codes: 0 done and proven, 1 a bug of ours, 2 usage, 3 unavailable, 4 bytes or
signatures that lie, 5 partial, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper
from pathlib import Path
from typing import Any

import click

from rhizome_index import __version__
from rhizome_index.errors import RhizomeError
from rhizome_index.node.home import Home


@dataclass(slots=True)
class Settings:
    """What stands before the command."""

    home: Home
    as_json: bool


def _default_home() -> Path:
    from platformdirs import user_data_path

    return user_data_path("rhizome-index")


class Commands(click.Group):
    """Commands by name, each loaded when it is used."""

    MODULES = {  # noqa: RUF012
        "init": "local",
        "id": "local",
        "status": "local",
        "import": "local",
        "put": "local",
        "get": "local",
        "delete": "local",
        "index": "local",
        "sample": "local",
        "query": "network",
        "node": "network",
        "follow": "following",
        "unfollow": "following",
        "follows": "following",
        "sync": "following",
        "find": "following",
        "verify": "archives",
        "export": "archives",
        "restore": "archives",
        "inspect": "inspecting",
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
        from difflib import get_close_matches

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if close := get_close_matches(args[0], self.list_commands(ctx), 1):
                raise click.UsageError(f"{error.message} Did you mean '{close[0]}'?", ctx) from None
            raise


def common(command: Callable[..., Any]) -> Any:
    """Gives a command its Settings, and `--home` and `--json` on its own line too."""

    @click.option("--home", type=click.Path(path_type=Path), help="Directory of identity and store.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
    @click.pass_context
    def wrapped(context: click.Context, /, home: Path | None, as_json: bool, **options: Any) -> Any:
        settings: Settings = context.obj
        if home is not None:
            settings.home = Home.at(home)
        settings.as_json = settings.as_json or as_json
        return command(settings, **options)

    return update_wrapper(wrapped, command)


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
@click.option("--home", type=click.Path(path_type=Path), envvar="RHIZOME_HOME", help="Directory of identity and store.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.version_option(__version__, prog_name="rhizome")
@click.pass_context
def cli(context: click.Context, home: Path | None, as_json: bool) -> None:
    """Ask any peer an index query, and prove the answer before believing it."""
    context.obj = Settings(Home.at(home or _default_home()), as_json)


def main() -> None:
    """Run the command line and exit."""
    as_json = "--json" in sys.argv[1:]
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("rhizome: interrupted; nothing half-done was kept", file=sys.stderr)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except RhizomeError as error:
        from rhizome_index.cli.show import print_error

        print_error(error, as_json=as_json)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
