//! Recorded third-party traffic that lies beside the repository on some machines.

use std::{
    fs,
    path::{Path, PathBuf},
};

use countersign_engine::{
    diagnostic::Diagnostic,
    formats::{FileReader, Sink, is_recording},
    snapshot::RrPair,
};

#[derive(Default)]
struct Collected {
    pairs: Vec<RrPair>,
    refused: Vec<Diagnostic>,
}

impl Sink for Collected {
    fn pair(&mut self, pair: RrPair) {
        self.pairs.push(pair);
    }

    fn skipped(&mut self, _why: Diagnostic) {}

    fn refused(&mut self, why: Diagnostic) {
        self.refused.push(why);
    }
}

/// Where the recordings lie; where there are none it says that `what` is not tested.
pub(crate) fn shared_data(what: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let root = std::env::var_os("COUNTERSIGN_SHARED_DATA").map_or(beside, PathBuf::from);
    if root.is_dir() {
        return Some(root);
    }
    eprintln!("NOTICE: {} is absent, {what} not tested", root.display());
    None
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut all: Vec<PathBuf> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all.iter().flat_map(|path| files(path)).collect()
}

/// The pairs of a folder or file in recorded order, numbered, and what was refused.
pub(crate) fn read(path: &Path) -> (Vec<RrPair>, Vec<Diagnostic>) {
    let mut collected = Collected::default();
    for path in files(path) {
        let name = path.to_string_lossy();
        if is_recording(&name) {
            let mut reader = FileReader::new(&name, &mut collected);
            reader.push(&fs::read(&path).unwrap());
            reader.finish();
        }
    }
    collected.pairs.sort_by_key(|pair| pair.ts);
    for (ordinal, pair) in (0..).zip(&mut collected.pairs) {
        pair.ordinal = ordinal;
    }
    (collected.pairs, collected.refused)
}
