"""Every bound, with its reason. Sizes are in bytes unless a name says otherwise.

A bound that faces peers is checked before anything is allocated or decoded.
"""

# --- blocks and trees ---
TREE_BLOCK_BYTES_MAX = 64 * 1024  # one chunk fits one message; honest chunks stay near MAX_WEIGHT
RECORD_BYTES_MAX = 1024 * 1024  # larger things are referred to by CID: a row must stay cheap to prove
KEY_BYTES_MAX = 1024  # keys are repeated in inner nodes; long ones would ruin the fan-out
INLINE_VALUE_BYTES_MAX = 2048  # a chunk must hold several entries, or sharing between versions is lost
NODE_ENTRIES_MAX = 2048  # the greatest MAX_WEIGHT over the smallest weight of 16
TREE_HEIGHT_MAX = 32  # the mean fan-out is above 50; but of keys of 1 KiB under the least MAX it is 2
MAX_WEIGHT_DEFAULT = 8192  # mean chunk of 4 KiB: one read, one packet train, little to rewrite
MAX_WEIGHT_RANGE = (4096, 32768)  # below, one entry may not fit; above, chunks outgrow a message
SALT_BYTES_MAX = 32  # of a rule: as much as can be unpredictable
RECORD_DEPTH_MAX = 32  # deeper documents are an attack on recursive readers
RECORD_TEXT_BYTES_MAX = 2 * 1024 * 1024  # of JSON: a record takes at most 1 MiB; with escapes perhaps twice that
CAR_HEADER_BYTES_MAX = 4096  # a CAR file's header names its roots, of which ours have one

# --- datasets ---
MANIFEST_BYTES_MAX = 64 * 1024  # opens every cold answer
COLLECTIONS_MAX = 256  # so that a manifest stays within its bytes
INDEXES_MAX = 64  # per collection; each costs every write
INDEX_PATHS_MAX = 8  # a longer key exceeds KEY_BYTES_MAX sooner than it helps
INDEX_ELEMENTS_MAX = 1024  # entries that one record may put into one index
WORD_LETTERS_MAX = 64  # of a word, in an index of words: longer ones are no language's
NAME_BYTES_MAX = 64  # dataset, collection and index names
PATH_BYTES_MAX = 256  # a dotted path
HEAD_BYTES_MAX = 1024  # a signed envelope with its head inside
DELEGATIONS_MAX = 6  # from the first key of a dataset to the one that signs: as many as a head has room for
DURATION_SECONDS_MAX = 100 * 366 * 86400  # that a head may hold: nobody plans further ahead
RENEWAL_FRACTION = 1 / 2  # of a head's time, after which a running node signs anew: room for it to be off
CLOCK_SKEW_SECONDS_MAX = 24 * 3600  # a head from further in the future is not believed

# --- queries ---
QUERY_TEXT_BYTES_MAX = 16 * 1024  # typed by people
QUERY_TOKENS_MAX = 2048  # words and signs of a query in text: each takes about 10 microseconds to read
QUERY_BYTES_MAX = 16 * 1024  # an encoded query or plan
QUERY_TERMS_MAX = 64  # conditions in one query
QUERY_DEPTH_MAX = 16  # nesting of conditions
IN_VALUES_MAX = 256  # values in one `in`
PLAN_PAIRS_MAX = 28  # intersections of two that are weighed: of eight access paths all
PLAN_ARMS_MAX = 64  # access paths in one plan: each holds a way down its tree
ROWS_MAX = 1_000_000  # rows of one query, over all its pages
CURSOR_BYTES_MAX = 4096  # a key, two digests and change
CANDIDATES_MAX = 512  # ways to answer one query that are weighed: more say nothing new
SCAN_FREE_ENTRIES = 2000  # a full scan this small costs less than asking for permission
ROWS_BATCH = 64  # records needed at once while walking: large enough to batch, small enough not to overshoot
WEIGHED_BLOCKS_MAX = 512  # of each level looked for before an answer; what is beyond is taken to be like those
PATHS_SEEN_MAX = 256  # paths that are noted of the records looked at: more than anybody types
VALUES_SEEN_MAX = 64  # values of a path that are offered, or compared with a slip: two screens
VALUES_LEAVES_MAX = 16  # leaves read for them: some 60 kB
ROWS_HINTED_BY = 16  # first rows that are looked at for what is nowhere: enough to see it somewhere
HISTORY_BYTES_MAX = 256 * 1024  # of lines typed in the shell: some thousand, of which the newer half is kept then
HINTS_SECONDS = 2.0  # for what may have been meant to be looked for at peers: the answer itself is there
HINTS_MAX = 3  # said of one answer: who reads more finds the slip without
LIVE_ROWS_MAX = 100_000  # a query that is watched holds its rows, each up to a whole record

