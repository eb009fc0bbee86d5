"""Equivocation: a publisher signs two heads with one sequence, and tells every second peer the other story.

Each answer is right for one of the two, for both are signed. But peers compare notes:
in the end every follower holds both signatures, which convict the publisher.
"""

from rhizome_index.simulation.cluster import Member
from rhizome_index.simulation.lies import Equivocator
from rhizome_index.simulation.scenario import Simulation, scenario


@scenario(peers=8, minutes=2, posts=60)
async def equivocation(sim: Simulation) -> None:
    strategy = Equivocator(sim.world.chance("equivocator"))
    publisher = await sim.publish(sim["posts"], strategy=strategy)
    followers: list[Member] = []
    for number in range(sim.peers):
        followers.append(await sim.peer(f"follower-{number}", met=[publisher, *followers[-2:]], follows=[publisher]))
    await sim.sleep(30)
    strategy.split(sim.cluster, publisher, sim.posts(publisher).more(3), sim.posts(publisher).more(4))
    told = sum(strategy.tells_other(member.peer_id) for member in followers)
    sim.measured["told_the_other_story"] = told
    await sim.sleep(60 * sim.minutes)
    for member in followers:
        await sim.ask(member, publisher)
    await sim.settle()
    unaware = [member.name for member in followers if member.running.peer.store.equivocation(publisher.dataset) is None]
    are_two = 0 < told < len(followers)  # else nobody was told anything else than anybody
    sim.expect("every follower holds the evidence", not unaware or not are_two, f"{', '.join(unaware)} do not")
