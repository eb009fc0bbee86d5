"""Heavy churn: peers come, go, are killed and lose power, the publisher among them.

Segments get lost, and connections break by themselves. A life lasts `life_seconds`
on average. Every fourth end is a good one, every fourth a kill, every fourth a loss
of power, and every fourth one in the midst of a write, which tears what was not
synced. Whatever was acknowledged must still be there, and when it is over all agree.
"""

from functools import partial

from rhizome_index.simulation.cluster import ENDS, Member
from rhizome_index.simulation.network import Weather
from rhizome_index.simulation.scenario import Simulation, scenario


@scenario(
    peers=6, minutes=2, weather=Weather(0.3, 0.01, 30.0), posts=60, life_seconds=25, pause_seconds=8, every_seconds=4
)
async def heavy_churn(sim: Simulation) -> None:
    publisher = await sim.publish(sim["posts"])
    members = [publisher]
    for number in range(sim.peers - 1):
        members.append(await sim.peer(f"follower-{number}", met=members[-4:], follows=[publisher]))
    end = 60 * sim.minutes
    ends = dict.fromkeys((*ENDS, "torn"), 0)

    async def live_and_die(member: Member) -> None:
        while True:
            await sim.sleep(sim["life_seconds"] * (0.5 + sim.chance.random()))
            if sim.world.now > end:
                return
            how = list(ends)[int(sim.chance.random() * len(ends))]
            ends[how] += 1
            if how == "torn":
                await tear(member)
            else:
                await sim.cluster.end(member, how)
            await sim.sleep(sim["pause_seconds"] * sim.chance.random())
            await sim.cluster.start(member, met=[other for other in members if other is not member][:4])
            await sim.ask(member, publisher)

    async def tear(member: Member) -> None:
        member.host.disk.fuse = int(sim.chance.random() * 12)
        if member is publisher:
            sim.publish_more(publisher, 5, edits=5)
        else:
            await sim.sleep(10)
        await sim.cluster.kill(member, power=True)

    async def go_on() -> None:
        while sim.world.now < end:
            await sim.sleep(sim["every_seconds"])
            if publisher.is_alive and publisher.host.disk.fuse is None:
                sim.publish_more(publisher, 2, edits=2)

    await sim.together([go_on, *(partial(live_and_die, member) for member in members)])
    sim.measured["ends"] = ends
    await sim.settle()