# --- trust ---
FRAUD_BYTES_MAX = 4 * 1024 * 1024  # blocks of a fraud proof: two ways down the highest of trees, and a record
PROVEN_MAX = 4096  # derivations that are remembered of a dataset: a manifest has room for some 600, so its last heads
ATTESTATION_BYTES_MAX = 512  # a key, a digest, a tree, eight numbers and a signature are some 350
ATTESTERS_MIN = 2  # one peer's word says no more than the publisher's own
ATTESTERS_WANTED = 3  # on as many networks, unless who asks says otherwise
ATTESTERS_ASKED_MAX = 16  # peers that are asked what they attest: each has to be dialled
ATTESTATIONS_KEPT_MAX = 65_536  # over all datasets, some 20 MB; the oldest go first
AUDIT_SAMPLES_MAX = 100_000  # in each direction: beyond that following costs less, and shows all
AUDIT_BATCH = 256  # samples looked at together: what the largest of records give in an index is 1 MiB each
AUDIT_CUTS = 16  # leaves judged by their neighbours too: a tree that is cut otherwise is so in most places
CARRY_HEADS_MAX = 64  # heads looked back for one that is proven: from further off too much has changed

# --- wire ---
FRAME_BYTES_MAX = 64 * 1024  # one yamux frame; larger blocks travel in parts
FRAME_PAYLOAD_BYTES = 60 * 1024  # what we put in one frame, leaving room for the message around it
PROOF_BYTES_MAX = 4 * 1024 * 1024  # one answer; the walk pauses there and is resumed
ASK_ROWS_MAX = 1000  # rows one answer may carry before it pauses
ASK_ENTRIES_MAX = 20_000  # entries one answer may scan before it pauses: bounds the answering peer's work
WANTS_MAX = 1024  # names in one want
IN_FLIGHT_BYTES_MAX = 8 * PROOF_BYTES_MAX  # budgets of the requests under way on a stream: what one peer makes us hold
BUDGET_COUNTED_MIN = 32 * 1024  # smaller budgets count as this: 1,024 requests at once
HEADS_DATASETS_MAX = 256  # datasets asked about at once
PROVIDERS_MAX = 16  # providers named for one dataset
ADDRESS_BYTES_MAX = 512  # of one provider; multiaddrs with names and certificates' hashes are below
ERROR_TEXT_MAX = 500  # letters of what a peer says for people
SYNC_DELTA_BYTES_MAX = 8 * 1024 * 1024  # changes brought one by one; more than that comes as chunks, which resume
SAVED_PROOF_BYTES_MAX = 64 * PROOF_BYTES_MAX  # blocks of a saved answer, which is checked as a whole
SEGMENTS_MAX = 4096  # times one query is resumed before we call it endless

