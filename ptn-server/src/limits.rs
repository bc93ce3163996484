//! How often: requests per key and per address, wrong keys per address.
//!
//! Rates are cell-rate limits: short bursts pass, sustained floods do not. A right key is never
//! refused because of wrong ones from the same address: TradingView's four addresses are shared by
//! all its users, and a stranger's guesses must not keep a closing order out. What counts as one
//! address is decided by `net`; connections are counted by `listen`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::answer::ApiError;
use crate::auth::KeyId;
use crate::config::{Rate, ServerConfig};

/// A window of wrong keys, per address.
const WINDOW: Duration = Duration::from_secs(60);
/// More addresses than this are not remembered; the oldest window goes first.
const MOST_ADDRESSES: usize = 10_000;

pub(crate) struct Limits {
    keys: Option<DefaultKeyedRateLimiter<KeyId>>,
    addresses: Option<DefaultKeyedRateLimiter<IpAddr>>,
    clock: DefaultClock,
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
    failures_allowed: u32,
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").field("on", &self.keys.is_some()).finish_non_exhaustive()
    }
}

impl Limits {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        let quota = |rate: Rate| {
            let some = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
            Quota::per_second(some(rate.per_second)).allow_burst(some(rate.burst))
        };
        Self {
            keys: config.limits.then(|| RateLimiter::keyed(quota(config.key_rate))),
            addresses: config.limits.then(|| RateLimiter::keyed(quota(config.address_rate))),
            clock: DefaultClock::default(),
            failures: Mutex::default(),
            failures_allowed: config.auth_failures_per_minute,
        }
    }

    /// Counts a request of an address.
    pub(crate) fn address(&self, address: IpAddr) -> Result<(), ApiError> {
        let Some(limiter) = &self.addresses else { return Ok(()) };
        limiter.check_key(&subnet(address)).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            too_many("rate_limited", "Too many requests from this address", wait)
        })
    }

    /// Counts a request with a key.
    pub(crate) fn key(&self, key: KeyId) -> Result<(), ApiError> {
        let Some(limiter) = &self.keys else { return Ok(()) };
        limiter.check_key(&key).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            too_many("rate_limited", "Too many requests with this API key", wait)
        })
    }

    /// Counts a wrong key; an error when there were too many of them.
    pub(crate) fn wrong_key(&self, address: IpAddr) -> Result<(), ApiError> {
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST_ADDRESSES {
            let oldest = failures.iter().min_by_key(|(_, (since, _))| *since).map(|(a, _)| *a);
            if let Some(oldest) = oldest {
                failures.remove(&oldest);
            }
        }
        let (since, count) = failures.entry(subnet(address)).or_insert((now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        if *count <= self.failures_allowed {
            return Ok(());
        }
        let wait = WINDOW.saturating_sub(now.duration_since(*since));
        Err(too_many("auth_throttled", "Too many wrong API keys from this address", wait).close())
    }

    /// Forgets who has been quiet.
    pub(crate) fn tidy(&self) {
        if let Some(limiter) = &self.keys {
            limiter.retain_recent();
        }
        if let Some(limiter) = &self.addresses {
            limiter.retain_recent();
        }
        let now = Instant::now();
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
    }
}

/// One IPv6 customer has a whole /64, so that is what counts as one address.
pub(crate) fn subnet(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

fn too_many(code: &'static str, text: &str, wait: Duration) -> ApiError {
    let seconds = wait.as_secs().saturating_add(1);
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        code,
        format!("{text}. Please wait {seconds} s before trying again."),
    )
    .retry_after(wait)
}
