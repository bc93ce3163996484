-- One row. Whoever makes a signal deliverable (accepting, retrying, moving in) locks it for that
-- one statement, so places are visible in the order of their numbers: who has seen place 7 will
-- never find a new 5. A store that was moved away takes no turns.
CREATE TABLE ptn_store (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    moved_to text
);
INSERT INTO ptn_store DEFAULT VALUES;

-- Numbers of signals (seq) and of their places in the queue.
CREATE SEQUENCE ptn_place;

-- One row: who delivers. The token rises with every change of hands, and everything that an owner
-- writes names it. The expiry is by this server's clock; renewals let others see by their own
-- clocks that an owner is alive.
CREATE TABLE ptn_tenure (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    token      bigint NOT NULL DEFAULT 0,
    owner      text,
    account    text,
    since      timestamptz,
    expires_at timestamptz NOT NULL DEFAULT 'epoch',
    lease_ms   bigint NOT NULL DEFAULT 0,
    renewals   bigint NOT NULL DEFAULT 0,
    watermark  bigint NOT NULL DEFAULT 0
);
INSERT INTO ptn_tenure DEFAULT VALUES;

-- Every signal, for ever. state: 0 pending, 1 processed, 2 failed. seq is its number; place is
-- where it stands in the queue, which a retry renews. ticket tells one's own lost attempt to store
-- it from somebody else's. Times are milliseconds since 1970.
CREATE TABLE ptn_signal (
    seq         bigint PRIMARY KEY,
    place       bigint NOT NULL,
    id          text COLLATE "C" NOT NULL UNIQUE,
    digest      bytea NOT NULL,
    ticket      bigint NOT NULL,
    trade_pair  text COLLATE "C",
    accepted_at bigint NOT NULL,
    state       smallint NOT NULL DEFAULT 0,
    cancel      boolean NOT NULL DEFAULT false,
    finished_at bigint,
    finished_by bigint,
    reason      text NOT NULL DEFAULT '',
    body        text NOT NULL
);
-- The queue: as long as what waits, read from where the owner stopped.
CREATE INDEX ptn_signal_waiting ON ptn_signal (place) WHERE state = 0;
CREATE INDEX ptn_signal_cancelled ON ptn_signal (seq) WHERE state = 0 AND cancel;
-- For lists, newest first.
CREATE INDEX ptn_signal_by_state ON ptn_signal (state, seq);
CREATE INDEX ptn_signal_by_pair ON ptn_signal (trade_pair, seq);

-- One row per signal and validator: the record, as every other place shows it. Room is left in the
-- pages because each row is written about three times.
CREATE TABLE ptn_delivery (
    seq    bigint NOT NULL,
    hotkey text COLLATE "C" NOT NULL,
    record json NOT NULL,
    -- Tenure and number of the owner's statement that wrote it: one that was given up and arrives
    -- late must not take back what a later one wrote.
    written bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (seq, hotkey)
) WITH (fillfactor = 70);
