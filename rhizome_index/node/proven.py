"""What is proven of the index that an answer comes from, and whether that is as much as is required."""

from __future__ import annotations

import shlex

from rhizome_index.errors import UnprovenError
from rhizome_index.index.head import Head
from rhizome_index.index.schema import Collection
from rhizome_index.limits import ATTESTERS_ASKED_MAX
from rhizome_index.node.cost import Cost
from rhizome_index.node.directory import Directory
from rhizome_index.node.inquire import Inquirer
from rhizome_index.node.ladder import Ladder
from rhizome_index.node.resolution import Resolution
from rhizome_index.query.combine import Choice
from rhizome_index.tree.boundary import Rule
from rhizome_index.trust.ladder import ATTESTED, AUDITED, PROVEN, SIGNED, Requirement, Standing, derivations_of


class Proven:
    """The ladder of one home, and peers who are asked for their word where that is required."""

    def __init__(self, ladder: Ladder, inquirer: Inquirer | None, directory: Directory | None) -> None:
        self.ladder = ladder
        self._inquirer = inquirer
        self._directory = directory

    def standing(self, resolution: Resolution) -> Standing:
        """What is proven of an answer, so far."""
        opening, answer = resolution.opening, resolution.answer
        if opening is None or answer is None or not answer.is_complete:
            return Standing(SIGNED)
        return self.ladder.of_choice(opening.manifest.rule, answer.collection, answer.candidate)

    async def check(self, resolution: Resolution) -> None:
        """Raise UnprovenError if less is proven of the index that is answered from than is required."""
        opening, answer = resolution.opening, resolution.answer
        if resolution.required.level > PROVEN and opening is not None and answer is not None:
            read_from = opening.manifest.rule, answer.collection, answer.candidate
            await self.require(resolution.required, opening.head, *read_from, resolution.cost)

    async def require(
        self, required: Requirement, head: Head, rule: Rule, collection: Collection, choice: Choice, cost: Cost
    ) -> Standing:
        """What is proven of an answer; peers are asked for their word where that is enough.

        Raises UnprovenError if less is proven than is required.
        """
        standing = self.ladder.of_choice(rule, collection, choice)
        if required.level == ATTESTED and not required.is_met_by(standing):
            await self.gather_attestations(head, rule, collection, cost)
            standing = self.ladder.of_choice(rule, collection, choice)
        check_required(required, standing, head, self._least_proven(rule, collection, choice))
        return standing

    def _least_proven(self, rule: Rule, collection: Collection, choice: Choice) -> str:
        """The index of which the least is proven of those that are read, as commands name it; empty: it is none."""
        derivations = derivations_of(rule, collection)
        names = sorted({part.access.index for part in choice.parts})
        least = min(names, key=lambda name: self.ladder.standing(derivations[name]).level, default="")
        return f"{collection.name}.{least}" if least else ""

    async def gather_attestations(self, head: Head, rule: Rule, collection: Collection, cost: Cost) -> None:
        """Ask who serves a dataset which indexes of a collection they made; without a network nobody is asked."""
        if self._inquirer is not None and self._directory is not None:
            given = {derivation.given for derivation in derivations_of(rule, collection).values()}
            peers = await self._directory.providers(head.address, ATTESTERS_ASKED_MAX)
            await self._inquirer.gather(head, collection.name, given, peers, cost)


def check_required(required: Requirement, standing: Standing, head: Head, index: str = "") -> None:
    """Raise UnprovenError if less is proven of an answer from a head than is required.

    index  that it was read from, as commands name it: what more can be proven of it is a hint
    """
    if required.is_met_by(standing):
        return
    attest = ""
    if required.level == ATTESTED:
        attest = "; peers attest different ones" if standing.is_disputed else f"; {_say_attesters(standing.attesters)}"
    hints = [f"follow the dataset, which makes its indexes here: rhizome follow {head.address}"]
    if index and required.level == ATTESTED:
        hints.insert(0, f"see whose words there are: rhizome attestations {head.address} {shlex.quote(index)}")
    if index and required.level in (ATTESTED, AUDITED):
        hints.insert(-1, f"or audit the index, which gives L3: rhizome audit {head.address} {shlex.quote(index)}")
    raise UnprovenError(
        f"the answer from head {head.sequence} of {head.address} is {standing} only, and {required} is required"
        f"{attest}; proven: {standing.proven}; not proven: {standing.open}",
        hint="\n".join(hints),
    )


def _say_attesters(count: int) -> str:
    return "one peer attests it" if count == 1 else f"{count or 'no'} peers attest it, by network"
