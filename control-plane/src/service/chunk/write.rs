//! `WriteChunks`: takes blobs in pieces, verifies them, makes them durable, acknowledges.
//!
//! What has arrived is stored together, up to a few MiB. What all streams hold in memory is bounded, and of one project's less than that, so that nobody
//! keeps the others from writing; so is how long a stream may be silent, and how long a blob may take.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use countersign_engine::snapshot::{
    digest::Digest,
    wire::{decode_digest, encode_digest},
};
use countersign_proto::discovery::v1::{WriteChunksRequest, WriteChunksResponse};
use futures_util::FutureExt as _;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tonic::{Code, Status, Streaming};

use crate::{
    held,
    import::staging::StagingError,
    service::{Plane, Problem, name::Name, snapshot},
    store::{Kind, Record, StoreError, blocking},
    turns::{Turn, Turns},
};

/// The largest blob: a chunk of one pair, which is read from a text of 64 MiB at most, with room to spare.
pub(super) const MAX_CHUNK: u64 = 128 * 1024 * 1024;
/// The largest piece.
pub(super) const MAX_PIECE: usize = 1024 * 1024;
/// A batch is stored at this size at the latest.
const BATCH: u64 = 4 * 1024 * 1024;
/// A stream may be silent for so long.
const SILENCE: Duration = Duration::from_secs(60);
/// A blob has to come at so many bytes a second, after a minute.
const PACE: u64 = 512 * 1024;

pub(super) type Answers = mpsc::Sender<Result<WriteChunksResponse, Status>>;

/// Bounds the bytes of blobs that all streams hold in memory.
#[derive(Debug, Clone)]
pub(super) struct Memory(Arc<Turns>);

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(Turns::new(Self::EACH, 2 * Self::EACH)))
    }
}

impl Memory {
    /// What one project may hold, in KiB: one of the largest blobs. All together hold two.
    const EACH: usize = 128 * 1024;

    fn needed(size: u64) -> u32 {
        u32::try_from(size.div_ceil(1024)).unwrap_or(u32::MAX)
    }

    /// Room for a blob of a project, if there is some now.
    fn now(&self, project: &str, size: u64) -> Option<Turn> {
        self.0.try_many(project, Self::needed(size))
    }

    /// Waits for room.
    async fn wait(&self, project: &str, size: u64) -> Result<Turn, Problem> {
        let room = self.0.take_many(project, Self::needed(size));
        match timeout(SILENCE, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => Err(StoreError::Stopped.into()),
            Err(_) => {
                let message = "too much is being written at the same time; try again".to_owned();
                Err(Problem::Unavailable { reason: "BUSY", message })
            }
        }
    }
}

/// Serves one stream.
pub(super) async fn run(
    plane: Arc<Plane>,
    memory: Memory,
    mut requests: Streaming<WriteChunksRequest>,
    answers: Answers,
) {
    let ended = tokio::select! {
        ended = serve(&plane, memory, &mut requests, &answers) => ended,
        () = plane.stopping.cancelled() => {
            let message = "the control plane is shutting down; ask what is missing, and go on".to_owned();
            Err(Problem::Unavailable { reason: "STOPPING", message }.into())
        }
    };
    if let Err(status) = ended {
        // The client may be gone; then nobody is left to tell.
        drop(answers.send(Err(status)).await);
    }
}

async fn serve(
    plane: &Plane,
    memory: Memory,
    requests: &mut Streaming<WriteChunksRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let Some(first) = next(requests).await? else { return Ok(()) };
    let name = Name::parse(Kind::Snapshot, "snapshot", &first.snapshot)?;
    let snapshot = snapshot::open(plane, &name.full).await?;
    let held = held::of(&*plane.meta, &snapshot).await.map_err(Problem::from)?;
    let limit = plane.staging.limit();
    let written: u64 = held.iter().map(Digest::size).sum();
    let room = limit.saturating_sub(written);
    let mut writing = Writing {
        plane,
        project: name.project,
        snapshot,
        memory,
        answers,
        room,
        limit,
        held,
        open: None,
        batch: Vec::new(),
        size: 0,
    };
    let received = writing.receive(first, requests).await;
    // What came before a bad piece, or before the end, is kept and acknowledged.
    writing.store().await?;
    received
}

