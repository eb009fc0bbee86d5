"""Standard streams that whoever started the command has closed; and counts, as people read them."""

import json
import sys

import pytest

from rhizome_index.cli.main import main
from rhizome_index.cli.show import many
from tests.cli.terminal import Terminal


@pytest.mark.parametrize("as_json", [False, True])
def test_without_an_output_nothing_is_begun(rhizome: Terminal, as_json: bool) -> None:
    rhizome.monkeypatch.setattr(sys, "stdout", None)
    rhizome.monkeypatch.setattr(sys, "argv", ["rhizome", "--home", str(rhizome.home), "id", *["--json"] * as_json])
    with pytest.raises(SystemExit) as caught:
        main()
    said = rhizome.capsys.readouterr().err
    assert caught.value.code == 3
    assert not rhizome.home.exists()
    message = json.loads(said)["error"] if as_json else said
    assert "cannot write the output: it is closed" in message


def test_errors_do_not_go_to_the_output_where_there_is_no_place_for_them(rhizome: Terminal) -> None:
    rhizome.monkeypatch.setattr(sys, "stderr", None)
    assert rhizome("nonsense", code=2) == ("", "")


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 entries"), (1, "1 entry"), (2, "2 entries"), (12345, "12,345 entries")]
)
def test_counts_are_said_as_people_say_them(count: int, said: str) -> None:
    assert many(count, "entry", "entries") == said
