//! Logs that are cut, damaged and resumed.

use std::time::Duration;

use super::*;
use crate::import::uploads::Uploads;

const LIMIT: u64 = 1 << 20;

fn piece(sequence: u64, path: &str, data: &'static str) -> Piece {
    Piece { sequence, path: path.to_owned(), data: data.into() }
}

fn pieces() -> Vec<Piece> {
    vec![piece(1, "a.md", "one"), piece(2, "a.md", ""), piece(3, "b.json", "three")]
}

fn write(staging: &Staging) -> PathBuf {
    let mut log = staging.open("s", "u").unwrap();
    for piece in pieces() {
        log.append(&piece).unwrap();
    }
    assert_eq!((log.committed(), log.sync().unwrap()), (0, 3));
    log.path
}

fn read(staging: &Staging) -> Vec<Piece> {
    staging.read("s", "u").unwrap().unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn what_was_synced_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::new(dir.path().to_owned(), LIMIT);
    write(&staging);
    assert_eq!(read(&staging), pieces());
    assert_eq!(staging.open("s", "u").unwrap().committed(), 3);
    assert!(staging.read("s", "other").unwrap().is_none());
}

#[test]
fn a_torn_end_is_cut_at_every_byte_and_can_be_continued() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::new(dir.path().to_owned(), LIMIT);
    let path = write(&staging);
    let whole = fs::read(&path).unwrap();
    let ends: Vec<usize> = pieces()
        .iter()
        .scan(0, |end, piece| {
            let mut frame = Vec::new();
            encode(piece, &mut frame);
            *end += frame.len();
            Some(*end)
        })
        .collect();
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let mut log = staging.open("s", "u").unwrap();
        let whole_frames = ends.iter().filter(|end| **end <= length).count();
        assert_eq!(log.committed(), u64::try_from(whole_frames).unwrap(), "cut at {length}");
        for piece in pieces() {
            log.append(&piece).unwrap();
        }
        assert_eq!(log.sync().unwrap(), 3);
        assert_eq!(fs::read(&path).unwrap(), whole, "cut at {length}");
    }
}

#[test]
fn garbage_behind_and_inside_frames_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::new(dir.path().to_owned(), LIMIT);
    let path = write(&staging);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x40;
        fs::write(&path, &flipped).unwrap();
        let committed = staging.open("s", "u").unwrap().committed();
        assert!(committed < 3, "flip at {at}");
        assert!(read(&staging) == pieces()[..usize::try_from(committed).unwrap()], "flip at {at}");
    }
    let mut longer = whole.clone();
    longer.extend([0xff; 100]);
    fs::write(&path, longer).unwrap();
    assert_eq!(staging.open("s", "u").unwrap().committed(), 3);
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn duplicates_are_ignored_and_gaps_refused() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::new(dir.path().to_owned(), LIMIT);
    write(&staging);
    let mut log = staging.open("s", "u").unwrap();
    log.append(&piece(2, "a.md", "again, but different")).unwrap();
    assert!(matches!(
        log.append(&piece(5, "c", "")),
        Err(StagingError::Gap { expected: 4, got: 5 })
    ));
    log.append(&piece(4, "c", "four")).unwrap();
    log.append(&piece(4, "c", "four")).unwrap();
    assert_eq!(log.sync().unwrap(), 4);
    assert_eq!(read(&staging).len(), 4);
    assert_eq!(read(&staging)[..3], pieces());
}

#[test]
fn sizes_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::new(dir.path().to_owned(), 200);
    let mut log = staging.open("s", "u").unwrap();
    let large = Piece { sequence: 1, path: "a".into(), data: vec![0; MAX_DATA + 1].into() };
    assert!(matches!(log.append(&large), Err(StagingError::TooLarge { .. })));
    log.append(&Piece { sequence: 1, path: "a".into(), data: vec![0; 100].into() }).unwrap();
    let second = Piece { sequence: 2, path: "a".into(), data: vec![0; 100].into() };
    assert!(matches!(log.append(&second), Err(StagingError::OverQuota { limit: 200 })));
    assert_eq!(log.sync().unwrap(), 1, "what was taken before stays");
}

#[test]
fn removal_leaves_other_snapshots_alone() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::new(dir.path().join("staging"), LIMIT);
    staging.retain(&[]).unwrap();
    write(&staging);
    drop(staging.open("t", "u").unwrap());
    staging.remove("t").unwrap();
    staging.remove("t").unwrap();
    assert!(staging.read("t", "u").unwrap().is_none());
    assert_eq!(read(&staging), pieces());
    staging.retain(&["s".to_owned()]).unwrap();
    assert_eq!(read(&staging), pieces());
    staging.retain(&[]).unwrap();
    assert!(staging.read("s", "u").unwrap().is_none());
}

fn following(pieces: u64, uploads: &Uploads) -> Following {
    let growth = uploads.growth("s");
    Following { pieces, growth, patience: Duration::from_secs(60), gone: Box::new(|| false) }
}

#[tokio::test]
async fn a_log_is_read_while_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::new(dir.path().to_owned(), LIMIT);
    let uploads = Uploads::default();
    let mut along = staging.follow("s", "u", following(3, &uploads));
    let reading = tokio::task::spawn_blocking(move || {
        let read = along.by_ref().collect::<Result<Vec<_>, _>>().unwrap();
        along.check_end().unwrap();
        read
    });
    let turn = uploads.take_over("s").await;
    let mut log = staging.open("s", "u").unwrap();
    for piece in pieces() {
        log.append(&piece).unwrap();
        log.sync().unwrap();
        turn.grown();
    }
    assert_eq!(reading.await.unwrap(), pieces());
}

#[test]
fn half_a_frame_is_read_again_when_the_rest_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::new(dir.path().to_owned(), LIMIT);
    let path = write(&staging);
    let whole = fs::read(&path).unwrap();
    let uploads = Uploads::default();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let mut along = Pieces::follow(path.clone(), following(3, &uploads));
        let mut found = Vec::new();
        while let Some(piece) = along.whole().unwrap() {
            found.push(piece);
        }
        fs::write(&path, &whole).unwrap();
        found.extend(along.map(Result::unwrap));
        assert_eq!(found, pieces(), "cut at {length}");
    }
}

#[test]
fn an_upload_that_pauses_or_that_nobody_wants_ends_its_reading() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::new(dir.path().to_owned(), LIMIT);
    write(&staging);
    let uploads = Uploads::default();
    let impatient = Following { patience: Duration::ZERO, ..following(4, &uploads) };
    let read: Vec<_> = staging.follow("s", "u", impatient).take(4).collect();
    assert!(matches!(read[3], Err(StagingError::Paused)), "{read:?}");
    let unwanted = Following { gone: Box::new(|| true), ..following(4, &uploads) };
    let read: Vec<_> = staging.follow("s", "u", unwanted).take(4).collect();
    assert!(matches!(read[3], Err(StagingError::Store(StoreError::Stopped))), "{read:?}");
}
