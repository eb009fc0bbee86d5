"""How much is proven, and what is not: fraud proofs, audits, transitions, attestations. Walks, as everything below."""
