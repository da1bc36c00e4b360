//! Which of the served files changed.
//!
//! Files are polled, because notifications do not reach into containers and network mounts. A change counts when it has come to rest, that is
//! when two looks in a row see the same sizes and times, and when it is one of content.

use std::{
    collections::BTreeMap,
    fmt, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    time::SystemTime,
};

use super::session::Inputs;
use crate::{failure::Failure, recording};

/// What changed since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The recordings.
    pub(crate) recordings: bool,
    /// The transform template.
    pub(crate) transform: bool,
    /// The test config.
    pub(crate) test_config: bool,
}

impl Changes {
    /// Whether nothing changed.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.recordings, "the recording"),
            (self.transform, "the transform"),
            (self.test_config, "the test config"),
        ];
        let changed: Vec<_> =
            parts.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
        f.write_str(&changed.join(" and "))
    }
}

/// Watches everything that `dev` reads.
#[derive(Debug)]
pub(crate) struct Watches {
    recordings: Watch,
    transform: Watch,
    test_config: Watch,
}

impl Watches {
    /// Remembers the files as they are now.
    pub(crate) fn new(inputs: &Inputs) -> Self {
        let one = |file: &Option<PathBuf>| Watch::new(file.iter().cloned().collect());
        Self {
            recordings: Watch::new(inputs.recordings.clone()),
            transform: one(&inputs.transform),
            test_config: one(&inputs.test_config),
        }
    }

    /// Looks, on a thread that may block.
    pub(crate) async fn look(mut self) -> Result<(Self, Changes), Failure> {
        let looked = tokio::task::spawn_blocking(move || {
            let changes = Changes {
                recordings: self.recordings.look(),
                transform: self.transform.look(),
                test_config: self.test_config.look(),
            };
            (self, changes)
        });
        looked.await.map_err(|error| Failure::chain(&error))
    }
}

type Stamps = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

#[derive(Debug)]
struct Watch {
    roots: Vec<PathBuf>,
    stamps: Stamps,
    content: Option<u64>,
    moving: bool,
}

impl Watch {
    fn new(roots: Vec<PathBuf>) -> Self {
        let mut watch = Self { roots, stamps: Stamps::new(), content: None, moving: false };
        watch.stamps = watch.stamp();
        watch.content = watch.hash();
        watch
    }

    /// Whether the content has changed and come to rest.
    fn look(&mut self) -> bool {
        let now = self.stamp();
        if now != self.stamps {
            self.stamps = now;
            self.moving = true;
            return false;
        }
        if !std::mem::take(&mut self.moving) {
            return false;
        }
        let content = self.hash();
        let changed = content != self.content;
        self.content = content;
        changed
    }

    /// Sizes and times; empty while the files cannot be listed.
    fn stamp(&self) -> Stamps {
        if self.roots.is_empty() {
            return Stamps::new();
        }
        let files = recording::walk(&self.roots).unwrap_or_default();
        let stamps = files.into_iter().map(|file| {
            let modified = fs::metadata(&file.path).and_then(|meta| meta.modified()).ok();
            (file.path, (file.size, modified))
        });
        stamps.collect()
    }

    /// The content of all files; nothing when one cannot be read.
    fn hash(&self) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        for path in self.stamps.keys() {
            path.hash(&mut hasher);
            fs::read(path).ok()?.hash(&mut hasher);
        }
        Some(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_it_has_come_to_rest() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("1.md");
        fs::write(&file, "one").unwrap();
        let mut watch = Watch::new(vec![root.path().to_owned()]);
        assert!(!watch.look() && !watch.look());
        fs::write(&file, "one and a half").unwrap();
        assert!(!watch.look(), "it may still be written");
        assert!(watch.look());
        assert!(!watch.look(), "told once");
        fs::write(root.path().join("2.md"), "two").unwrap();
        assert!(!watch.look() && watch.look(), "a new file");
        fs::remove_file(&file).unwrap();
        assert!(!watch.look() && watch.look(), "a file less");
    }

    #[test]
    fn a_touched_file_is_not_a_changed_one() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("t.json");
        fs::write(&file, "{}").unwrap();
        let mut watch = Watch::new(vec![file.clone()]);
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        assert!(!watch.look() && !watch.look() && !watch.look());
    }

    #[test]
    fn changes_are_named() {
        let changes = Changes { recordings: true, test_config: true, ..Changes::default() };
        assert_eq!(changes.to_string(), "the recording and the test config");
        assert!(Changes::default().is_empty() && !changes.is_empty());
    }
}
