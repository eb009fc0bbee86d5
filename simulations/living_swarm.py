"""A living swarm: peers join, ask, follow, go without a word and come back, as people with laptops do.

They join within the first fifth of the time, knowing a few who are there. Every other
one follows the publisher; the others only ask. A life lasts `life_seconds` on average,
short lives being the most frequent, and ends in good order, by a kill, or by a loss of
power; after some time, `pause_seconds` on average, the peer is back, with what its disk
has kept. The publisher comes and goes as all do. As large as the machine allows:

    rhizome simulate living_swarm --peers 1000 --minutes 10
"""

from functools import partial

from rhizome_index.simulation.cluster import ENDS, Member
from rhizome_index.simulation.network import Weather
from rhizome_index.simulation.scenario import Simulation, scenario
from rhizome_index.simulation.workload import draw, some
from rhizome_index.simulation.world import exponential

_KNOWN = 4  # peers that somebody who joins knows


@scenario(
    peers=12,
    minutes=3,
    weather=Weather(0.2, 0.002, 1.0),
    posts=100,
    life_seconds=900,
    pause_seconds=30,
    asks_seconds=60,
    every_seconds=30,
)
async def living_swarm(sim: Simulation) -> None:
    publisher = await sim.publish(sim["posts"])
    end = 60 * sim.minutes
    ends = dict.fromkeys(ENDS, 0)

    def about(seconds: float) -> float:
        return seconds * exponential(sim.chance.random())

    def known() -> list[Member]:
        return some(sim.chance, sim.cluster.running(), _KNOWN)

    async def live(member: Member) -> None:
        while True:
            over = min(end, sim.world.now + about(sim["life_seconds"]))
            while (next_at := sim.world.now + about(sim["asks_seconds"])) < over:
                await sim.sleep_until(next_at)
                await sim.ask(member, publisher)
            await sim.sleep_until(over)
            if sim.world.now >= end:
                return
            how = draw(sim.chance, list(ends))
            ends[how] += 1
            await sim.cluster.end(member, how)
            await sim.sleep(about(sim["pause_seconds"]))
            await sim.cluster.start(member, met=known())

    async def join(number: int) -> None:
        await sim.sleep(end / 5 * sim.chance.random())
        follows = [publisher] if number % 2 else []
        await live(await sim.peer(f"peer-{number}", met=known(), follows=follows))

    async def go_on() -> None:
        while sim.world.now < end:
            await sim.sleep(sim["every_seconds"])
            if publisher.is_alive:
                sim.publish_more(publisher, 2, edits=2)

    await sim.together([go_on, partial(live, publisher), *(partial(join, number) for number in range(sim.peers - 1))])
    sim.measured["ends"] = ends
    asked = len(sim.answers) + sim.unanswered
    if sim.peers >= 10:  # of fewer sometimes nobody is there
        sim.expect(
            "99 of 100 questions were answered", sim.unanswered <= asked // 100, f"{sim.unanswered} of {asked} not"
        )
    await sim.settle()
