//! Places for connections: so many in all, and of one address fewer, so that nobody alone takes all of them.
//!
//! Whoever has an address of IPv6 has its whole network of 64 bits, which counts as one.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Places that connections take.
#[derive(Debug)]
pub struct Places {
    all: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    network: IpAddr,
}

impl Places {
    /// So many places in `all`, and for `each` network.
    #[must_use]
    pub fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { all, each, taken: Mutex::default() })
    }

    /// A place for whoever comes from there, if there is one.
    #[must_use]
    pub fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let network = network(from);
        let mut taken = self.lock();
        let own = taken.by.get(&network).copied().unwrap_or_default();
        if taken.all >= self.all || own >= self.each {
            return None;
        }
        taken.all += 1;
        taken.by.insert(network, own + 1);
        Some(Place { places: Arc::clone(self), network })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        match taken.by.get_mut(&self.network) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.by.remove(&self.network)),
        }
    }
}

/// Whom an address stands for.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_alone_takes_all_places() {
        let places = Places::new(3, 2);
        let take = |address: &str| places.take(address.parse().unwrap());
        let first = [take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap()];
        assert!(take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::1").is_some(), "another network");
        let other = take("10.0.0.1").unwrap();
        assert!(take("10.0.0.2").is_none(), "there are no more");
        drop(first);
        assert!(take("::ffff:10.0.0.1").is_some());
        drop(other);
        assert!(places.lock().by.is_empty() && places.lock().all == 0);
    }
}
