"""The prompt of the shell: a line editor with history and completion, over prompt_toolkit.

The history is a file in the home, for its owner's eyes only, and stays within its bound.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer
from prompt_toolkit.completion import Completion as Shown
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.input import Input
from prompt_toolkit.output import Output
from prompt_toolkit.output.defaults import create_output

from rhizome_index.limits import HISTORY_BYTES_MAX
from rhizome_index.query.complete import Completion

Complete = Callable[[str, int], Sequence[Completion]]
_ENTRY = b"\n# "  # how each begins in the file


class HomeHistory(FileHistory):
    """The lines typed before, the newest last. Where the file cannot be used, those of this session."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path
        self._is_usable = False
        with suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            path.chmod(0o600)
            self._shorten()
            self._is_usable = True

    def _shorten(self) -> None:
        """Keep the newer half of a file that has grown too large."""
        if self._path.stat().st_size <= HISTORY_BYTES_MAX:
            return
        with self._path.open("r+b") as file:
            file.seek(-HISTORY_BYTES_MAX // 2, os.SEEK_END)
            kept = file.read()
            file.seek(0)
            file.write(kept[max(0, kept.find(_ENTRY)) :])
            file.truncate()

    def load_history_strings(self) -> Iterable[str]:
        return super().load_history_strings() if self._is_usable else ()

    def store_string(self, string: str) -> None:
        if self._is_usable:
            with suppress(OSError):  # a full disk
                super().store_string(string)


class LineCompleter(Completer):
    """Completions as the editor wants them: in place of so many letters before the cursor."""

    def __init__(self, complete: Complete) -> None:
        self._complete = complete

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Shown]:
        for item in self._complete(document.text, document.cursor_position):
            yield Shown(item.text, item.start - document.cursor_position, display_meta=item.kind)


class Prompt:
    """Asks for lines, one after the other."""

    def __init__(
        self, history: Path, complete: Complete, *, input: Input | None = None, output: Output | None = None
    ) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=HomeHistory(history),
            completer=LineCompleter(complete),
            complete_while_typing=False,
            complete_in_thread=False,
            enable_history_search=True,
            input=input,
            output=output or create_output(always_prefer_tty=True),
        )

    def ask(self, prompt: str) -> str | None:
        """The next line; an empty one for a line that was given up with Ctrl-C, None at the end."""
        try:
            return self._session.prompt(prompt)
        except KeyboardInterrupt:
            return ""
        except EOFError:
            return None
