"""From a suspicion to a proof that is kept: the walk that judges it, over what is here and what peers have."""

from __future__ import annotations

from rhizome_index.errors import IntegrityError, RemoteError
from rhizome_index.index.head import Head
from rhizome_index.index.write import RecordWalk
from rhizome_index.node.disk import DiskStore
from rhizome_index.node.fetch import Fetcher
from rhizome_index.node.frauds import Frauds
from rhizome_index.node.gather import Gatherer
from rhizome_index.trust.evidence import Fraud, accuse
from rhizome_index.trust.fraud import Claim, judge


async def find_fraud(
    store: DiskStore, fetcher: Fetcher | None, head: Head, search: RecordWalk[Claim | None]
) -> Fraud | None:
    """The proof of what a search finds wrong with a head, kept from now on; None if it finds nothing to prove.

    Raises UnavailableError for a block that nobody has, RemoteError if all peers lied.
    """
    gatherer = Gatherer(store, fetcher)
    claim: Claim | None = await gatherer.run(search)
    if claim is None:
        return None
    manifest_bytes, manifest = await gatherer.manifest(head.manifest)
    proving = Gatherer(store, fetcher, proving=True)
    try:
        await proving.run(judge(manifest, claim))
        fraud = accuse(head, claim, manifest_bytes, list(proving.touched.values()))
    except RemoteError:
        raise
    except IntegrityError:  # it is not so
        return None
    Frauds(store).keep(fraud)
    return fraud
