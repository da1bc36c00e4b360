//! Which blobs each served bundle is made of, and the bundle before it, to which a replay may go back.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use countersign_engine::snapshot::digest::Digest;

/// What is served, by the names of the replays.
#[derive(Debug, Default)]
pub(super) struct Versions(HashMap<String, Version>);

#[derive(Debug, Clone)]
struct Version {
    bundle: Digest,
    blobs: Arc<[Digest]>,
    before: Option<Arc<[Digest]>>,
}

/// A replay that is served: its name, its bundle, and the blobs of that.
pub(crate) type Served<'a> = (&'a str, Digest, &'a Arc<[Digest]>);

impl Versions {
    /// Takes what is served now in place of what was; what is not served any more is forgotten.
    pub(super) fn set<'a>(&mut self, served: impl Iterator<Item = Served<'a>>) {
        let mut old = std::mem::take(&mut self.0);
        for (name, bundle, blobs) in served {
            let before = match old.remove(name) {
                Some(same) if same.bundle == bundle => same.before,
                Some(other) => Some(other.blobs),
                None => None,
            };
            self.0.insert(name.to_owned(), Version { bundle, blobs: Arc::clone(blobs), before });
        }
    }

    /// The blobs of all bundles that are served.
    pub(super) fn now(&self) -> HashSet<Digest> {
        self.0.values().flat_map(|version| version.blobs.iter().copied()).collect()
    }

    /// The same, and those of the bundles before them.
    pub(super) fn both(&self) -> HashSet<Digest> {
        let before = self.0.values().filter_map(|version| version.before.as_ref());
        self.now().into_iter().chain(before.flat_map(|blobs| blobs.iter().copied())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_before_is_known_until_the_one_after_the_next() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let blobs = |texts: &[&str]| Arc::from_iter(texts.iter().map(|text| digest(text)));
        let set = |texts: &[&str]| texts.iter().map(|text| digest(text)).collect::<HashSet<_>>();
        let mut versions = Versions::default();
        for (bundle, own, now, both) in [
            ("1", ["a", "b"], ["a", "b"], &["a", "b"][..]),
            ("2", ["b", "c"], ["b", "c"], &["a", "b", "c"]),
            ("2", ["b", "c"], ["b", "c"], &["a", "b", "c"]),
            ("3", ["d", "d"], ["d", "d"], &["b", "c", "d"]),
        ] {
            versions.set([("r", digest(bundle), &blobs(&own))].into_iter());
            assert_eq!((versions.now(), versions.both()), (set(&now), set(both)), "{bundle}");
        }
        versions.set(std::iter::empty());
        assert!(versions.both().is_empty());
    }
}