# --- node ---
ASK_TIMEOUT_SECONDS = 30.0  # a peer that has not finished one answer by then is given up, unless it is on its way:
ANSWER_BYTES_PER_SECOND_MIN = 16 * 1024  # each so many bytes win a second more: a slow line is no stalled peer
ANSWER_SECONDS_MAX = 300.0  # and then it is over: more than PROOF_BYTES_MAX takes at that rate
ANSWER_SILENCE_SECONDS = 3.0  # a peer that says nothing for so long is passed over, as long as there are others
BUFFERED_BLOCK_BYTES = 512 * 1024  # blocks made here in memory until written at once
FETCH_JOB_BYTES = 256 * 1024  # expected of what is asked of one peer at once, so that a bad peer costs little
FETCH_JOB_WANTS = 64  # blocks in it, where nothing is known of their sizes: that of chunks
PART_LEAVES = 256  # of an index, wanted together: a megabyte, a few jobs for each of some peers
FETCH_JOBS_PER_PEER = 2  # one is on its way while the other is asked for
FETCH_LATE_SECONDS = 1.0  # until some job has shown how long one takes
DIALS_AT_ONCE_MAX = 8  # of one peer: home routers choke on more
PROVIDERS_WANTED = 4  # connected providers of a dataset, before more are looked for
DRAWN_AMONG = 2 * PROVIDERS_MAX  # of those not connected: what two peers tell; the others were seen longer ago
DRAWN_SECONDS = 600.0  # until others are drawn among the providers that are known: newcomers have their turn
REACH_SECONDS = 1.0  # for more of them to be reached, as soon as one is connected: the others may be gone
ABSENT_SECONDS = 30.0  # until a provider that could not be reached is dialled again, as long as others are there
HEADS_ASKED = 3  # providers asked for the newest head: one may be behind
NOTED_SECONDS = 60.0  # until it is noted again that somebody serves a dataset: whom we hear of, we hear of often
HEADS_PULL_SECONDS = 30.0  # between pulls of heads; hints come at once
READERS_MET_SECONDS = 5.0  # between looks for who serves what we publish: a crowd comes within a minute
READERS_AGAIN_SECONDS = 600.0  # until who reads here is asked again what it serves
RETRY_SECONDS = 1.0  # after a first failure; doubled after each more, up to the pull
BEHIND_TRIES = 5  # for a head that was heard of, before that doubles: it comes from peer to peer, a second or so each
RENEWALS_SECONDS = 30.0  # between looks at which heads of ours are to be signed anew
LISTENERS_WATCH_SECONDS = 5.0  # between looks at where we can be reached: networks come and go with people
LOG_AGAIN_SECONDS = 60.0  # before a library may warn of the same thing again
LIVE_LOOK_SECONDS = 0.25  # between looks for the next head of a query that is watched, where it comes to us
LIVE_PULL_SECONDS = 2.0  # the same where a peer has to be asked: a small question
QUOTA_BYTES_DEFAULT = 10_000_000_000  # of what is kept of others: a small part of a disk of these days
QUOTA_BYTES_MIN = 1_000_000  # less is a slip of the pen: a single answer may take more
QUOTA_BYTES_MAX = 10**15  # a petabyte; more is no quota
STORE_BYTES_EMPTY = 320_000  # of a store's file with nothing in it: a page of 16 KiB for nearly each table and index
QUOTA_SLACK = 1 / 8  # of the quota: what queries may leave beyond it, until room is made
QUOTA_GROWTH = 1 / 16  # of the quota: what has to come before a store that could not be made smaller is looked at again
USES_NOTED_MAX = 65_536  # blocks that were used, before they are noted or forgotten: some 6 MB
USES_IN_MEMORY_MAX = 262_144  # blocks that a sync uses, say, before a file remembers them: some 25 MB
USES_NOTED_SECONDS = 5.0  # between notes of what was used: each is a small write
COLLECT_LOOK_SECONDS = 0.1  # between looks at whether other processes have left the store
COLLECT_AGAIN_SECONDS = 60.0  # until a collection is tried again that has failed
MAKE_ROOM_SECONDS = 1.0  # for a command that has an answer already; what takes longer is for a node, or `rhizome gc`
LOCK_WAIT_SECONDS = 5.0  # for whoever frees blocks, a step of which takes milliseconds; then it is a gc without a node
LOCK_LOOK_SECONDS = 0.005  # between looks at whether that step is over
STORE_WATCH_SECONDS = 1.0  # between looks at what other processes of this home have written
SYNCS_AT_ONCE_MAX = 4  # datasets on their way here; each holds a few MiB
DIAL_TIMEOUT_SECONDS = 10.0  # people wait no longer for an address
ANSWERS_AT_ONCE_MAX = 64  # over all peers; each holds one frame and one open walk
ANSWERS_PER_PEER_MAX = 16  # of those, on all its streams: what it asks beyond stays unread until one is done
HELD_UP_SECONDS = 0.25  # an answer that waits so long for its reader makes room: a frame takes that at 2 Mbit/s
TURN_TIMEOUT_SECONDS = 5.0  # who has no place among all answers by then is told to ask somebody else
RECORDS_REMEMBERED_MAX = 4096  # checks of records remembered for each of 16 indexes: about 1 KiB each
LOG_PAGES_MAX = 1000  # then SQLite's log is written back into the file: 16 MiB
PLANS_REMEMBERED_MAX = 256  # choices for queries that come again; then all are forgotten
CHUNK_CACHE_BYTES = 64 * 1024 * 1024  # chunks kept in memory, in encoded bytes; decoded they take about four times that
SORT_BYTES_MAX = 256 * 1024 * 1024  # pairs sorted in memory, over one import's sorters, before they are spilled to disk