/// The next message, which has to come in time.
async fn next(
    requests: &mut Streaming<WriteChunksRequest>,
) -> Result<Option<WriteChunksRequest>, Status> {
    timeout(SILENCE, requests.message()).await.unwrap_or_else(|_| {
        let message = format!("nothing came for {} seconds", SILENCE.as_secs());
        Err(Problem::Unavailable { reason: "UPLOAD_PAUSED", message }.into())
    })
}

/// A blob of which there are still pieces to come.
struct Open {
    digest: Digest,
    data: BytesMut,
    room: Turn,
    since: Instant,
}

impl Open {
    /// Whether it has taken so long that it only keeps room from others.
    fn is_late(&self, now: Instant) -> bool {
        let patience = SILENCE + Duration::from_secs(self.digest.size() / PACE);
        now.saturating_duration_since(self.since) > patience
    }
}

/// A blob that is there as a whole.
struct Whole {
    digest: Digest,
    bytes: Bytes,
    _room: Turn,
}

struct Writing<'p> {
    plane: &'p Plane,
    project: String,
    snapshot: Record,
    memory: Memory,
    answers: &'p Answers,
    /// How many bytes more the snapshot may have.
    room: u64,
    limit: u64,
    /// What the snapshot has already, which costs nothing when it comes again.
    held: HashSet<Digest>,
    open: Option<Open>,
    batch: Vec<Whole>,
    size: u64,
}

