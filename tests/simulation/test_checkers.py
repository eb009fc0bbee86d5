"""What checkers look at. That they find what is wrong in the node, `test_planted.py` shows."""

from __future__ import annotations

from dataclasses import replace

from rhizome_index.api import Page
from rhizome_index.node.cost import Cost
from rhizome_index.simulation.checkers import AnswersAreRight, Checker, HeadsConverge, NoWrongRow
from rhizome_index.simulation.scenario import Simulation
from rhizome_index.simulation.workload import tagged
from rhizome_index.trust.ladder import PROVEN, Standing
from tests.simulation.play import play


def checker_of(sim: Simulation, kind: type[Checker]) -> Checker:
    return next(checker for checker in sim.checkers if isinstance(checker, kind))


def test_wrong_rows_before_an_answer_failed() -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(30)
        head = publisher.running.peer.catalog[publisher.dataset]
        question = tagged("photography", 3)
        right = question.answer(sim.model.records(head))
        assert isinstance(right, list)
        checker = checker_of(sim, NoWrongRow)
        checker.on_rows(publisher, question, publisher.dataset, head, right[:2])
        assert checker.verdict().holds and checker.checked == 2
        checker.on_rows(publisher, question, publisher.dataset, head, right[1:2])
        assert not checker.verdict().holds

    assert {verdict.promise for verdict in play(main).verdicts if not verdict.holds} == {NoWrongRow.promise}


def test_right_rows_of_the_wrong_dataset() -> None:
    async def main(sim: Simulation) -> None:
        publisher, other = await sim.publish(5), await sim.publish(5, "other")
        head = publisher.running.peer.catalog[publisher.dataset]
        question = tagged("photography", 3)
        rows = question.answer(sim.model.records(head))
        assert isinstance(rows, list)
        page = Page(rows, len(rows), "L1", Standing(PROVEN), None, head, Cost())
        checker = checker_of(sim, AnswersAreRight)
        checker.on_answer(other, question, publisher.dataset, page)
        assert checker.verdict().holds
        checker.on_answer(other, question, publisher.dataset, replace(page, head=replace(head, sequence=2)))
        assert checker.verdict().holds  # the same signed head, whatever it was taken for
        checker.on_answer(other, question, other.dataset, page)
        assert not checker.verdict().holds

    assert {verdict.promise for verdict in play(main).verdicts if not verdict.holds} == {AnswersAreRight.promise}


def test_what_a_member_was_told_to_follow_is_not_asked_of_it() -> None:
    async def main(sim: Simulation) -> None:
        publisher = await sim.publish(5)
        follower = await sim.peer("follower", met=[publisher], follows=[publisher])
        follower.running.unfollow(publisher.dataset)
        await sim.sleep(10)
        sim.publish_more(publisher, 1)
        await sim.settle()
        await sim.sleep(10)

    assert {verdict.promise for verdict in play(main).verdicts if not verdict.holds} == {HeadsConverge.promise}
