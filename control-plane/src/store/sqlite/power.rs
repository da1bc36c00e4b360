//! Power that fails: of what was written and not yet brought to the disk, any sector of 512 bytes is there, lost or something else.

use super::*;
use crate::store::{Expect, all};

const SECTOR: usize = 512;

/// What is on the disk once a commit was acknowledged.
struct Image {
    database: Vec<u8>,
    log: Vec<u8>,
}

impl Image {
    fn of(path: &Path) -> Self {
        let log = path.with_file_name("meta.db-wal");
        Self { database: fs::read(path).unwrap(), log: fs::read(log).unwrap() }
    }
}

fn body(name: &str) -> String {
    name.repeat(700)
}

/// Commits some records, each acknowledged before the next: the disk before the first and after each.
async fn commits(path: &Path, store: &SqliteMeta, count: usize) -> Vec<Image> {
    let mut images = vec![Image::of(path)];
    for nth in 0..count {
        let name = format!("record {nth}");
        let txn = Txn::put(Kind::Replay, &*name, Expect::Absent, body(&name));
        store.commit(txn).await.unwrap();
        images.push(Image::of(path));
    }
    images
}

/// How many of the records are there after a start from these bytes. They are whole, and the first ones.
async fn survivors(database: &[u8], log: &[u8]) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    fs::write(&path, database).unwrap();
    fs::write(path.with_file_name("meta.db-wal"), log).unwrap();
    let store = SqliteMeta::open(&path).unwrap();
    let found = all(&store, Kind::Replay, "").await.unwrap();
    for (nth, record) in found.iter().enumerate() {
        assert_eq!(record.name, format!("record {nth}"));
        assert_eq!(record.body, body(&record.name));
    }
    found.len()
}

/// What the disk may hold of a log that was written from a place on, when the power fails.
fn torn(log: &[u8], durable: usize) -> Vec<Vec<u8>> {
    let sectors = durable / SECTOR..log.len().div_ceil(SECTOR);
    let mut all = Vec::new();
    for sector in sectors {
        let (from, to) = ((sector * SECTOR).max(durable), ((sector + 1) * SECTOR).min(log.len()));
        all.push(log[..from].to_vec());
        for (lost, filler) in [(true, 0), (true, 0xa5), (false, 0)] {
            // One sector is lost, or it is the only one that is not.
            let mut bytes = log.to_vec();
            for (at, byte) in bytes.iter_mut().enumerate().skip(durable) {
                if (from..to).contains(&at) == lost {
                    *byte = filler;
                }
            }
            all.push(bytes);
        }
    }
    all
}

#[tokio::test]
async fn d03_what_was_acknowledged_survives_power_that_fails_at_any_sector_of_the_next_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    let store = SqliteMeta::open(&path).unwrap();
    let images = commits(&path, &store, 4).await;
    let (mut tried, mut lost) = (0, 0);
    for (acknowledged, pair) in images.windows(2).enumerate() {
        let [before, after] = pair else { continue };
        assert!(after.log.starts_with(&before.log), "what is durable is not written again");
        for log in torn(&after.log, before.log.len()) {
            let found = survivors(&before.database, &log).await;
            assert!(found == acknowledged || found == acknowledged + 1, "{found}: {acknowledged}");
            (tried, lost) = (tried + 1, lost + usize::from(found == acknowledged));
        }
        assert_eq!(survivors(&after.database, &after.log).await, acknowledged + 1);
    }
    assert!(tried > 100 && lost > 50, "{lost} of {tried}");
    // This would be noticed: a disk that had not kept what it had said is durable.
    let last = &images[4];
    let cut = &last.log[..last.log.len() - SECTOR];
    assert_eq!(survivors(&last.database, cut).await, 3);
}

#[tokio::test]
async fn d03_power_that_fails_while_the_log_is_written_back_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.db");
    let store = SqliteMeta::open(&path).unwrap();
    let images = commits(&path, &store, 4).await;
    let before = &images[4];
    let written = connect(&path).unwrap();
    written.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())).unwrap();
    let after = fs::read(&path).unwrap();
    assert_ne!(after, before.database);
    for sector in 0..after.len().div_ceil(SECTOR) {
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(after.len());
        // One sector is there already, or all but one; the file is as long as it was, or as it will be.
        let mut one = before.database.clone();
        one.resize(after.len(), 0);
        one[range.clone()].copy_from_slice(&after[range.clone()]);
        let mut rest = after.clone();
        let old = before.database.get(range.clone()).unwrap_or(&[0; SECTOR]);
        rest[range].copy_from_slice(old);
        for database in [one, rest] {
            assert_eq!(survivors(&database, &before.log).await, 4, "sector {sector}");
        }
    }
}