impl Writing<'_> {
    async fn receive(
        &mut self,
        first: WriteChunksRequest,
        requests: &mut Streaming<WriteChunksRequest>,
    ) -> Result<(), Status> {
        let mut request = Some(first);
        while let Some(piece) = request.take() {
            if !piece.snapshot.is_empty() && piece.snapshot != self.snapshot.name {
                let message = "one stream writes for one snapshot; open another stream for another";
                return Err(Problem::field("snapshot", "SNAPSHOT_CHANGED", message).into());
            }
            self.take(piece).await?;
            if self.size < BATCH {
                request = requests.message().now_or_never().transpose()?.flatten();
            }
            if request.is_none() {
                self.store().await?;
                request = next(requests).await?;
            }
        }
        match &self.open {
            None => Ok(()),
            Some(open) => {
                let message = format!("the stream ended within the chunk {}", open.digest);
                Err(Problem::field("last", "CHUNK_INCOMPLETE", message).into())
            }
        }
    }

    async fn take(&mut self, piece: WriteChunksRequest) -> Result<(), Status> {
        if piece.data.len() > MAX_PIECE {
            let message = format!("a piece may have {MAX_PIECE} bytes");
            return Err(Problem::field("data", "PIECE_TOO_LARGE", message).into());
        }
        let mut open = match (self.open.take(), piece.digest) {
            (Some(open), None) => open,
            (None, Some(digest)) => {
                let digest = decode_digest(&digest).map_err(|error| {
                    Problem::field("digest", "INVALID_DIGEST", error.to_string())
                })?;
                self.begin(digest).await?
            }
            (None, None) => {
                let message = "the first piece of a chunk needs its digest";
                return Err(Problem::field("digest", "DIGEST_MISSING", message).into());
            }
            (Some(open), Some(_)) => {
                let message = format!("the last piece of {} has not come yet", open.digest);
                return Err(Problem::field("digest", "CHUNK_INCOMPLETE", message).into());
            }
        };
        if open.is_late(Instant::now()) {
            let message = format!("the chunk {} came too slowly", open.digest);
            return Err(Problem::Unavailable { reason: "UPLOAD_TOO_SLOW", message }.into());
        }
        let size = u64::try_from(open.data.len() + piece.data.len()).unwrap_or(u64::MAX);
        if size > open.digest.size() || (piece.last && size < open.digest.size()) {
            return Err(mismatch(open.digest).into());
        }
        open.data.extend_from_slice(&piece.data);
        if piece.last {
            let Open { digest, data, room, .. } = open;
            self.size = self.size.saturating_add(size);
            self.batch.push(Whole { digest, bytes: data.freeze(), _room: room });
        } else {
            self.open = Some(open);
        }
        Ok(())
    }

    /// Makes room for a blob.
    async fn begin(&mut self, digest: Digest) -> Result<Open, Status> {
        if digest.size() > MAX_CHUNK {
            let message = format!("the chunk {digest} is larger than {MAX_CHUNK} bytes");
            let (code, reason) = (Code::InvalidArgument, "CHUNK_TOO_LARGE");
            return Err(Problem::Blob { code, reason, digest, message }.into());
        }
        if !self.held.contains(&digest) {
            self.room = self
                .room
                .checked_sub(digest.size())
                .ok_or_else(|| Problem::from(StagingError::OverQuota { limit: self.limit }))?;
            self.plane.quota.take(self.plane, &self.project, digest.size()).await?;
        }
        let room = match self.memory.now(&self.project, digest.size()) {
            Some(room) => room,
            None => {
                // Whoever waits for room gives back first what it has.
                self.store().await?;
                self.memory.wait(&self.project, digest.size()).await?
            }
        };
        Ok(Open { digest, data: BytesMut::new(), room, since: Instant::now() })
    }

    /// Verifies and stores what is there as a whole, and acknowledges it.
    async fn store(&mut self) -> Result<(), Status> {
        self.size = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        let (sound, bad) = blocking(move || verify(batch)).await.map_err(Problem::from)?;
        self.keep(&sound).await?;
        for whole in sound {
            let digest = Some(encode_digest(&whole.digest));
            if self.answers.send(Ok(WriteChunksResponse { digest })).await.is_err() {
                // Nobody hears what happens to the rest.
                return Err(Status::cancelled("the client has gone"));
            }
        }
        bad.map_or(Ok(()), |digest| Err(mismatch(digest).into()))
    }

    async fn keep(&mut self, sound: &[Whole]) -> Result<(), Problem> {
        if sound.is_empty() {
            return Ok(());
        }
        let storing = self.plane.storing().await?;
        let digests: Vec<Digest> = sound.iter().map(|whole| whole.digest).collect();
        let blobs = sound.iter().map(|whole| (whole.digest, whole.bytes.clone()));
        self.plane.blobs.put_named(blobs.collect()).await?;
        held::add(self.plane, &self.snapshot, storing, &digests).await?;
        // What was thrown away meanwhile must not be acknowledged.
        snapshot::open(self.plane, &self.snapshot.name).await?;
        self.held.extend(digests);
        Ok(())
    }
}

/// What comes before the first that is not what its digest says, and the digest of that.
fn verify(mut batch: Vec<Whole>) -> (Vec<Whole>, Option<Digest>) {
    let bad = batch.iter().position(|whole| !whole.digest.matches(&whole.bytes));
    let rest = bad.map(|at| batch.split_off(at)).unwrap_or_default();
    (batch, rest.first().map(|whole| whole.digest))
}

fn mismatch(digest: Digest) -> Problem {
    let message =
        format!("the bytes that came for the chunk {digest} are not the ones that it names");
    let (code, reason) = (Code::InvalidArgument, "DIGEST_MISMATCH");
    Problem::Blob { code, reason, digest, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_project_leaves_room_to_another() {
        let memory = Memory::default();
        let held = memory.now("projects/a", MAX_CHUNK).unwrap();
        assert!(memory.now("projects/a", 1).is_none());
        let other = memory.now("projects/b", MAX_CHUNK).unwrap();
        drop((held, other));
        assert!(memory.now("projects/a", MAX_CHUNK).is_some());
    }

    #[test]
    fn a_blob_that_trickles_in_holds_its_room_for_a_bounded_time() {
        let since = Instant::now();
        let digest = Digest::of(b"small");
        let room = Memory::default().now("projects/a", digest.size()).unwrap();
        let open = Open { digest, data: BytesMut::new(), room, since };
        assert!(!open.is_late(since + SILENCE));
        assert!(open.is_late(since + SILENCE + Duration::from_secs(1)));
    }
}
