//! How many connections each address has open, so that one client cannot take the places of all others.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts connections by where they come from.
#[derive(Debug)]
pub(super) struct Sources {
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of a connection; dropped, it is free for another of the same source.
#[derive(Debug)]
pub(super) struct Place {
    sources: Arc<Sources>,
    source: IpAddr,
}

impl Sources {
    /// So many of each.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    /// A place for a connection from this address, if there is one.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let source = source(from);
        let mut open = self.lock();
        let here = open.entry(source).or_default();
        if *here >= self.most {
            return None;
        }
        *here += 1;
        Some(Place { sources: Arc::clone(self), source })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.sources.lock();
        let Some(here) = open.get_mut(&self.source) else { return };
        *here = here.saturating_sub(1);
        if *here == 0 {
            open.remove(&self.source);
        }
    }
}

/// Whoever has an address of IPv6 mostly has all of its /64.
fn source(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(addr) => {
            let [a, b, c, d, ..] = addr.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_so_many_places() {
        let sources = Sources::new(2);
        let enter = |addr: &str| sources.enter(addr.parse().unwrap());
        let (first, second) = (enter("10.0.0.1"), enter("::ffff:10.0.0.1"));
        assert!(first.is_some() && second.is_some() && enter("10.0.0.1").is_none());
        let other = enter("10.0.0.2");
        assert!(other.is_some());
        drop(first);
        let again = enter("10.0.0.1");
        assert!(again.is_some() && enter("10.0.0.1").is_none());
        let (one, two) = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(one.is_some() && two.is_some() && enter("2001:db8::3").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
        drop((second, other, again, one, two));
        assert!(sources.lock().is_empty());
    }
}
