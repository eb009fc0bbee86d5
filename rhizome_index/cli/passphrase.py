"""Passphrases of sealed private keys: where they come from, and the command `passphrase`, which changes them.

For services a file or the environment has it; a person is asked on the terminal,
without echo. It is never an argument: those can be read by everybody on a machine.
"""

from __future__ import annotations

import getpass
import os
import stat
import warnings
from pathlib import Path

import click

from rhizome_index.cli.main import PASSPHRASE_FILE, Settings, common
from rhizome_index.cli.show import print_warning, to_json
from rhizome_index.errors import UsageError
from rhizome_index.limits import PASSPHRASE_BYTES_MAX
from rhizome_index.node.keyfile import check_passphrase

ENVIRONMENT = "RHIZOME_PASSPHRASE"


def given(settings: Settings) -> str | None:
    """The passphrase in the file or the environment, if one is named. Raises UsageError."""
    if settings.passphrase_file is not None:
        return read_file(settings.passphrase_file, as_json=settings.as_json)
    return os.environ.get(ENVIRONMENT)


def current(settings: Settings) -> str:
    """The passphrase of this home. Raises UsageError where there is none and nobody to ask."""
    found = given(settings)
    return _ask(f"passphrase of {settings.home.path}: ") if found is None else found


def new(settings: Settings, file: Path | None = None) -> str:
    """A passphrase to be set, from a file or typed twice. Raises UsageError."""
    if file is not None:
        return read_file(file, as_json=settings.as_json)
    text = _ask(f"new passphrase for {settings.home.path}: ")
    check_passphrase(text)
    if _ask("the same again: ") != text:
        raise UsageError("the two passphrases differ", hint="nothing was changed; try again")
    return text


def read_file(path: Path, *, as_json: bool) -> str:
    """The one line of a file. Raises UsageError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(PASSPHRASE_BYTES_MAX + 3)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    line = data.removesuffix(b"\n").removesuffix(b"\r")
    if b"\n" in line:
        raise UsageError(f"{path} has more than one line", hint="a passphrase is one line")
    if stat.S_ISREG(mode) and mode & 0o077:
        print_warning(f"{path} is open to others", f"chmod 600 {path}", as_json=as_json)
    return line.decode("utf-8", "surrogateescape")  # what is no text is refused like any other


def _ask(prompt: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)  # rather than to show it
        try:
            return getpass.getpass(prompt)
        except getpass.GetPassWarning:
            raise UsageError(
                "a passphrase is needed, and there is no terminal to ask for it",
                hint=f"set {ENVIRONMENT}, or name a file: --passphrase-file",
            ) from None
        except EOFError:
            raise UsageError("a passphrase is needed, and none was given") from None


@click.command(
    "passphrase",
    epilog="""\b
Examples:
  rhizome passphrase
  rhizome passphrase --new-passphrase-file new.txt
  rhizome passphrase --remove
""",
)
@click.option("--new-passphrase-file", "file", type=PASSPHRASE_FILE, help="Read the new passphrase from this file.")
@click.option("--remove", is_flag=True, help="Keep the private key unsealed: whoever can read it can use it.")
@common
def passphrase_command(settings: Settings, file: Path | None, remove: bool) -> None:
    """Seal this home's private key with a passphrase, change it, or remove it.

    Of a home that has none, --passphrase-file or RHIZOME_PASSPHRASE give the new one.
    """
    if remove and file is not None:
        raise UsageError("--remove and --new-passphrase-file contradict each other")
    home = settings.home
    was_sealed = home.is_sealed
    if was_sealed:
        home.unlock()  # before a new one is asked for
    found = None if remove or was_sealed or file is not None else given(settings)
    home.seal(None if remove else new(settings, file) if found is None else found)
    changed = {"home": str(home.path), "encrypted": not remove}
    text = f"the key in {home.path} {'needs no passphrase any more' if remove else 'has a new passphrase'}"
    print(to_json(changed) if settings.as_json else text)
