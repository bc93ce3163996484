//! Every setting of every binary, once: flag, environment variable, file key, help and reference
//! page are made from this list.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Key in `ptn.toml`, `section.name`. The environment variable is `PTN_` and the key in upper
    /// case with `_` for `.`.
    pub key: &'static str,
    /// The flag, without `--`.
    pub flag: &'static str,
    /// Other spellings of the flag that users know.
    pub aliases: &'static [&'static str],
    /// What stands for the value in help texts; empty for a switch.
    pub value: &'static str,
    /// Default as text; `None` when there is none.
    pub default: Option<&'static str>,
    /// What it does, with units.
    pub help: &'static str,
}

const fn setting(
    key: &'static str,
    flag: &'static str,
    aliases: &'static [&'static str],
    value: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { key, flag, aliases, value, default, help }
}

/// For every binary.
pub const COMMON: &[Setting] = &[
    setting(
        "data_dir",
        "data-dir",
        &["data_dir"],
        "DIR",
        Some("./mining"),
        "Folder with received_signals, processed_signals and failed_signals",
    ),
    setting(
        "store",
        "store",
        &[],
        "fs|postgres://..",
        Some("fs"),
        "Where signals are kept: in the data directory, or in a PostgreSQL database that several machines share (postgres://USER@HOST:PORT/DATABASE; postgres alone takes the address from DATABASE_URL)",
    ),
    setting(
        "store_lease",
        "store-lease",
        &[],
        "DURATION",
        Some("10s"),
        "With a database: a miner that is not heard of for this long is taken over by another one",
    ),
    setting(
        "rules.set",
        "rules",
        &[],
        "2024|2025|2026",
        Some("2026"),
        "Rule set by which signals are read and sent",
    ),
    setting(
        "rules.file",
        "rules.file",
        &[],
        "FILE",
        None,
        "Replaces the rule set's built-in rules file (JSON)",
    ),
    setting(
        "rules.trade_pairs",
        "rules.trade-pairs",
        &[],
        "FILE",
        None,
        "Replaces the rule set's built-in trade pair catalogue (JSON)",
    ),
    setting(
        "rules.unknown_pairs",
        "rules.unknown-pairs",
        &[],
        "refuse|pass",
        Some("refuse"),
        "What to do with trade pairs that the catalogue does not have; pass lets the validator judge",
    ),
    setting(
        "spool.min_free",
        "spool.min-free",
        &[],
        "BYTES",
        Some("256MiB"),
        "Free space that the data directory's disk keeps: below it no signal is accepted (507), and deliveries go on; 0 switches it off",
    ),
    setting("logging.debug", "logging.debug", &[], "", None, "Log more"),
    setting("logging.trace", "logging.trace", &[], "", None, "Log everything"),
    setting(
        "logging.format",
        "logging.format",
        &[],
        "text|json",
        Some("text"),
        "Log lines for people or for programs",
    ),
];

