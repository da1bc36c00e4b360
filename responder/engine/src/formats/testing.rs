//! Recorded third-party traffic that lies beside the repository on some machines.

use std::path::{Path, PathBuf};

use super::is_recording;

/// Where the recordings lie; where there are none it says so.
#[expect(clippy::print_stderr, reason = "a test that did not run says so")]
pub(crate) fn shared_data() -> Option<PathBuf> {
    let given = std::env::var_os("COUNTERSIGN_SHARED_DATA").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let found = given.into_iter().chain([beside]).find(|dir| dir.is_dir());
    if found.is_none() {
        eprintln!(
            "NOTICE: not run, there is no recorded data: set COUNTERSIGN_SHARED_DATA to its folder"
        );
    }
    found
}

/// The recordings in a folder and below it.
pub(crate) fn recordings_in(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { recordings_in(&path) } else { vec![path] })
        .filter(|path| is_recording(&path.to_string_lossy()))
        .collect()
}
