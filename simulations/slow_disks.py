"""Slow disks: some who serve have disks that take their time for every read and sync.

Readers draw lots among all of them, by how they did: answers from the slow become
rare. Nobody may fall behind for good.
"""

from functools import partial

from rhizome_index.simulation.disks import Speed
from rhizome_index.simulation.scenario import Simulation, scenario


@scenario(peers=8, minutes=2, posts=150, slow=4, sync_ms=80, read_ms=15, readers=4, asks=12)
async def slow_disks(sim: Simulation) -> None:
    publisher = await sim.publish(sim["posts"])
    slow_speed = Speed(sim["read_ms"] / 1000, sim["read_ms"] / 1000, sim["sync_ms"] / 1000)
    servers = []
    for number in range(sim.peers):
        is_slow = number < sim["slow"]
        name = f"slow-{number}" if is_slow else f"fast-{number}"
        speed = slow_speed if is_slow else None
        place = sim.place(region="europe")
        servers.append(await sim.peer(name, met=[publisher], follows=[publisher], speed=speed, place=place))
    await sim.sleep(30)
    slow = {member.peer_id for member in servers[: sim["slow"]]}
    asked: list[bool] = []

    async def read(number: int) -> None:
        reader = await sim.peer(f"reader-{number}", named=servers, place=sim.place(region="europe"))
        for _ in range(sim["asks"]):
            await sim.sleep(60 * sim.minutes / sim["asks"] * sim.chance.random())
            page = await sim.ask(reader, publisher)
            if page is not None and page.cost.peers:
                asked.append(page.cost.peers[0] in slow)
            sim.publish_more(publisher, 1)

    await sim.together([partial(read, number) for number in range(sim["readers"])])
    half = len(asked) // 2
    sim.measured["asked_slow_in_first_half"] = sum(asked[:half])
    sim.measured["asked_slow_in_second_half"] = sum(asked[half:])
    sim.expect("everybody was answered", not sim.unanswered, f"{sim.unanswered} were not")
    await sim.settle()
