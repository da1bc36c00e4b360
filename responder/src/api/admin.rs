//! Looks into the responder and steers it. No key, token or body is told.

mod journal;

use std::sync::Arc;

use countersign_engine::{
    sequences::{Selection, Sequence},
    snapshot::{
        digest::Digest,
        wire::{encode_diagnostic, encode_digest, encode_secret_ref, timestamp},
    },
};
use countersign_proto::responder::v1::{
    self as proto, DrainRequest, DrainResponse, DumpRequest, DumpResponse, GetStatusRequest,
    GetStatusResponse, ListJournalRequest, ListJournalResponse, ListSequencesRequest,
    ListSequencesResponse, LoadedKey, LoadedReplay, RejectedBundle, ResetRequest, ResetResponse,
    SequenceSelector, admin_service_server::AdminService,
};
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status};

use super::{Shared, explain::select, problem::Problem};
use crate::{
    readiness::Source,
    sequence::ListState,
    snapshots::{Rejected, Replay},
};

const PAGE: usize = 50;
const MAX_PAGE: usize = 1000;

/// The service.
#[derive(Debug)]
pub(super) struct Administration {
    pub(super) shared: Arc<Shared>,
}

#[tonic::async_trait]
impl AdminService for Administration {
    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(status(&self.shared)))
    }

    async fn dump(&self, request: Request<DumpRequest>) -> Result<Response<DumpResponse>, Status> {
        Ok(Response::new(self.dump(&request.into_inner().replay).await?))
    }

    async fn list_sequences(
        &self,
        request: Request<ListSequencesRequest>,
    ) -> Result<Response<ListSequencesResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn list_journal(
        &self,
        request: Request<ListJournalRequest>,
    ) -> Result<Response<ListJournalResponse>, Status> {
        Ok(Response::new(journal::list(&self.shared.admin, request.into_inner()).await?))
    }

    async fn reset(
        &self,
        request: Request<ResetRequest>,
    ) -> Result<Response<ResetResponse>, Status> {
        Ok(Response::new(self.reset(request.into_inner()).await?))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        tracing::info!("told to end over the API; draining");
        self.shared.end.cancel();
        Ok(Response::new(DrainResponse {}))
    }
}

fn status(shared: &Shared) -> GetStatusResponse {
    let admin = &shared.admin;
    let flags = admin.readiness.flags();
    let reasons = admin.readiness.reasons();
    let table = admin.snapshots.load_full();
    let source = match flags.source {
        Source::Nothing => proto::Source::Unspecified,
        Source::Disk => proto::Source::Disk,
        Source::ControlPlane => proto::Source::ControlPlane,
    };
    GetStatusResponse {
        name: admin.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        project: admin.project.clone(),
        data_address: admin.entrances.data.to_string(),
        ready: reasons.is_empty(),
        reasons,
        draining: flags.draining || shared.end.is_cancelled(),
        control_plane: admin.control_plane.clone().unwrap_or_default(),
        connected: flags.connected,
        problem: flags.problem.unwrap_or_default(),
        source: source.into(),
        replays: table.replays.iter().map(|replay| replay.assignment.name.clone()).collect(),
        pairs: table.replays.iter().map(|replay| wide(replay.pairs)).sum(),
    }
}

impl Administration {
    /// The replay that is asked for, or all.
    fn replays(&self, wanted: &str) -> Result<Vec<Arc<Replay>>, Problem> {
        let table = self.shared.admin.snapshots.load_full();
        select(&table, (!wanted.is_empty()).then_some(wanted))
    }

    async fn dump(&self, wanted: &str) -> Result<DumpResponse, Problem> {
        let admin = &self.shared.admin;
        let table = admin.snapshots.load_full();
        let chosen = match wanted {
            "" => table.replays.clone(),
            wanted => self.replays(wanted)?,
        };
        // Counting looks at every list of answers.
        let loaded = blocking(move || chosen.iter().map(|replay| load(replay)).collect()).await?;
        let keys = admin.secrets.reports().into_iter().map(|(secret, report)| {
            let (problem_code, problem) = report.problem.unwrap_or_default();
            LoadedKey {
                secret: Some(encode_secret_ref(&secret)),
                resolved: report.resolved,
                kind: report.kind,
                thumbprint: report.thumbprint.unwrap_or_default(),
                generation: report.generation,
                problem_code: problem_code.to_owned(),
                problem,
            }
        });
        Ok(DumpResponse {
            replays: loaded,
            awaited: table.awaited.iter().cloned().collect(),
            rejected: table
                .rejected
                .iter()
                .map(|(name, rejected)| reject(name, rejected))
                .collect(),
            keys: keys.collect(),
        })
    }

