//! The upload of recorded files: cut into numbered pieces, sent on a stream, and gone on with after a drop.
//!
//! Which bytes a piece holds follows from the plan alone, so that after a drop the upload goes on behind whatever the server says is
//! durable. A file that changes meanwhile ends the upload, because its pieces would no longer fit together.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use countersign_proto::control::v1::{
    AppendRecordsRequest, AppendRecordsResponse, snapshot_service_client::SnapshotServiceClient,
};
use tokio::{
    fs,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{connect::Wire, failure::Failure, recording::File};

/// The size of a piece; the server takes at most 1 MiB.
const PIECE: u64 = 512 * 1024;

/// How patiently a dropped upload is reopened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// The first pause; each further one is twice as long.
    pub(crate) first: Duration,
    /// The longest pause.
    pub(crate) longest: Duration,
    /// So many drops in a row without any progress end the upload.
    pub(crate) attempts: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), longest: Duration::from_secs(5), attempts: 8 }
    }
}

impl Patience {
    /// The pause before attempt `n`, counted from 1: half of it fixed, half of it by chance, so that many clients do not come at once.
    pub(crate) fn pause(&self, n: u32) -> Duration {
        let doubled =
            self.first.saturating_mul(1_u32.checked_shl(n.saturating_sub(1)).unwrap_or(u32::MAX));
        let whole = doubled.min(self.longest);
        let chance = u32::try_from(uuid::Uuid::new_v4().as_u128() % 1000).unwrap_or_default();
        (whole / 2).saturating_add((whole / 2).saturating_mul(chance) / 1000)
    }
}

/// Which bytes are uploaded as which pieces.
#[derive(Debug)]
pub(crate) struct Plan {
    files: Vec<Part>,
    pieces: u64,
    bytes: u64,
}

/// A file, and the pieces that it is cut into.
#[derive(Debug)]
struct Part {
    file: File,
    /// The sequence of its first piece.
    first: u64,
    pieces: u64,
    /// Bytes of the files before it.
    before: u64,
}

impl Plan {
    /// Cuts files into pieces. An empty file is one empty piece, so that the server sees it and can say what it thinks of it.
    pub(crate) fn new(files: Vec<File>) -> Self {
        let mut plan = Self { files: Vec::with_capacity(files.len()), pieces: 0, bytes: 0 };
        for file in files {
            let pieces = file.size.div_ceil(PIECE).max(1);
            let size = file.size;
            let first = plan.pieces.saturating_add(1);
            plan.files.push(Part { file, first, pieces, before: plan.bytes });
            plan.pieces = plan.pieces.saturating_add(pieces);
            plan.bytes = plan.bytes.saturating_add(size);
        }
        plan
    }

    /// How many pieces the files are cut into.
    pub(crate) fn pieces(&self) -> u64 {
        self.pieces
    }

    /// The bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bytes in all pieces up to this one.
    fn bytes_up_to(&self, sequence: u64) -> u64 {
        let after = self.files.partition_point(|part| part.first <= sequence);
        let Some(part) = after.checked_sub(1).and_then(|index| self.files.get(index)) else {
            return 0;
        };
        let pieces = sequence.saturating_sub(part.first).saturating_add(1);
        part.before.saturating_add(pieces.saturating_mul(PIECE).min(part.file.size))
    }
}

/// One upload of a plan to a snapshot.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The client.
    pub(crate) client: SnapshotServiceClient<Wire>,
    /// The snapshot's name.
    pub(crate) snapshot: String,
    /// Stays the same for the whole upload.
    pub(crate) id: String,
    /// What is uploaded.
    pub(crate) plan: Arc<Plan>,
    /// What happens after a drop.
    pub(crate) patience: Patience,
}

