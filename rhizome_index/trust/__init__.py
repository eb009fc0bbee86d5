"""How much is proven, and what is not: fraud proofs, audits, transitions. Walks, as everything below."""