    async fn list(&self, asked: ListSequencesRequest) -> Result<ListSequencesResponse, Problem> {
        let replays = self.replays(&asked.replay)?;
        let [replay] = replays.as_slice() else {
            let message = "several replays are served: name one";
            return Err(Problem::field("replay", "MISSING", message));
        };
        let selection = selection(asked.selector);
        let page_size = match usize::try_from(asked.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(MAX_PAGE),
            Err(_) => {
                return Err(Problem::field("page_size", "INVALID", "it is not negative"));
            }
        };
        let page = Page::of(&replay.assignment.bundle, &selection);
        let from = page.read(&asked.page_token)?;
        let (name, replay) = (replay.assignment.name.clone(), Arc::clone(replay));
        let sequences = &self.shared.admin.sequences;
        sequences.tell(&replay);
        let all = blocking(move || replay.serving.snapshot().sequences(&selection)).await?;
        let mut chosen = Vec::new();
        let mut next_page_token = String::new();
        for (nth, list) in all.into_iter().enumerate().skip(from) {
            if asked.moved_only && list.taken == 0 {
                continue;
            }
            if chosen.len() == page_size {
                next_page_token = page.write(nth);
                break;
            }
            let state = list.shared.and_then(|shared| sequences.list(&name, shared));
            chosen.push(encode(list, state.as_ref()));
        }
        Ok(ListSequencesResponse { sequences: chosen, next_page_token, replay: name })
    }

    async fn reset(&self, asked: ResetRequest) -> Result<ResetResponse, Problem> {
        let replays = self.replays(&asked.replay)?;
        let selection = selection(asked.selector);
        let names: Vec<String> =
            replays.iter().map(|replay| replay.assignment.name.clone()).collect();
        let task = move || {
            let reset = |replay: &Arc<Replay>| {
                let snapshot = replay.serving.snapshot();
                // Where everything is meant, no list has to be named.
                let all = selection.is_all();
                let shared = (!all).then(|| snapshot.shared_among(&selection));
                (snapshot.reset_selected(&selection), shared)
            };
            replays.iter().map(reset).collect::<Vec<_>>()
        };
        let mut moved = 0;
        for (name, (count, shared)) in names.iter().zip(blocking(task).await?) {
            moved += count;
            if shared.as_ref().is_none_or(|lists| !lists.is_empty()) {
                self.shared.admin.sequences.reset(name, &shared.unwrap_or_default()).await;
            }
        }
        Ok(ResetResponse { replays: names, sequences: wide(moved) })
    }
}

/// Work that may take a while with a large snapshot.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    spawn_blocking(work).await.map_err(|_| Problem::Defect)
}

/// A place in the lists of a snapshot, which are the same as long as it is served.
struct Page(String);

impl Page {
    fn of(bundle: &Digest, selection: &Selection) -> Self {
        let digest = Digest::of(format!("{bundle} {selection:?}").as_bytes()).to_hex();
        Self(digest.chars().take(16).collect())
    }

    fn write(&self, at: usize) -> String {
        format!("{}-{at}", self.0)
    }

    fn read(&self, token: &str) -> Result<usize, Problem> {
        if token.is_empty() {
            return Ok(0);
        }
        let at = token.split_once('-').filter(|(digest, _)| *digest == self.0);
        at.and_then(|(_, at)| at.parse().ok()).ok_or_else(|| {
            let message = "it is of another selection, or of another version of the replay";
            Problem::field("page_token", "INVALID_PAGE_TOKEN", message)
        })
    }
}

fn selection(selector: Option<SequenceSelector>) -> Selection {
    let selector = selector.unwrap_or_default();
    let wanted = |text: String| (!text.is_empty()).then_some(text);
    Selection {
        method: wanted(selector.method),
        path: wanted(selector.path),
        identity: wanted(selector.identity),
    }
}

fn encode(list: Sequence, state: Option<&ListState>) -> proto::Sequence {
    let scope = if list.shared.is_some() {
        proto::SequenceScope::Fleet
    } else {
        proto::SequenceScope::Node
    };
    let owner = state.and_then(|state| state.owner.as_deref());
    proto::Sequence {
        scope: scope.into(),
        list_id: list.shared.map(|shared| shared.to_string()).unwrap_or_default(),
        owner: owner.unwrap_or_default().to_owned(),
        discontinuities: state.map_or(0, |state| state.discontinuities),
        method: list.method,
        host: list.host,
        path: list.path,
        signature_id: format!("{:016x}", list.signature),
        identity: list.identity.unwrap_or_default(),
        epoch: list.epoch,
        answers: wide(list.answers),
        taken: list.taken,
        next: wide(list.next),
        next_ordinal: list.next_ordinal,
    }
}

fn load(replay: &Replay) -> LoadedReplay {
    let assignment = &replay.assignment;
    let snapshot = replay.serving.snapshot();
    let counts = snapshot.counts();
    LoadedReplay {
        name: assignment.name.clone(),
        bundle: Some(encode_digest(&assignment.bundle)),
        generation: assignment.generation,
        start_time: Some(timestamp(assignment.start_time)),
        revision: assignment.revision,
        pairs: wide(replay.pairs),
        signatures: wide(snapshot.signatures()),
        tokens: wide(snapshot.tokens()),
        identities: wide(counts.identities),
        sequences: wide(counts.sequences),
        moved: wide(counts.moved),
        steps: counts.steps,
        key_generation: replay.serving.key_generation(),
        secrets: replay.secrets.iter().map(encode_secret_ref).collect(),
        snapshot_manifest: replay.blobs.last().map(encode_digest),
        blobs: wide(replay.blobs.len()),
        diagnostics: replay.serving.diagnostics().iter().map(encode_diagnostic).collect(),
    }
}

fn reject(name: &str, rejected: &Rejected) -> RejectedBundle {
    RejectedBundle {
        replay: name.to_owned(),
        bundle: Some(encode_digest(&rejected.bundle)),
        generation: rejected.generation,
        diagnostics: rejected.diagnostics.iter().map(encode_diagnostic).collect(),
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
