"""Slow disks: some who serve have disks that take their time for every read and sync.

Readers draw lots among all of them, by how they did: answers from the slow become
rare. Nobody may fall behind for good.
"""

from functools import partial

from rhizome_index.simulation.disks import Speed
from rhizome_index.simulation.report import percentiles
from rhizome_index.simulation.scenario import Simulation, scenario


@scenario(peers=6, minutes=1, posts=150, slow=3, sync_ms=400, read_ms=50, readers=4, asks=25)
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
    seconds: dict[bool, list[float]] = {True: [], False: []}

    async def read(number: int) -> None:
        reader = await sim.peer(f"reader-{number}", named=servers, place=sim.place(region="europe"))
        for _ in range(sim["asks"]):
            await sim.sleep(60 * sim.minutes / sim["asks"] * sim.chance.random())
            started = sim.world.now
            page = await sim.ask(reader, publisher)
            if page is not None and page.cost.peers:
                seconds[page.cost.peers[0] in slow].append(sim.world.now - started)
            sim.publish_more(publisher, 1)

    await sim.together([partial(read, number) for number in range(sim["readers"])])
    sim.measured["first_asked_slow"], sim.measured["first_asked_fast"] = len(seconds[True]), len(seconds[False])
    sim.measured["seconds_slow"], sim.measured["seconds_fast"] = percentiles(seconds[True]), percentiles(seconds[False])
    sim.measured["syncs"] = sum(member.host.disk.syncs for member in servers)
    sim.expect("everybody was answered", not sim.unanswered, f"{sim.unanswered} were not")
    await sim.settle()