# --- private keys ---
KEYS_MAX = 255  # in one file: a byte counts them, and nobody replaces a key so often
PASSPHRASE_BYTES_MAX = 1024  # more is a file given by mistake
SCRYPT_LOG2_N = 17  # 128 MiB and a third of a second for each guess: as much as the smallest machines have to spare
SCRYPT_LOG2_N_RANGE = (14, 20)  # below, guessing is cheap; above, opening fails for want of memory, or looks stuck
SCRYPT_R = 8  # as RFC 7914 and everybody has it: a block of 1 KiB, so memory is what a guess costs
SCRYPT_R_MAX = 32  # more only makes a damaged file expensive
SCRYPT_P = 1  # more takes time without memory, which is cheap for whoever guesses in hardware
SCRYPT_P_MAX = 16  # likewise: more only makes a damaged file expensive
SCRYPT_BYTES_MAX = 1024 * 1024 * 1024  # 128 * n * r of a file to be opened

# --- gossip ---
GOSSIP_TOPICS_MAX = 512  # datasets whose heads are heard of by gossip, and topics noted of a peer; others are pulled
GOSSIP_SEEN_MAX = 4096  # messages remembered: more than go round while one does
GOSSIP_ID_BYTES_MAX = 64  # of a message's name: a peer id of 34 or 38 and a sequence number of 8
GOSSIP_IDS_MAX = 64  # messages told of, or asked for, at once: of a dataset only the newest matters
GOSSIP_QUEUE_MAX = 2 * GOSSIP_TOPICS_MAX  # things to say to one peer: what subscribing to all topics takes
GOSSIP_BYTES_PER_SECOND = 64 * 1024  # read of one peer: a hundred heads a second, which is more than anybody needs,
GOSSIP_BYTES_AT_ONCE = 128 * 1024  # after it has been quiet: subscribing to all topics takes half of that
GOSSIP_CHECKS_PER_SECOND = 10.0  # messages of one peer whose signatures are checked, at half a millisecond each,
GOSSIP_CHECKS_AT_ONCE = 64  # after it has been quiet: many publishers may be heard of through one peer
GOSSIP_PAUSE_SECONDS = 0.25  # between heads of one dataset that we tell of: the newest counts
GOSSIP_HEADS_AT_ONCE = 16  # of one dataset, kept and passed on after it has been quiet: messages may bunch up
GOSSIP_AGAIN_SECONDS = 30.0  # until a peer is spoken to again that did not read

