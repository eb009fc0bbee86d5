"""Tables, lookups and records: whoever is nearest is found, and nobody can make us ask or keep more than we want."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from rhizome_index.index.address import peer_id_of
from rhizome_index.limits import (
    KAD_ASKED_MAX,
    KAD_BUCKET_MAX,
    KAD_HEARD_MAX,
    KAD_PEERS_MAX,
    KAD_RECORD_SECONDS,
    KAD_RECORDS_MAX,
)
from rhizome_index.wire.kad import Contact
from rhizome_index.wire.kademlia import CLOSEST, Lookup, Table, place_of, place_of_peer
from rhizome_index.wire.provided import Provided


def peer(number: int) -> Contact:
    name = peer_id_of(number.to_bytes(32, "big"))
    return Contact(name, (f"/ip4/10.0.0.1/tcp/1/p2p/{name}",))


PEERS = [peer(number) for number in range(300)]


def nearest(place: int, contacts: list[Contact]) -> list[Contact]:
    return sorted(contacts, key=lambda contact: place_of_peer(contact.peer_id) ^ place)[:CLOSEST]


def run(lookup: Lookup, tables: dict[str, Table], place: int) -> int:
    asked = 0
    while contact := lookup.next():
        asked += 1
        if contact.peer_id in tables:
            lookup.take(contact.peer_id, tables[contact.peer_id].closest(place))
        else:
            lookup.fail(contact.peer_id)
    return asked


@given(st.integers(0, 2**32))
def test_a_lookup_finds_the_nearest_of_all(seed: int) -> None:
    chance = random.Random(seed)
    place = place_of(seed.to_bytes(8, "big"))
    tables = {contact.peer_id: Table(contact.peer_id) for contact in PEERS}
    for table in tables.values():
        for contact in chance.sample(PEERS, 100):
            table.note(contact)
    for contact in PEERS:  # as whoever has looked for its own place knows
        for near in nearest(place_of_peer(contact.peer_id), PEERS):
            tables[contact.peer_id].note(near)
    lookup = Lookup(place, chance.sample(PEERS, 2), "nobody")
    assert run(lookup, tables, place) <= KAD_ASKED_MAX
    found, wanted = lookup.nearest(), nearest(place, PEERS)
    assert len(set(found) & set(wanted)) >= CLOSEST - 4 and found[0] == wanted[0]


def test_a_table_keeps_who_was_there_first_and_no_more_than_its_buckets() -> None:
    table = Table(PEERS[0].peer_id)
    assert not table.note(PEERS[0]) and not table.note(Contact(PEERS[1].peer_id))
    far = [other for other in PEERS[1:] if (place_of_peer(other.peer_id) ^ place_of_peer(PEERS[0].peer_id)) >> 255]
    for contact in far[:KAD_BUCKET_MAX]:
        assert table.note(contact)
    assert not table.note(far[KAD_BUCKET_MAX]) and len(table) == KAD_BUCKET_MAX
    assert table.note(far[0])
    table.drop(far[0].peer_id)
    assert far[0].peer_id not in table and table.note(far[KAD_BUCKET_MAX])


def test_a_table_has_room_for_who_is_in_it_and_where_a_bucket_is_not_full() -> None:
    table = Table(PEERS[0].peer_id)
    far = [other for other in PEERS[1:] if (place_of_peer(other.peer_id) ^ place_of_peer(PEERS[0].peer_id)) >> 255]
    for contact in far[: KAD_BUCKET_MAX - 1]:
        table.note(contact)
    assert table.has_room(far[KAD_BUCKET_MAX].peer_id)
    table.note(far[KAD_BUCKET_MAX - 1])
    assert not table.has_room(far[KAD_BUCKET_MAX].peer_id) and table.has_room(far[0].peer_id)


def test_a_lookup_ends_as_soon_as_enough_of_the_nearest_have_answered() -> None:
    place = place_of(b"target")
    ranked = sorted(PEERS, key=lambda contact: place_of_peer(contact.peer_id) ^ place)
    lookup = Lookup(place, ranked[2:30], "nobody", enough=3)
    asked = []
    while contact := lookup.next():
        asked.append(contact)
        if contact == ranked[3]:
            lookup.fail(contact.peer_id)
        else:
            lookup.take(contact.peer_id, ranked[:1])
    assert asked == [ranked[2], ranked[0], ranked[3], ranked[4]] and lookup.nearest() == [
        ranked[0], ranked[2], ranked[4]
    ]  # fmt: skip


def test_whoever_names_peers_that_are_not_there_is_believed_last() -> None:
    place = place_of(b"target")
    ranked = sorted(PEERS, key=lambda contact: place_of_peer(contact.peer_id) ^ place)
    made_up, honest, liar, friend = ranked[:CLOSEST], ranked[100:110], ranked[200], ranked[201]
    lookup = Lookup(place, [liar, friend], "nobody")
    assert lookup.next() == liar
    lookup.take(liar.peer_id, made_up)
    asked = [lookup.next() for _ in range(3)]
    for contact in asked:
        assert contact in made_up
        lookup.fail(contact.peer_id)
    assert lookup.next() == friend
    lookup.take(friend.peer_id, honest)
    assert [lookup.next() for _ in honest] == honest


def test_a_lookup_asks_and_hears_no_more_than_it_wants() -> None:
    tables = {contact.peer_id: Table("nobody") for contact in PEERS}
    place = place_of(b"target")
    lookup = Lookup(place, PEERS[:2], "nobody")
    ranked = sorted(PEERS, key=lambda contact: place_of_peer(contact.peer_id) ^ place, reverse=True)
    asked = 0
    while contact := lookup.next():  # each answer names one who is nearer still
        asked += 1
        lookup.take(contact.peer_id, ranked[4 * asked : 4 * asked + 4])
    assert asked == KAD_ASKED_MAX and tables
    flooded = Lookup(place, PEERS[:KAD_HEARD_MAX], "nobody")
    flooded.take(PEERS[0].peer_id, PEERS[KAD_HEARD_MAX:])
    assert run(flooded, {}, place) == KAD_ASKED_MAX


def test_we_are_not_asked_ourselves() -> None:
    lookup = Lookup(0, [PEERS[0], PEERS[1]], PEERS[0].peer_id)
    assert lookup.next() == PEERS[1] and lookup.next() is None


def test_records_expire_and_the_newest_come_first() -> None:
    provided = Provided()
    provided.add(b"k", PEERS[0], 0.0)
    provided.add(b"k", PEERS[1], 1.0)
    assert provided.providers(b"k", 2.0) == (PEERS[1], PEERS[0])
    provided.add(b"k", PEERS[0], 3.0)
    assert provided.providers(b"k", 3.0) == (PEERS[0], PEERS[1])
    assert provided.providers(b"k", 1.0 + KAD_RECORD_SECONDS) == (PEERS[0],)
    provided.expire(3.0 + KAD_RECORD_SECONDS)
    assert len(provided) == 0


def test_providers_of_one_key_at_the_limit_and_one_past_it() -> None:
    provided = Provided()
    for number in range(KAD_PEERS_MAX + 1):
        provided.add(b"k", PEERS[number], 0.0)
    found = provided.providers(b"k", 0.0)
    assert len(found) == KAD_PEERS_MAX and PEERS[0] not in found


def test_records_at_the_limit_and_one_past_it_cost_whoever_has_most() -> None:
    provided = Provided()
    provided.add(b"honest", PEERS[0], 0.0)
    for number in range(KAD_RECORDS_MAX):
        provided.add(number.to_bytes(4, "big"), PEERS[1], 0.0)
    assert len(provided) == KAD_RECORDS_MAX
    assert provided.providers(b"honest", 0.0) == (PEERS[0],)
    assert not provided.providers(bytes(4), 0.0) and provided.providers((1).to_bytes(4, "big"), 0.0) == (PEERS[1],)
