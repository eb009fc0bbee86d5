"""The tables of a store, version by version, and what a row of heads is worth after damage to the file."""

from __future__ import annotations

from contextlib import suppress

from rhizome_index.errors import IntegrityError
from rhizome_index.index.head import Head, open_head

# Each brings a store of the version before it to the next one.
SCHEMAS = (
    """
create table blocks (id integer primary key, digest blob not null unique, data blob not null);
create table damaged (digest blob primary key) without rowid;
create table heads (
    dataset text not null, sequence integer not null, manifest blob not null, envelope blob not null,
    primary key (dataset, sequence, envelope)
) without rowid;
create index heads_by_manifest on heads (manifest);
""",
    """
create table follows (dataset text primary key, policy blob not null) without rowid;
create table held (dataset text primary key, envelope blob not null) without rowid;
create table peers (
    address text primary key, peer_id text not null, seen_seconds real not null
) without rowid;
create table providers (
    dataset text not null, peer_id text not null, seen_seconds real not null, primary key (dataset, peer_id)
) without rowid;
""",
    """
create table signed (dataset text primary key, sequence integer not null) without rowid;
insert into signed select dataset, max(sequence) from heads group by dataset;
""",
    """
create table frauds (
    manifest blob primary key, dataset text not null, sequence integer not null, verdict text not null,
    proof blob not null
) without rowid;
""",
    """
create table delegations (
    key blob not null, dataset text not null, delegation blob not null, primary key (key, dataset)
) without rowid;
alter table heads add column disowned integer not null default 0;
""",
    """
create table proven (
    id integer primary key, derivation blob not null, level integer not null, dataset text not null,
    found blob not null, unique (derivation, level)
);
create index proven_by_dataset on proven (dataset, id);
""",
    """
alter table signed add column digest blob;
""",
    """
create table attestations (
    id integer primary key, given blob not null, peer_id text not null, derivation blob not null, word blob not null,
    unique (given, peer_id, derivation)
);
create table liars (peer_id text primary key, manifest blob not null) without rowid;
""",
    """
create index peers_by_id on peers (peer_id);
alter table heads add column heard integer not null default 0;
update heads set heard = 1
    where dataset in (select dataset from held) and envelope not in (select envelope from held);
""",
    """
create index providers_by_time on providers (dataset, seen_seconds desc, peer_id);
""",
    """
create table pins (
    dataset text not null, sequence integer not null, manifest blob not null, envelope blob not null,
    primary key (dataset, sequence, envelope)
) without rowid;
create table cached (digest blob primary key, bytes integer not null, used integer not null) without rowid;
create index cached_by_use on cached (used, digest);
create table settings (name text primary key, value) without rowid;
""",
    """
create table contradicted (dataset text primary key) without rowid;
insert into contradicted select distinct dataset from
    (select dataset from heads group by dataset, sequence having count(distinct manifest) > 1);
create trigger heads_contradict after insert on heads when exists (
    select 1 from heads where dataset = new.dataset and sequence = new.sequence and manifest is not new.manifest
) begin insert or ignore into contradicted values (new.dataset); end;
create index heads_disowned on heads (dataset) where disowned;
""",
)


def _datasets(condition: str) -> str:
    """Every dataset of which there are heads, in order, without looking at all of its heads."""
    return f"""
with recursive names(name) as (
    select min(dataset) from heads where {condition}
    union all select (select min(dataset) from heads where dataset > name and {condition}) from names
        where name is not null
)
select cast(name as blob) from names where name is not null
"""


DATASETS = _datasets("true")
DATASETS_BETWEEN = _datasets("dataset >= ?1 and dataset < ?2")

# Whether heads of a dataset may contradict each other.
CONTRADICTED = """
select 1 from contradicted where dataset = ?1 union all select 1 from heads where dataset = ?1 and disowned limit 1
"""

# As bytes, whatever a damaged file says they are.
HEAD_COLUMNS = "cast(dataset as blob), cast(sequence as integer), cast(manifest as blob), cast(envelope as blob)"


def open_row(dataset: bytes, sequence: int, manifest: bytes, envelope: bytes) -> Head:
    """The head of a row of HEAD_COLUMNS. Raises IntegrityError unless it is signed and says what the row says."""
    with suppress(IntegrityError):
        head = open_head(envelope or b"")
        if (str(head.address).encode(), head.sequence, head.manifest) == (dataset, sequence, manifest):
            return head
    raise IntegrityError(
        f"a head of {str(dataset or b'', 'utf-8', 'replace')} in the store is damaged",
        hint="set it aside and bring it again: rhizome scrub --peer /ip4/.../tcp/.../p2p/...",
    )
