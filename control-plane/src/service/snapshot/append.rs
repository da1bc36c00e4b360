//! `AppendRecords`: takes pieces, makes them durable, acknowledges. [`once`] does the same in one call.
//!
//! Acknowledgements are batched: whatever has arrived, up to 4 MiB, is synced once.

use std::{sync::Arc, time::Duration};

use countersign_proto::control::v1::{AppendRecordsRequest, AppendRecordsResponse};
use futures_util::FutureExt as _;
use tokio::{sync::mpsc, time::timeout};
use tonic::{Status, Streaming};

use super::mirror::Mirror;
use crate::{
    import::{
        staging::{Log, Piece, StagingError},
        uploads::Turn,
    },
    service::{Plane, Problem, name::Name},
    store::{self, Kind, StoreError},
};

type Answers = mpsc::Sender<Result<AppendRecordsResponse, Status>>;

/// A batch is synced at this size at the latest.
const BATCH: usize = 4 * 1024 * 1024;
/// An upload from which somebody takes over may end by itself for so long.
const LAST_WORD: Duration = Duration::from_millis(200);

/// Serves one stream.
pub(super) async fn run(
    plane: Arc<Plane>,
    mut requests: Streaming<AppendRecordsRequest>,
    answers: Answers,
) {
    let ended = tokio::select! {
        ended = serve(&plane, &mut requests, &answers) => ended,
        () = plane.stopping.cancelled() => {
            Err(Problem::Unavailable { reason: "STOPPING", message: "the control plane is shutting down; reopen the upload".to_owned() }.into())
        }
    };
    if let Err(status) = ended {
        // The client may be gone; then nobody is left to tell.
        drop(answers.send(Err(status)).await);
    }
}

async fn serve(
    plane: &Plane,
    requests: &mut Streaming<AppendRecordsRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let Some(first) = requests.message().await? else { return Ok(()) };
    let name = door(&first.name, &first.upload_id)?;
    let turn = plane.uploads.take_over(&name.full).await;
    super::open(plane, &name.full).await?;
    let _here = plane.appending.enter(&name.full);
    let upload_id = first.upload_id.clone();
    let mirror = Mirror::of(plane, &name.full, &upload_id);
    let log = open(plane, &name, &upload_id, mirror).await?;
    turn.grown();
    Upload { plane, name: &name, upload_id: &upload_id, turn, mirror }
        .receive(first, log, requests, answers)
        .await
}

/// Takes pieces in one call, and returns the last durable sequence.
pub(crate) async fn once(
    plane: &Plane,
    name: &str,
    upload_id: &str,
    pieces: Vec<AppendRecordsRequest>,
) -> Result<u64, Problem> {
    let name = door(name, upload_id)?;
    let turn = plane.uploads.take_over(&name.full).await;
    super::open(plane, &name.full).await?;
    let _here = plane.appending.enter(&name.full);
    let mirror = Mirror::of(plane, &name.full, upload_id);
    let mut log = open(plane, &name, upload_id, mirror).await?;
    let upload = Upload { plane, name: &name, upload_id, turn, mirror };
    let bytes: usize =
        pieces.iter().map(|piece| Log::frame(piece.path.len(), piece.data.len())).sum();
    let room = Room::take(plane, &name.project, bytes, &mut log).await?;
    let mut shared = Vec::new();
    for piece in pieces {
        shared.extend(upload.take(piece, &mut log)?);
    }
    room.used(&log);
    let (_, committed) = upload.keep(log, shared).await?;
    Ok(committed?)
}

/// The snapshot that an upload is for, once its id is one.
fn door(name: &str, upload_id: &str) -> Result<Name, Problem> {
    let name = Name::parse(Kind::Snapshot, "name", name)?;
    if upload_id.is_empty() || upload_id.len() > 200 {
        return Err(Problem::field(
            "upload_id",
            "INVALID_UPLOAD_ID",
            "an upload id has 1 to 200 bytes, and is the same for the whole upload",
        ));
    }
    Ok(name)
}

async fn open(
    plane: &Plane,
    name: &Name,
    upload_id: &str,
    mirror: Option<Mirror<'_>>,
) -> Result<Log, Problem> {
    if let Some(mirror) = mirror {
        return mirror.open().await;
    }
    let (staging, upload_id, full) =
        (plane.staging.clone(), upload_id.to_owned(), name.full.clone());
    Ok(store::blocking(move || staging.open(&full, &upload_id)).await??)
}

/// What the project may still store, for as long as pieces are taken.
struct Room<'p> {
    plane: &'p Plane,
    project: &'p str,
    granted: u64,
    before: u64,
}

