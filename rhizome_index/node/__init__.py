"""The rim: the only place that knows trio, libp2p and SQLite."""
