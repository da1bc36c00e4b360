//! Who has tried tokens that are no good, by address: of so many a minute it is told why they are refused, of the rest it is not.
//!
//! What is good is let in whatever else came from its address, so that nobody is locked out by a neighbour. Bounded: of the addresses that failed
//! longest ago none is remembered.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use countersign_tls::places::network;

/// So many bad tokens of one address are told of in a row.
pub(crate) const BURST: u32 = 10;
/// After this time one more is.
const REFILL: Duration = Duration::from_secs(6);
/// Addresses that are remembered.
const ADDRESSES: usize = 4096;

/// What a failed attempt led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// It is one of few.
    Failed,
    /// It was the last that is told of.
    Locked,
    /// It is one of many.
    Still,
}

/// The addresses that have failed of late.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    addresses: Mutex<HashMap<IpAddr, Tries>>,
}

#[derive(Debug, Clone, Copy)]
struct Tries {
    left: u32,
    since: Instant,
}

impl Tries {
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        let more = u32::try_from(passed.as_millis() / REFILL.as_millis()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.since = now;
        }
    }
}

impl Attempts {
    /// Counts one that was no good.
    pub(crate) fn failed(&self, address: IpAddr, now: Instant) -> Counted {
        let address = network(address);
        let mut addresses = self.lock();
        if addresses.len() >= ADDRESSES && !addresses.contains_key(&address) {
            let oldest = addresses.iter().min_by_key(|(_, tries)| tries.since);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                addresses.remove(&oldest);
            }
        }
        let tries = addresses.entry(address).or_insert(Tries { left: BURST, since: now });
        tries.refill(now);
        match tries.left {
            0 => Counted::Still,
            left => {
                tries.left = left - 1;
                if left == 1 { Counted::Locked } else { Counted::Failed }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Tries>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(last).into()
    }

    #[test]
    fn after_a_burst_an_address_waits_and_others_do_not() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for nth in 1..=BURST {
            let expected = if nth == BURST { Counted::Locked } else { Counted::Failed };
            assert_eq!(attempts.failed(address(1), now), expected);
        }
        assert_eq!(attempts.failed(address(1), now), Counted::Still);
        assert_eq!(attempts.failed(address(2), now), Counted::Failed);
        let later = now + REFILL;
        assert_eq!(attempts.failed(address(1), later), Counted::Locked);
        assert_eq!(attempts.failed(address(1), later), Counted::Still);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for nth in 1..=BURST {
            let address = format!("2001:db8::{nth:x}").parse().unwrap();
            attempts.failed(address, now);
        }
        let failed = |text: &str| attempts.failed(text.parse().unwrap(), now);
        assert_eq!(failed("2001:db8::ffff:1"), Counted::Still);
        assert_eq!(failed("2001:db8:0:1::1"), Counted::Failed);
        for nth in 1..=BURST {
            let expected = if nth == BURST { Counted::Locked } else { Counted::Failed };
            let one = if nth % 2 == 0 { "10.0.0.1" } else { "::ffff:10.0.0.1" };
            assert_eq!(failed(one), expected);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for nth in 0..u32::try_from(ADDRESSES).unwrap() + 10 {
            attempts.failed(address(nth), now + Duration::from_millis(nth.into()));
        }
        assert_eq!(attempts.lock().len(), ADDRESSES);
        assert!(!attempts.lock().contains_key(&address(0)));
    }
}