impl<'p> Room<'p> {
    /// Takes so many bytes, or as many as there are, and lets the log grow by them.
    async fn take(
        plane: &'p Plane,
        project: &'p str,
        bytes: usize,
        log: &mut Log,
    ) -> Result<Self, Problem> {
        let wanted = u64::try_from(bytes).unwrap_or(u64::MAX);
        let granted = plane.quota.take_up_to(plane, project, wanted).await?;
        log.bound(granted);
        Ok(Self { plane, project, granted, before: log.bytes() })
    }

    /// Gives back what the log has not grown by.
    fn used(self, log: &Log) {
        let used = log.bytes().saturating_sub(self.before);
        self.plane.quota.give_back(self.project, self.granted.saturating_sub(used));
    }
}

struct Upload<'p> {
    plane: &'p Plane,
    name: &'p Name,
    upload_id: &'p str,
    turn: Turn,
    mirror: Option<Mirror<'p>>,
}

impl Upload<'_> {
    async fn receive(
        &self,
        first: AppendRecordsRequest,
        mut log: Log,
        requests: &mut Streaming<AppendRecordsRequest>,
        answers: &Answers,
    ) -> Result<(), Status> {
        if !acknowledge(answers, log.committed()).await {
            return Ok(());
        }
        let mut next = Some(first);
        while let Some(request) = next.take() {
            let mut pieces = Vec::new();
            let room = Room::take(self.plane, &self.name.project, 2 * BATCH, &mut log).await?;
            let taken = self.batch(request, &mut log, &mut pieces, requests);
            room.used(&log);
            // What came before a bad piece is kept and acknowledged.
            let committed;
            (log, committed) = self.keep(log, pieces).await?;
            let committed = committed.map_err(Problem::from)?;
            if !acknowledge(answers, committed).await {
                return Ok(());
            }
            taken?;
            next = tokio::select! {
                message = requests.message() => message?,
                () = self.turn.displaced() => {
                    // A commit that has read all of it may be faster than the end of the stream.
                    if let Ok(Ok(None)) = timeout(LAST_WORD, requests.message()).await {
                        return Ok(());
                    }
                    let message = format!("another stream took over the upload to {}", self.name.full);
                    return Err(Problem::Aborted { reason: "UPLOAD_TAKEN_OVER", message }.into());
                }
            };
        }
        Ok(())
    }

    /// Makes durable what was taken, and lets others know of it.
    async fn keep(
        &self,
        mut log: Log,
        pieces: Vec<Piece>,
    ) -> Result<(Log, Result<u64, StoreError>), Problem> {
        let (log, synced) = store::blocking(move || {
            let synced = log.sync();
            (log, synced)
        })
        .await?;
        self.turn.grown();
        if synced.is_ok()
            && let Some(mirror) = self.mirror
        {
            mirror.share(pieces).await?;
            // What another control plane has thrown away must not be acknowledged.
            self.plane.get(Kind::Snapshot, &self.name.full).await?;
        }
        Ok((log, synced))
    }

    /// Takes a piece and whatever else has arrived.
    fn batch(
        &self,
        first: AppendRecordsRequest,
        log: &mut Log,
        pieces: &mut Vec<Piece>,
        requests: &mut Streaming<AppendRecordsRequest>,
    ) -> Result<(), Status> {
        let mut size = 0_usize;
        let mut next = Some(first);
        while let Some(request) = next.take() {
            size = size.saturating_add(request.data.len());
            pieces.extend(self.take(request, log)?);
            if size < BATCH {
                next = requests.message().now_or_never().transpose()?.flatten();
            }
        }
        Ok(())
    }

    /// Takes a piece, and returns it where it has to be shared.
    fn take(&self, request: AppendRecordsRequest, log: &mut Log) -> Result<Option<Piece>, Problem> {
        let differs = |given: &str, known: &str| !given.is_empty() && given != known;
        if differs(&request.name, &self.name.full) || differs(&request.upload_id, self.upload_id) {
            let message = "one stream carries one upload to one snapshot; open another stream for another upload";
            return Err(Problem::field("upload_id", "UPLOAD_CHANGED", message));
        }
        // Only opens the stream, to ask how far the upload has come.
        if request.sequence == 0 && request.path.is_empty() && request.data.is_empty() {
            return Ok(None);
        }
        if request.sequence == 0 {
            return Err(Problem::field(
                "sequence",
                "INVALID_SEQUENCE",
                "pieces are counted from 1",
            ));
        }
        if request.path.is_empty() {
            return Err(Problem::field(
                "path",
                "INVALID_PATH",
                "the path of the file that the bytes belong to is missing",
            ));
        }
        let piece = Piece { sequence: request.sequence, path: request.path, data: request.data };
        log.append(&piece).map_err(|error| match error {
            StagingError::NoRoom => self.plane.quota.refusal(&self.name.project),
            error => Problem::from(error),
        })?;
        Ok(self.mirror.map(|_| piece))
    }
}

async fn acknowledge(answers: &Answers, committed_sequence: u64) -> bool {
    answers.send(Ok(AppendRecordsResponse { committed_sequence })).await.is_ok()
}
