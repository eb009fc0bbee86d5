"""The protocols, sans-IO: bytes in, bytes and events out. Nothing here knows of sockets or time."""