# --- provider records ---
KAD_BUCKET_MAX = 20  # peers at one distance in the table, and those told of a provider: Kademlia's k
KAD_PEERS_MAX = 20  # of each sort in one message, and providers kept for one dataset: as many as are any help
KAD_ADDRESSES_MAX = 4  # of one peer: an old and a new internet, TCP and WebSocket
KAD_KEY_BYTES_MAX = 80  # of a key: a multihash of 34 bytes, or a peer id
KAD_PEER_ID_BYTES_MAX = 64  # the longest peer ids there are have 44
KAD_HEARD_MAX = 256  # peers heard of in one lookup: of each reply some are new
KAD_ASKED_MAX = 60  # peers asked in one lookup: three times the nearest, however many are named
KAD_AT_ONCE = 4  # of them: one that is gone must not hold up the others
KAD_ANSWER_SECONDS = 3.0  # for one of them to be reached and to answer: there are others
KAD_LOOKUP_SECONDS = 10.0  # for a lookup: nobody waits longer to hear who serves a dataset
KAD_LINGER_SECONDS = 1.5  # a connection made for one question is held: the peer may want to know where we are
KAD_RECORDS_MAX = 20_000  # kept for others: some 400 bytes each
KAD_RECORD_SECONDS = 3 * 3600.0  # until a record expires: laptops come and go with the day
KAD_ANNOUNCE_SECONDS = 3600.0  # between announcements of a dataset: two may be lost
KAD_ANNOUNCED_MAX = 512  # datasets that one peer announces; each takes up to twenty messages
KAD_LOOK_SECONDS = 5.0  # until we look again who has to be told of what we serve, where that has changed
KAD_GREET_SECONDS = 300.0  # until a peer that connects again is asked again where it is: people move about with laptops
KAD_PAUSE_SECONDS = 0.25  # between announcements of two datasets: others allow us a few a second
KAD_REQUESTS_PER_SECOND = 10.0  # read of one peer: a lookup asks each peer once,
KAD_REQUESTS_AT_ONCE = 64  # after it has been quiet: whoever starts announces much at once

# --- local network ---
MDNS_TEXT_BYTES_MAX = 1200  # of a peer's text record: with the rest of a message it fits one packet
MDNS_ADDRESSES_MAX = 8  # of one peer: a laptop has two or three
MDNS_HEARD_MAX = 64  # peers heard and not yet looked at; who shouts more is heard again at his next shout
MDNS_KNOWN_MAX = 1024  # peers heard of lately; then any of them is forgotten, so that false ones oust none for sure
MDNS_AGAIN_SECONDS = 60.0  # until a peer that was heard, and is not connected, is tried again; then twice as long,
MDNS_TRIES_MAX = 5  # and so on; after half an hour it is taken to have left
MDNS_DIALS_AT_ONCE = 2  # a network full of false announcements leaves most dials to others
MDNS_PEERS_MAX = 50  # connected by having been heard: a lecture hall must not take all our connections
MDNS_LOOK_SECONDS = 10.0  # between looks at whether our own addresses are others: a laptop has moved

