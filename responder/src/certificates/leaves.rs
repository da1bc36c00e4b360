//! The certificates that were made, each with the TLS configuration that shows it: bounded, and made anew before they end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::ServerConfig;

use super::name::Name;

/// The most certificates at a time. A recording has tens of hosts; more is somebody who tries names out.
pub(super) const CAPACITY: usize = 1024;

/// Certificates by name.
#[derive(Debug, Default)]
pub(super) struct Leaves(Mutex<HashMap<Name, Entry>>);

#[derive(Debug)]
struct Entry {
    config: Arc<ServerConfig>,
    renew_at: SystemTime,
}

impl Leaves {
    /// The one for this name, unless it has to be made.
    pub(super) fn get(&self, name: &Name, now: SystemTime) -> Option<Arc<ServerConfig>> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(name).filter(|entry| now < entry.renew_at)?;
        Some(Arc::clone(&entry.config))
    }

    /// Keeps one, and drops the one that ends first when there are too many.
    pub(super) fn put(&self, name: Name, config: Arc<ServerConfig>, renew_at: SystemTime) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CAPACITY && !entries.contains_key(&name) {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.renew_at);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                entries.remove(&oldest);
            }
        }
        entries.insert(name, Entry { config, renew_at });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