/// For the HTTP server, in its own process or in the miner's.
pub const SERVER: &[Setting] = &[
    setting(
        "server.limits",
        "limits",
        &["server.limits"],
        "on|off",
        Some("on"),
        "Rate limits per key and address; off switches only these off",
    ),
    setting(
        "server.submit_deadline",
        "server.submit-deadline",
        &[],
        "DURATION",
        Some("110s"),
        "How long POST /api/submit-order waits for the network's answer",
    ),
    setting(
        "server.key_rate",
        "server.key-rate",
        &[],
        "N/BURST",
        Some("100/200"),
        "Requests per second per API key, and how many at once",
    ),
    setting(
        "server.address_rate",
        "server.address-rate",
        &[],
        "N/BURST",
        Some("200/400"),
        "Requests per second per client address, and how many at once",
    ),
    setting(
        "server.auth_failures",
        "server.auth-failures",
        &[],
        "N",
        Some("20"),
        "Wrong keys per minute and address before 429",
    ),
    setting(
        "server.max_body",
        "server.max-body",
        &[],
        "BYTES",
        Some("262144"),
        "Largest request body",
    ),
    setting(
        "server.header_timeout",
        "server.header-timeout",
        &[],
        "DURATION",
        Some("10s"),
        "Time for the head of a request, and idle time in between",
    ),
    setting(
        "server.body_timeout",
        "server.body-timeout",
        &[],
        "DURATION",
        Some("10s"),
        "Time for the body of a request",
    ),
    setting(
        "server.write_timeout",
        "server.write-timeout",
        &[],
        "DURATION",
        Some("30s"),
        "Time for which a client may leave an answer unread",
    ),
    setting(
        "server.max_connections",
        "server.max-connections",
        &[],
        "N",
        Some("1000"),
        "Connections at once",
    ),
    setting(
        "server.max_connections_per_address",
        "server.max-connections-per-address",
        &[],
        "N",
        Some("256"),
        "Connections at once from one address",
    ),
    setting(
        "server.max_in_flight",
        "server.max-in-flight",
        &[],
        "N",
        Some("256"),
        "Signals that are handed to the store at once",
    ),
    setting(
        "server.max_queued",
        "server.max-queued",
        &[],
        "N",
        Some("512"),
        "Requests that wait for their turn beyond these; more are answered 503",
    ),
    setting(
        "server.store_patience",
        "server.store-patience",
        &[],
        "DURATION",
        Some("2s"),
        "When the store has not answered for this long, new signals are answered 503 instead of queueing",
    ),
    setting(
        "server.max_pending",
        "server.max-pending",
        &[],
        "N",
        Some("100000"),
        "Unfinished signals in the store; beyond it new ones are answered 503. Each takes a few KB of memory",
    ),
    setting(
        "server.max_waiting",
        "server.max-waiting",
        &[],
        "N",
        Some("500"),
        "Callers that wait for the network's answer at once; more are answered 202 as soon as their signal is safe",
    ),
    setting(
        "server.trusted_proxies",
        "server.trusted-proxies",
        &[],
        "IP,IP/BITS",
        None,
        "Proxies whose X-Forwarded-For is believed",
    ),
    setting(
        "server.allow_from",
        "server.allow-from",
        &[],
        "IP,IP/BITS|tradingview",
        None,
        "The only callers; tradingview stands for TradingView's own addresses",
    ),
    setting(
        "server.key_overlap",
        "server.key-overlap",
        &[],
        "DURATION",
        Some("0s"),
        "How long a replaced API key stays valid",
    ),
    setting(
        "tradingview.actions",
        "tradingview.actions",
        &[],
        "on|off",
        Some("off"),
        "Reads buy and sell as LONG and SHORT ({{strategy.order.action}})",
    ),
    setting(
        "tradingview.position_change",
        "tradingview.position-change",
        &[],
        "on|off",
        Some("off"),
        "The action decides, and prev_market_position tells a partial exit from an entry",
    ),
    setting(
        "tradingview.tickers",
        "tradingview.tickers",
        &[],
        "FROM=TO,..|auto",
        None,
        "Other names for pairs: BTCUSDT=BTCUSDC,BINANCE:ETHUSDT=ETHUSDC",
    ),
    setting(
        "tradingview.idempotency",
        "tradingview.idempotency",
        &[],
        "on|off",
        Some("off"),
        "An idempotency_key in the alert recognises re-sends",
    ),
];

/// For the risk guard, wherever signals are handed in.
pub const GUARD: &[Setting] = &[
    setting(
        "guard.mode",
        "guard",
        &["guard.mode"],
        "off|warn|refuse",
        Some("warn"),
        "Risk guard: judges signals by the network's rules before they are sent; refuse does not accept what validators would refuse (never what closes a position)",
    ),
    setting(
        "guard.alert_points",
        "guard.alert-points",
        &[],
        "POINTS",
        Some("1.5"),
        "Alert when fewer percent points of loss are left before a drawdown limit",
    ),
    setting(
        "guard.account_usd",
        "guard.account-usd",
        &[],
        "USD",
        None,
        "Size of the account (default: the rule set's, 100000)",
    ),
    setting(
        "guard.asset_class",
        "guard.asset-class",
        &[],
        "CLASS",
        Some("all_markets"),
        "The asset class that the hotkey selected: crypto, forex, equities, indices, commodities, hl_all or all_markets",
    ),
    setting(
        "guard.stage",
        "guard.stage",
        &[],
        "challenge|main",
        Some("main"),
        "Stage of the account; the drawdown limits depend on it (rules of 2026)",
    ),
    setting(
        "guard.halted",
        "guard.halted",
        &[],
        "PAIR,..",
        None,
        "Pairs that the network has halted for now",
    ),
    setting(
        "guard.prices",
        "guard.prices",
        &[],
        "none|push|coinbase",
        Some("none"),
        "Where the guard gets prices: push takes them at POST /api/prices, coinbase (or coinbase:wss://HOST) reads a ticker where the program was built with live-prices. Fill prices in validators' answers are always used",
    ),
    setting(
        "guard.pairs",
        "guard.pairs",
        &[],
        "PAIR,..",
        None,
        "Pairs whose prices are read from coinbase (default: a few usual ones)",
    ),
];