# --- swarm ---
HANDSHAKE_TIMEOUT_SECONDS = 5.0  # four round trips; who connects and says nothing holds a file descriptor no longer
HANDSHAKE_SILENCE_SECONDS = 1.0  # of the other side, several round trips: then it makes room where others wait
HANDSHAKES_MAX = 128  # at once, and as many wait for their turn: below what a process may open beside connections
HANDSHAKES_PER_ADDRESS_MAX = 32  # of those, from one address; a few milliseconds each
CONNECTIONS_PER_ADDRESS_MAX = 100  # from one address, out of the 300 that the library takes
SUSPECT_SECONDS = 60.0  # an address whose handshake failed, or whose connection was cut for a reason, stays suspect
SUSPECT_HANDSHAKES_PER_SECOND = 10.0  # of all suspects together: a few hundredths of a processor
SUSPECT_HANDSHAKES_WAITING = 24  # from one suspect address: half of all that get in within the time of a handshake
SUSPECTS_MAX = 4096  # remembered: half a megabyte
STREAMS_PER_PEER_MAX = 64  # inbound, for each protocol: an honest peer keeps one
CONNECTION_STREAMS_MAX = 96  # in each direction, all protocols: room for identify, ping and gossip beside ours
STREAM_WINDOW_BYTES = 256 * 1024  # yamux's own: what a peer may send unread on a new stream
STREAM_WINDOW_BYTES_MAX = 2 * 1024 * 1024  # grows only while it is being read: 20 MB/s at 100 ms
STREAM_FRAME_BYTES = 65_507  # with yamux's header exactly one noise message
UNREAD_BYTES_MAX = 8 * 1024 * 1024  # over a connection's streams; an honest peer has a few of them
CONTROL_BYTES_MAX = 64 * 1024  # answers queued (12 bytes each) to a peer that asks but does not read
SMALL_FRAME_BYTES = 1024  # a frame that brings less costs as much as if it brought that
SMALL_FRAMES_PER_SECOND = 2000.0  # read on one connection, at 3 us each: pings, news of windows, bytes one by one,
SMALL_FRAMES_AT_ONCE = 4000.0  # after it has been quiet: as much as opening all streams
SMALL_FRAMES_TOGETHER = 200  # taken before they are paid for: half a millisecond
NEW_STREAM_FRAMES = 40  # small frames that cost as much as a stream: its tasks, and agreeing on a protocol
IDLE_TIMEOUT_SECONDS = 30.0  # a stream on which nothing is said or asked
LINGER_SECONDS = 30.0  # a stream that we closed and the peer does not
WRITE_TIMEOUT_SECONDS = 10.0  # a peer that does not read for so long loses its connection
CLOSE_TIMEOUT_SECONDS = 2.0  # closing is a courtesy
PING_AGAIN_SECONDS = 1.0  # the first ping measures a busy start
PING_INTERVAL_SECONDS = 15.0  # a home router forgets a silent connection after a minute or so
PING_TIMEOUT_SECONDS = 10.0  # nobody's round trip is longer; then the peer is dead
IDENTIFY_DELAY_SECONDS = 2.0  # identify tells us nothing that the first question needs, and it costs 10 ms
IDENTIFY_BYTES_MAX = 8192  # of what a peer says of itself: libp2p's other implementations allow as much
PEERS_REMEMBERED_MAX = 1000  # addresses kept for the next start; then the oldest quarter is forgotten
FEED_DATASETS_MAX = 10_000  # of one feed: what a person can follow; each costs a question and holds a row
FEED_PARTS_REMEMBERED_MAX = 20_000  # ways to read a dataset for a query, 2 KB each: two feeds of all one can follow
FEED_BUDGET_BYTES = 32 * 1024  # for the first row of each dataset: mostly it takes four chunks
FEED_QUESTIONS_MAX = 1024  # of a feed at once: as many small ones as a stream carries
PROVIDERS_REMEMBERED_MAX = 10_000  # peers said to serve a dataset; likewise
PEERS_COUNTED_MAX = 4096  # peers whose received bytes are remembered; then the oldest is forgotten
HEADS_KEPT = 16  # of a dataset that is ours or followed, blocks of so many survive `gc`: for deltas and pages under way

