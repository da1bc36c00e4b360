//! What many steps have in common is held once.

use std::{borrow::Borrow, collections::HashSet, hash::Hash, sync::Arc};

use bytes::Bytes;

/// Values, each held once.
#[derive(Debug)]
pub(super) struct Interner<T: ?Sized>(HashSet<Arc<T>, rapidhash::fast::RandomState>);

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self(HashSet::default())
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T>
where
    Arc<T>: for<'v> From<&'v T> + Borrow<T>,
{
    /// The one copy of a value.
    pub(super) fn get(&mut self, value: &T) -> Arc<T> {
        if let Some(known) = self.0.get(value) {
            return Arc::clone(known);
        }
        let new: Arc<T> = Arc::from(value);
        self.0.insert(Arc::clone(&new));
        new
    }
}

/// Bodies, each held once and by itself, so that what they were read from can be forgotten.
#[derive(Debug, Default)]
pub(super) struct Bodies(HashSet<Bytes, rapidhash::fast::RandomState>);

impl Bodies {
    pub(super) fn get(&mut self, body: &Bytes) -> Bytes {
        if body.is_empty() {
            return Bytes::new();
        }
        if let Some(known) = self.0.get(body) {
            return known.clone();
        }
        let new = Bytes::copy_from_slice(body);
        self.0.insert(new.clone());
        new
    }
}