/// Replacing a running server without refusing a request.
pub const TAKEOVER: Setting = setting(
    "takeover",
    "takeover",
    &[],
    "",
    None,
    "Takes the listening socket over from the server that runs on the same data directory and address, which then finishes and ends; an ordinary start when there is none",
);

/// The same for a miner.
const MINER_TAKEOVER: Setting = setting(
    "takeover",
    "takeover",
    &[],
    "",
    None,
    "Takes the listening sockets over from the miner that runs on the same data directory, which then finishes and ends; an ordinary start when there is none",
);

/// Where ptn-server listens.
pub const SERVER_LISTEN: Setting = setting(
    "server.listen",
    "listen",
    &["server.listen"],
    "ADDR",
    Some("127.0.0.1:8088"),
    "Address and port to listen on",
);

/// For the miner.
pub const MINER: &[Setting] = &[
    setting(
        "server.listen",
        "server.listen",
        &[],
        "ADDR",
        None,
        "Runs the HTTP server in this process, on this address and port",
    ),
    NETUID,
    WALLET_PATH,
    WALLET_NAME,
    WALLET_HOTKEY,
    WALLET_PASSWORD_FILE,
    SUBTENSOR_NETWORK,
    SUBTENSOR_CHAIN_ENDPOINT,
    setting(
        "validators.file",
        "validators",
        &[],
        "FILE",
        None,
        "Validators to send to, instead of those of the chain (TOML: [[validator]] hotkey, ip, port, v_trust, stake, wire)",
    ),
    DELIVERY_POLICY,
    DELIVERY_MOTHERSHIP,
    setting(
        "subtensor.refresh",
        "subtensor.refresh",
        &[],
        "DURATION",
        None,
        "How often validators are read from the chain (default: the rule set's, 15m; 60s in 2024); also at once when deliveries fail as if one had moved",
    ),
    DELIVERY_WIRE,
    DELIVERY_WIRE_FOR,
    DELIVERY_PACING,
    setting(
        "delivery.timeout",
        "delivery.timeout",
        &[],
        "DURATION",
        None,
        "Time for one attempt (default: the rule set's)",
    ),
    setting(
        "delivery.waits",
        "delivery.waits",
        &[],
        "DURATION,..",
        None,
        "Waits before attempt 2, 3, ... (default: the rule set's)",
    ),
    setting(
        "delivery.max_age",
        "delivery.max-age",
        &[],
        "DURATION|never",
        None,
        "A market order that opens or increases is not sent when older (default: 5m)",
    ),
    setting(
        "delivery.max_age_resting",
        "delivery.max-age-resting",
        &[],
        "DURATION|never",
        Some("never"),
        "The same for LIMIT, STOP_LIMIT and BRACKET",
    ),
    setting(
        "delivery.on_unknown",
        "delivery.on-unknown",
        &[],
        "hold|resend",
        Some("hold"),
        "Where validators cannot recognise a repeat (rules of 2024): what to do when an answer was lost; resend may trade twice",
    ),
    setting(
        "delivery.repo_version",
        "delivery.repo-version",
        &[],
        "TEXT",
        None,
        "repo_version in what is sent (default: the rule set's)",
    ),
    setting(
        "delivery.write_failed_signal_logs",
        "write_failed_signal_logs",
        &["write-failed-signal-logs"],
        "on|off",
        None,
        "off: a signal that some but not all acknowledged counts as processed (default: on, off on test)",
    ),
    setting(
        "retention.archive_after",
        "retention.archive-after",
        &[],
        "DURATION|never",
        Some("never"),
        "Processed signals older than this move to archived_signals/YYYY-MM in the data directory; their ids stay taken",
    ),
    setting(
        "retention.delete_after",
        "retention.delete-after",
        &[],
        "DURATION|never",
        Some("never"),
        "Archived signals older than this are deleted, at least 7d; the id of a deleted one could be used again",
    ),
    setting(
        "axon.port",
        "axon.port",
        &["axon-port"],
        "PORT",
        Some("8091"),
        "Port of the miner's own HTTP on 127.0.0.1: health and metrics; 0 switches it off",
    ),
    setting(
        "server.api_host",
        "api-host",
        &[],
        "IP",
        None,
        "As in the Python miner: with --api-rest-port the same as --server.listen IP:PORT",
    ),
    setting(
        "server.api_rest_port",
        "api-rest-port",
        &[],
        "PORT",
        None,
        "As in the Python miner, see --api-host",
    ),
    setting(
        "shutdown.grace",
        "shutdown.grace",
        &[],
        "DURATION",
        Some("10s"),
        "How long attempts under way may take after Ctrl-C",
    ),
    MINER_TAKEOVER,
];