impl Upload {
    /// Uploads everything; returns when all of it is durable. `seen` hears how many bytes are.
    pub(crate) async fn run(&mut self, mut seen: impl FnMut(Seen<'_>)) -> Result<(), Failure> {
        let mut committed = 0;
        let mut drops = 0;
        loop {
            let before = committed;
            let status = match self.attempt(&mut committed, &mut seen).await {
                Ok(()) => return Ok(()),
                Err(Ended::Failed(failure)) => return Err(failure),
                Err(Ended::Dropped(status)) => status,
            };
            drops = if committed > before { 1 } else { drops + 1 };
            if drops > self.patience.attempts {
                return Err(Failure::rpc(format!("upload to {}", self.snapshot))(status));
            }
            seen(Seen::Dropped { attempt: drops, why: status.message() });
            tokio::time::sleep(self.patience.pause(drops)).await;
        }
    }

    async fn attempt(
        &mut self,
        committed: &mut u64,
        seen: &mut impl FnMut(Seen<'_>),
    ) -> Result<(), Ended> {
        // The channel is short: what waits in it is in memory.
        let (pieces, requests) = mpsc::channel(4);
        let opening = AppendRecordsRequest {
            name: self.snapshot.clone(),
            upload_id: self.id.clone(),
            ..AppendRecordsRequest::default()
        };
        // The receiver is alive, and the channel has room.
        drop(pieces.try_send(opening));
        let answers = self.client.append_records(ReceiverStream::new(requests)).await;
        let mut answers = answers.map_err(|status| self.ended(status))?.into_inner();
        *committed = self.next(&mut answers).await?.map_or(0, |answer| answer.committed_sequence);
        let feeder = tokio::spawn(feed(Arc::clone(&self.plan), *committed, pieces));
        let received = self.receive(&mut answers, committed, seen).await;
        match received {
            Err(dropped @ Ended::Dropped(_)) => {
                Err(fed(feeder).await.map_or(dropped, Ended::Failed))
            }
            ended => {
                feeder.abort();
                ended
            }
        }
    }

    async fn receive(
        &self,
        answers: &mut Streaming<AppendRecordsResponse>,
        committed: &mut u64,
        seen: &mut impl FnMut(Seen<'_>),
    ) -> Result<(), Ended> {
        loop {
            seen(Seen::Durable { bytes: self.plan.bytes_up_to(*committed) });
            if *committed >= self.plan.pieces {
                return Ok(());
            }
            match self.next(answers).await? {
                Some(answer) => *committed = answer.committed_sequence.max(*committed),
                None => {
                    return Err(Ended::Dropped(Status::unavailable(
                        "the upload stream ended early",
                    )));
                }
            }
        }
    }

    async fn next(
        &self,
        answers: &mut Streaming<AppendRecordsResponse>,
    ) -> Result<Option<AppendRecordsResponse>, Ended> {
        answers.message().await.map_err(|status| self.ended(status))
    }

    fn ended(&self, status: Status) -> Ended {
        if is_drop(&status) {
            return Ended::Dropped(status);
        }
        Ended::Failed(Failure::rpc(format!("upload to {}", self.snapshot))(status))
    }
}

/// What an upload tells while it runs.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    /// So many bytes are durable.
    Durable {
        /// How many.
        bytes: u64,
    },
    /// The connection dropped; the upload is reopened after a pause.
    Dropped {
        /// The drops in a row without progress.
        attempt: u32,
        /// What was said.
        why: &'a str,
    },
}

/// How an attempt ended without reaching the end.
#[derive(Debug)]
enum Ended {
    /// Another attempt may succeed.
    Dropped(Status),
    /// It would not.
    Failed(Failure),
}

/// Whether a status tells of the connection or of a server that restarts, not of the request.
pub(crate) fn is_drop(status: &Status) -> bool {
    // A status that the server sent has no source; one that stands for a broken connection has.
    let broken = std::error::Error::source(status).is_some();
    broken || matches!(status.code(), Code::Unavailable | Code::Aborted | Code::OutOfRange)
}

/// Why the feeder stopped, when that was its own failure.
async fn fed(mut feeder: JoinHandle<Result<(), Failure>>) -> Option<Failure> {
    // One that failed has ended the stream by that and is about to return; any other is only in the way.
    let ended = tokio::time::timeout(Duration::from_secs(1), &mut feeder).await;
    feeder.abort();
    match ended {
        Ok(Ok(Err(failure))) => Some(failure),
        Ok(Ok(Ok(())) | Err(_)) | Err(_) => None,
    }
}

/// Reads and sends the pieces behind `committed`; ends early when nobody takes them any more.
async fn feed(
    plan: Arc<Plan>,
    committed: u64,
    pieces: mpsc::Sender<AppendRecordsRequest>,
) -> Result<(), Failure> {
    let start = plan.files.partition_point(|part| {
        part.first.saturating_add(part.pieces) <= committed.saturating_add(1)
    });
    for part in plan.files.iter().skip(start) {
        let skipped = committed.saturating_add(1).saturating_sub(part.first);
        let path = part.file.path.to_string_lossy().into_owned();
        let mut reader = Reader::open(&part.file, skipped.saturating_mul(PIECE)).await?;
        for index in skipped..part.pieces {
            let request = AppendRecordsRequest {
                sequence: part.first.saturating_add(index),
                path: path.clone(),
                data: reader.piece().await?,
                ..AppendRecordsRequest::default()
            };
            if pieces.send(request).await.is_err() {
                return Ok(());
            }
        }
        reader.finish().await?;
    }
    // The stream stays open until the server has acknowledged everything.
    pieces.closed().await;
    Ok(())
}

/// Reads a file of known size.
struct Reader {
    path: PathBuf,
    file: fs::File,
    left: u64,
}

impl Reader {
    async fn open(file: &File, offset: u64) -> Result<Self, Failure> {
        let fail = |source| Failure::read(&file.path, source);
        let mut opened = fs::File::open(&file.path).await.map_err(fail)?;
        opened.seek(std::io::SeekFrom::Start(offset)).await.map_err(fail)?;
        Ok(Self { path: file.path.clone(), file: opened, left: file.size.saturating_sub(offset) })
    }

    async fn piece(&mut self) -> Result<Bytes, Failure> {
        let size = self.left.min(PIECE);
        let mut data = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
        let mut limited = (&mut self.file).take(size);
        while limited
            .read_buf(&mut data)
            .await
            .map_err(|source| Failure::read(&self.path, source))?
            > 0
        {}
        if u64::try_from(data.len()).unwrap_or_default() < size {
            return Err(self.changed());
        }
        self.left = self.left.saturating_sub(size);
        Ok(data.freeze())
    }

    async fn finish(mut self) -> Result<(), Failure> {
        let more =
            self.file.read(&mut [0]).await.map_err(|source| Failure::read(&self.path, source))?;
        if more > 0 { Err(self.changed()) } else { Ok(()) }
    }

    fn changed(&self) -> Failure {
        Failure::failed(format!("{} changed while it was uploaded; try again", self.path.display()))
    }
}

#[cfg(test)]
mod tests;