# --- relay ---
RESERVATIONS_MAX = 128  # peers that are reached through us: half of the connections that we take
RESERVATION_SECONDS = 3600.0  # then a peer asks again; it also ends with its connection
RESERVATION_ADDRESSES_MAX = 16  # of ours, told to who reserves: a message has room for as many of 200 bytes
CIRCUITS_MAX = 64  # at once; each holds two streams and 512 KiB on its way
CIRCUITS_PER_PEER_MAX = 16  # at either end: a peer behind us may be asked by several, nobody takes all
CIRCUIT_BYTES_MAX = 32 * 1024 * 1024  # in each direction: some whole answers; a following goes on with the next one
CIRCUIT_SECONDS_MAX = 600.0  # enough for those on a slow line; then a new one is wanted, which others may want too
CIRCUIT_MESSAGE_BYTES_MAX = 4096  # as the specification has it
CIRCUIT_MESSAGE_SECONDS = 10.0  # for what is said before a circuit is one
RESERVATION_SECONDS_MIN = 60.0  # a place said to end sooner is renewed no more often: clocks differ, and relays lie
RELAY_ADDRESSES_MAX = 3  # of one relay, in what we announce: each is one more for others to try
RELAY_AGAIN_SECONDS = 1.0  # until a relay that is gone is tried again; then twice as long, and so on,
RELAY_AGAIN_SECONDS_MAX = 60.0  # up to this: it may be away for a day
RELAY_WATCH_SECONDS = 2.0  # between looks at whether a relay is connected still: so long we cannot be reached
UPGRADE_DELAY_SECONDS = 0.5  # after a peer has come through a relay: its first question goes first
UPGRADE_ADDRESSES_MAX = 8  # of a peer that is to be dialled directly: a laptop has two or three
UPGRADE_DIAL_SECONDS = 3.0  # for one of them: a relay is there meanwhile
UPGRADE_TURN_SECONDS = 0.5  # for the other side's dial, before ours: one connection is enough
UPGRADE_SECONDS = 10.0  # for all that an upgrade takes
UPGRADES_AT_ONCE_MAX = 8  # each dials no more addresses than that at a time
UPGRADE_ANSWERS_MAX = 3  # for each connection through a relay: so often the specification lets a peer try
UPGRADE_VIEW_SECONDS = 2.0  # for a relay to say where it sees us: without, it goes on as it can
UPGRADE_STAGGER_SECONDS = 0.25  # between dials of one peer's addresses, as RFC 8305 has it: the first is most likely
UPGRADE_AGAIN_SECONDS = 0.1  # until an address that refuses is dialled again; then twice as long: four times at most
RETIRE_LOOK_SECONDS = 5.0  # between looks at whether a relayed connection is still of use: longer than answers pause
RETIRE_BYTES = 2048  # in that time: pings and the like are no use
RETIRE_SECONDS_MAX = 60.0  # answers under way end before that, or begin again
RELAY_HEAD_START_SECONDS = 0.5  # for direct addresses, before a way through a relay is tried
CIRCUIT_WRITE_BYTES = 65_537  # one noise message: a circuit with less left has ended, as what would not fit is not sent
CIRCUIT_EARLY_SECONDS = 2.0  # that a relay may end a circuit before its time is over here: its own began earlier
CIRCUIT_AGAIN_SECONDS = 10.0  # after a relay's limit has ended a circuit: whoever was in the middle goes on by then
CIRCUIT_PEER_BYTES_MAX = 64  # of a peer's id; those of all kinds of keys have 34 to 42

# --- the socket of a running node ---
SOCKET_PATH_BYTES_MAX = 103  # what every system takes for a Unix socket's name; Linux has four more
CONTROL_CONNECTIONS_MAX = 128  # each may hold a stream and 256 KiB on its way; a query needs a few
CONTROL_ANSWER_BYTES_MAX = 4 * 1024 * 1024  # all that a node tells of itself, with its lists cut
STATUS_ITEMS_MAX = 400  # peers and follows told of one by one, some KiB each at worst: nobody reads more
CONTROL_WAIT_MS_MAX = 300_000  # nobody waits longer for a peer
CONTROL_TIMEOUT_SECONDS = 2.0  # a node that does not answer its own user by then hangs: do without
PROGRESS_SECONDS = 0.1  # between news of how far something is: smooth enough for a bar
PEERS_WATCH_SECONDS = 0.5  # between looks at who is connected, for those who want to know
METRICS_CONNECTIONS_MAX = 16  # scrapes at once; there are one or two collectors
METRICS_REQUEST_BYTES_MAX = 8 * 1024  # of a scrape's headers: many times what collectors send
METRICS_TIMEOUT_SECONDS = 10.0  # for one scrape, as collectors have it by default
