//! Uploads that go on at another control plane: what is acknowledged is where all of them find it.
//!
//! Each reads from a log of its own. Before a piece is acknowledged it is in that log and in a part that is shared; whoever opens the log first
//! brings it up to the parts, and the parts up to it.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::interval;

use crate::{
    import::staging::{Log, Piece, Staging, StagingError},
    service::{Plane, Problem, wire},
    store::{Parts, StoreError, blocking},
};

/// A part holds about so many bytes.
const PART: usize = 4 * 1024 * 1024;
/// How often somebody who reads along looks for parts that others took.
const LOOK: Duration = Duration::from_millis(500);

/// Pieces as they are stored.
#[derive(Clone, PartialEq, Message)]
struct StoredPart {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<StoredPiece>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredPiece {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(string, tag = "2")]
    path: String,
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
}

/// The shared parts of one upload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mirror<'p> {
    parts: &'p dyn Parts,
    staging: &'p Staging,
    snapshot: &'p str,
    upload_id: &'p str,
}

impl<'p> Mirror<'p> {
    /// `None` where nobody else could go on with the upload.
    pub(super) fn of(plane: &'p Plane, snapshot: &'p str, upload_id: &'p str) -> Option<Self> {
        plane.meta.roster()?;
        let parts = plane.blobs.parts()?;
        Some(Self { parts, staging: &plane.staging, snapshot, upload_id })
    }

    /// Opens the log for whoever has the turn, brought up to what other control planes have acknowledged.
    pub(super) async fn open(self) -> Result<Log, Problem> {
        let mut log = self.open_log().await?;
        let own = log.committed();
        let firsts = self.parts.list_parts(self.snapshot, self.upload_id).await?;
        // What lies before the last part that begins in the log is in it.
        let known = firsts.partition_point(|first| *first <= own.saturating_add(1));
        let mut shared = 0;
        for first in firsts.into_iter().skip(known.saturating_sub(1)) {
            let part = self.parts.get_part(self.snapshot, self.upload_id, first).await?;
            let Some(part) = part else { break };
            let part: StoredPart =
                wire::decode("part", part).map_err(|error| damaged(self.snapshot, &error))?;
            for piece in part.pieces {
                let StoredPiece { sequence, path, data } = piece;
                match log.append(&Piece { sequence, path, data }) {
                    Ok(()) => shared = sequence,
                    // A hole: nobody has acknowledged what lies behind it.
                    Err(StagingError::Gap { .. }) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            log = synced(log).await?;
        }
        if own > shared {
            self.share_from(shared).await?;
        }
        Ok(log)
    }

    /// Shares pieces that are in the log.
    pub(super) async fn share(self, pieces: Vec<Piece>) -> Result<(), StoreError> {
        let Some(first) = pieces.first().map(|piece| piece.sequence) else { return Ok(()) };
        let stored = |Piece { sequence, path, data }| StoredPiece { sequence, path, data };
        let part = StoredPart { pieces: pieces.into_iter().map(stored).collect() };
        let bytes = part.encode_to_vec().into();
        self.parts.put_part(self.snapshot, self.upload_id, first, bytes).await
    }

    /// Whether somebody has shared what begins behind this piece.
    async fn goes_on_behind(self, piece: u64) -> Result<bool, StoreError> {
        let firsts = self.parts.list_parts(self.snapshot, self.upload_id).await?;
        Ok(firsts.last().is_some_and(|last| *last > piece))
    }

    async fn open_log(self) -> Result<Log, Problem> {
        let (staging, snapshot, upload_id) =
            (self.staging.clone(), self.snapshot.to_owned(), self.upload_id.to_owned());
        Ok(blocking(move || staging.open(&snapshot, &upload_id)).await??)
    }

    /// Shares what is in the log behind a piece: it was written, but sharing it failed.
    async fn share_from(self, shared: u64) -> Result<(), Problem> {
        let (staging, snapshot, upload_id) =
            (self.staging.clone(), self.snapshot.to_owned(), self.upload_id.to_owned());
        let Some(mut log) = blocking(move || staging.read(&snapshot, &upload_id)).await?? else {
            return Ok(());
        };
        loop {
            let (back, pieces) = blocking(move || {
                let pieces = next(&mut log, shared);
                (log, pieces)
            })
            .await?;
            log = back;
            let pieces = pieces?;
            if pieces.is_empty() {
                return Ok(());
            }
            self.share(pieces).await?;
        }
    }
}

/// The next pieces behind one, as many as go into a part.
fn next(
    log: &mut impl Iterator<Item = Result<Piece, StagingError>>,
    behind: u64,
) -> Result<Vec<Piece>, StagingError> {
    let (mut pieces, mut size) = (Vec::new(), 0);
    for piece in log {
        let piece = piece?;
        if piece.sequence > behind {
            size += piece.data.len();
            pieces.push(piece);
        }
        if size >= PART {
            break;
        }
    }
    Ok(pieces)
}

async fn synced(log: Log) -> Result<Log, Problem> {
    let (log, done) = blocking(move || {
        let mut log = log;
        let done = log.sync();
        (log, done)
    })
    .await?;
    done?;
    Ok(log)
}

fn damaged(snapshot: &str, error: &dyn std::error::Error) -> StoreError {
    StoreError::Damaged {
        path: snapshot.into(),
        what: format!("a part of its upload cannot be read: {}", crate::service::chain(error)),
    }
}

/// Brings the log up to what others have acknowledged, before it is read.
pub(super) async fn fetch(plane: &Plane, snapshot: &str, upload_id: &str) -> Result<(), Problem> {
    match Mirror::of(plane, snapshot, upload_id) {
        Some(mirror) if mirror.goes_on_behind(0).await? => mirror.open().await.map(drop),
        _ => Ok(()),
    }
}

/// Goes on doing so while the upload is read along with; ends only with an error.
pub(super) async fn follow(plane: &Plane, snapshot: &str, upload_id: &str) -> Result<(), Problem> {
    let Some(mirror) = Mirror::of(plane, snapshot, upload_id) else {
        return std::future::pending().await;
    };
    let mut looks = interval(LOOK);
    let mut last = 0;
    loop {
        looks.tick().await;
        // An upload to this very process is in the log before it is shared.
        if plane.appending.contains(snapshot) || !mirror.goes_on_behind(last).await? {
            continue;
        }
        let turn = plane.uploads.take_over(snapshot).await;
        last = mirror.open().await?.committed();
        turn.grown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_what_is_behind_a_piece_and_are_not_large() {
        let piece =
            |sequence, size| Ok(Piece { sequence, path: "p".into(), data: vec![0; size].into() });
        let half = PART / 2;
        let mut log = [piece(1, half), piece(2, half), piece(3, half), piece(4, half), piece(5, 1)]
            .into_iter();
        let mut sequences = || -> Vec<u64> {
            next(&mut log, 1).unwrap().into_iter().map(|piece| piece.sequence).collect()
        };
        assert_eq!((sequences(), sequences(), sequences()), (vec![2, 3], vec![4, 5], vec![]));
    }
}