const NETUID: Setting = setting(
    "netuid",
    "netuid",
    &[],
    "N",
    Some("8"),
    "Subnet: 8, or 116 and 171 on the test network",
);
const SUBTENSOR_NETWORK: Setting = setting(
    "subtensor.network",
    "subtensor.network",
    &["network"],
    "finney|test|archive|local",
    Some("finney"),
    "Network; local allows validators on loopback and private addresses, and orders are not paced there by default (--delivery.pacing)",
);
const SUBTENSOR_CHAIN_ENDPOINT: Setting = setting(
    "subtensor.chain_endpoint",
    "subtensor.chain_endpoint",
    &["subtensor.chain-endpoint", "chain-endpoint", "chain_endpoint", "chain"],
    "URL,..",
    None,
    "Nodes of that network, ws:// or wss://, the best first (default: the network's own)",
);
const DELIVERY_POLICY: Setting = setting(
    "delivery.policy",
    "delivery.policy",
    &[],
    "mothership|trust|all",
    None,
    "Who must acknowledge a signal: mothership is the network's one authoritative validator, trust everyone with a trust of at least 0.75 (default: the rule set's)",
);
const DELIVERY_MOTHERSHIP: Setting = setting(
    "delivery.mothership",
    "delivery.mothership",
    &[],
    "HOTKEY",
    None,
    "The authoritative validator of the mothership policy (default: the network's)",
);

const DELIVERY_WIRE: Setting = setting(
    "delivery.wire",
    "delivery.wire",
    &[],
    "btauth|dendrite",
    Some("btauth"),
    "The wire, which is the protocol, of validators from the chain: btauth since bittensor 11, dendrite before",
);
const DELIVERY_WIRE_FOR: Setting = setting(
    "delivery.wire_for",
    "delivery.wire-for",
    &["delivery.wire_for"],
    "HOTKEY=WIRE,..",
    None,
    "The protocol of single validators from the chain; may be repeated (in ptn.toml a table of its own)",
);
const DELIVERY_PACING: Setting = setting(
    "delivery.pacing",
    "delivery.pacing",
    &[],
    "on|off",
    None,
    "Paces orders: holds one back until the network's cooldown (the least time between orders of a pair) and rate limit are over, instead of sending it into a refusal, which uses up its attempts (default: on; off on local)",
);

/// Whether the miner paces orders, which the risk guard must know; settings of the miner too.
pub const PACE: &[Setting] = &[SUBTENSOR_NETWORK, DELIVERY_PACING];

/// Which chain and subnet, for commands about the chain; all of them are settings of the miner too.
pub const CHAIN: &[Setting] = &[NETUID, SUBTENSOR_NETWORK, SUBTENSOR_CHAIN_ENDPOINT];

/// Who gets a signal and how; settings of the miner too.
pub const POLICY: &[Setting] =
    &[DELIVERY_POLICY, DELIVERY_MOTHERSHIP, DELIVERY_WIRE, DELIVERY_WIRE_FOR];

const WALLET_PATH: Setting = setting(
    "wallet.path",
    "wallet.path",
    &["wallet-path", "wallet_path"],
    "DIR",
    Some("~/.bittensor/wallets"),
    "Folder of the wallets",
);
const WALLET_NAME: Setting = setting(
    "wallet.name",
    "wallet.name",
    &["wallet-name", "wallet_name"],
    "NAME[/HOTKEY]",
    Some("default"),
    "Name of the wallet; NAME/HOTKEY names its hotkey as well",
);
const WALLET_HOTKEY: Setting = setting(
    "wallet.hotkey",
    "wallet.hotkey",
    &["wallet-hotkey", "wallet_hotkey"],
    "NAME",
    Some("default"),
    "Name of the hotkey",
);
const WALLET_PASSWORD_FILE: Setting = setting(
    "wallet.password_file",
    "password-file",
    &["password_file", "wallet.password-file"],
    "FILE",
    None,
    "File that holds the password of the key file (- is stdin)",
);

/// Which wallet, for commands about wallets; all of them are settings of the miner too.
pub const WALLET: &[Setting] = &[WALLET_PATH, WALLET_NAME, WALLET_HOTKEY, WALLET_PASSWORD_FILE];

/// An address without its password. Whatever stands before the last `@` may belong to it; of what is
/// no address at all nobody knows where it has one.
pub(super) fn hide_password(text: &str) -> String {
    let folder = text == "fs" || text.starts_with("fs:");
    if folder || !text.contains(['@', ':', '=']) {
        return text.to_owned();
    }
    let Some((scheme @ ("postgres" | "postgresql"), rest)) = text.split_once("://") else {
        return "***".to_owned();
    };
    let place = rest.split(['/', '?']).next().unwrap_or_default();
    let port = place.rsplit_once(':').map_or("", |(_, port)| port);
    if !rest.contains('@') && !port.chars().all(|c| c.is_ascii_digit()) && !place.ends_with(']') {
        return format!("{scheme}://***");
    }
    let rest = match rest.rsplit_once('@') {
        Some((login, place)) => match login.split_once(':') {
            Some((user, _)) => format!("{user}:***@{place}"),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    };
    let Some((path, query)) = rest.split_once('?') else { return format!("{scheme}://{rest}") };
    let part = |part: &str| match part.split_once('=') {
        Some(("password", _)) => "password=***".to_owned(),
        _ => part.to_owned(),
    };
    let query = query.split('&').map(part).collect::<Vec<_>>().join("&");
    format!("{scheme}://{path}?{query}")
}

/// Every setting, for the shared file and the reference page.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    COMMON.iter().chain(SERVER).chain(MINER).chain(GUARD)
}

impl Setting {
    /// Whether its entries are `NAME=VALUE`: its flag may be repeated, and it may be a table of
    /// the file.
    pub fn is_table(&self) -> bool {
        self.value.contains('=') && self.value.ends_with(",..")
    }

    /// Its environment variable.
    pub fn env(&self) -> String {
        format!("PTN_{}", self.key.replace('.', "_").to_uppercase())
    }

    /// The variable that the bittensor tools read for it; ours wins.
    pub fn bittensor_env(&self) -> Option<&'static str> {
        match self.key {
            "wallet.path" => Some("BT_WALLET_PATH"),
            "wallet.name" => Some("BT_WALLET_NAME"),
            "wallet.hotkey" => Some("BT_WALLET_HOTKEY"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (given, shown) in [
            ("fs", "fs"),
            ("postgres://db/ptn", "postgres://db/ptn"),
            ("postgres://me@db:1/ptn?sslmode=require", "postgres://me@db:1/ptn?sslmode=require"),
            ("postgres://me:hunter2@db/ptn", "postgres://me:***@db/ptn"),
            ("postgres://me:hun@ter2@db/ptn", "postgres://me:***@db/ptn"),
            ("postgres://me:hun/ter2@db/ptn", "postgres://me:***@db/ptn"),
            ("postgres://db:5432/ptn", "postgres://db:5432/ptn"),
            ("postgres://[::1]:5432/ptn", "postgres://[::1]:5432/ptn"),
            ("postgres://[::1]/ptn", "postgres://[::1]/ptn"),
            ("fs:/home/me", "fs:/home/me"),
            ("postgres://me:hunter2", "postgres://***"),
            ("postgres:/me:hunter2@db/ptn", "***"),
            ("postgres//me:hunter2@db/ptn", "***"),
            ("postgres:me:hunter2@db/ptn", "***"),
            ("mysql://me:hunter2@db/ptn", "***"),
            ("host=db password=hunter2", "***"),
            (
                "postgres://db/ptn?user=me&password=hunter2",
                "postgres://db/ptn?user=me&password=***",
            ),
        ] {
            assert_eq!(hide_password(given), shown);
        }
    }
}
