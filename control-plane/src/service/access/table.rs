//! The table: for each method of each service the least role that may call it, and which of its fields name what it is about.
//!
//! What is not in the table may be called by nobody.

use countersign_proto::{
    control::v1::{
        AnalyzeTokensRequest, AppendPiecesRequest, AppendRecordsRequest, CloneTestConfigRequest,
        CommitSnapshotManifestRequest, CommitSnapshotRequest, CompareReportsRequest,
        CreateReplayRequest, CreateSnapshotRequest, CreateTestConfigRequest,
        CreateTransformRequest, DeleteReplayRequest, DeleteSnapshotRequest,
        DeleteTestConfigRequest, DeleteTransformRequest, ExplainRequestRequest, GetPairRequest,
        GetReplayRequest, GetReportRequest, GetSnapshotRequest, GetTestConfigRequest,
        GetTransformRequest, ListPairsRequest, ListRecordsRequest, ListReplaysRequest,
        ListReportsRequest, ListRespondersRequest, ListSnapshotsRequest, ListTestConfigsRequest,
        ListTransformsRequest, PreviewTransformRequest, ReadRecordsRequest, RetryReplayRequest,
        RollbackReplayRequest, StartReplayRequest, StopReplayRequest, SuggestTransformRequest,
        SummarizeTrafficRequest, UpdateTestConfigRequest, UpdateTransformRequest,
        ValidateTransformRequest, WatchReplayRequest, WatchReportRequest,
        preview_transform_request::{Pair, Template},
    },
    discovery::v1::{FindMissingChunksRequest, ReadChunksRequest, WriteChunksRequest},
};
use prost::{DecodeError, Message};

use crate::{
    auth::rights::Level,
    service::{
        Problem,
        name::{self, Name},
    },
    store::Kind,
};

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Least {
    /// Everybody, whoever they are.
    Anybody,
    /// Users with at least this role in the project that the call is about.
    User(Level),
    /// The same, and responders; the service judges what of their project these may have.
    ResponderOr(Level),
    /// Responders; the service judges whether it is the one that it says it is.
    Responder,
}

/// Whether a method changes anything that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Reads,
    Changes,
}

/// A method.
#[derive(Debug)]
pub(crate) struct Row {
    /// `/{service}/{method}`.
    pub(crate) path: &'static str,
    pub(crate) least: Least,
    pub(crate) effect: Effect,
    /// What the first message names; `None` where it names nothing that belongs to a project, or the service reads it for itself.
    pub(crate) names: Option<Names>,
}

type Names = fn(&[u8]) -> Result<Vec<Mention>, DecodeError>;

/// A resource or project that a message names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    field: &'static str,
    /// `None` for a project.
    kind: Option<Kind>,
    text: String,
    /// Whether the call is about it; otherwise it is only read.
    pub(crate) is_subject: bool,
}

impl Mention {
    /// The id of the project that it belongs to.
    pub(crate) fn project(&self) -> Result<String, Problem> {
        let project = match self.kind {
            Some(kind) => Name::parse(kind, self.field, &self.text)?.project,
            None => name::project(self.field, &self.text)?,
        };
        Ok(project.strip_prefix("projects/").unwrap_or(&project).to_owned())
    }

    /// What is said of it to whoever has nothing to do with its project: the same as if it did not exist.
    pub(crate) fn absent(&self) -> Problem {
        match self.kind {
            Some(kind) => Problem::NotFound { kind, name: self.text.clone() },
            None => Problem::Protocol {
                code: tonic::Code::NotFound,
                reason: "PROJECT_NOT_FOUND",
                message: format!("there is no project {}", self.text),
            },
        }
    }

    /// The name as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

fn read<M: Message + Default>(
    bytes: &[u8],
    names: impl FnOnce(M) -> Vec<Mention>,
) -> Result<Vec<Mention>, DecodeError> {
    M::decode(bytes).map(names)
}

/// What the call is about.
fn about(kind: Kind, text: String) -> Vec<Mention> {
    vec![Mention { field: "name", kind: Some(kind), text, is_subject: true }]
}

/// The snapshot that the call is about, where a field of another name says so.
fn subject(field: &'static str, text: String) -> Vec<Mention> {
    vec![Mention { field, kind: Some(Kind::Snapshot), text, is_subject: true }]
}

/// The project that the call is about.
fn within(text: String) -> Vec<Mention> {
    vec![Mention { field: "parent", kind: None, text, is_subject: true }]
}

trait And: Sized {
    /// And something that it reads, if it is named.
    fn and(self, kind: Kind, field: &'static str, text: String) -> Self;
}

impl And for Vec<Mention> {
    fn and(mut self, kind: Kind, field: &'static str, text: String) -> Self {
        if !text.is_empty() {
            self.push(Mention { field, kind: Some(kind), text, is_subject: false });
        }
        self
    }
}

fn replay(request: CreateReplayRequest) -> Vec<Mention> {
    let replay = request.replay.unwrap_or_default();
    within(request.parent)
        .and(Kind::Snapshot, "replay.snapshot", replay.snapshot)
        .and(Kind::Transform, "replay.transform", replay.transform)
        .and(Kind::TestConfig, "replay.test_config", replay.test_config)
}

fn preview(request: PreviewTransformRequest) -> Vec<Mention> {
    let transform = match request.template {
        Some(Template::Transform(transform)) => transform,
        _ => String::new(),
    };
    let snapshot = match request.pair {
        Some(Pair::Record(record)) => record.snapshot,
        _ => String::new(),
    };
    within(request.parent).and(Kind::Transform, "transform", transform).and(
        Kind::Snapshot,
        "record.snapshot",
        snapshot,
    )
}

fn blobs(request: ReadChunksRequest) -> Vec<Mention> {
    let of = |kind, field, text| Mention { field, kind: Some(kind), text, is_subject: true };
    let ReadChunksRequest { replay, snapshot, .. } = request;
    let mut all = Vec::new();
    if !snapshot.is_empty() {
        all.push(of(Kind::Snapshot, "snapshot", snapshot));
    }
    // Neither of both is the replay without a name.
    if !replay.is_empty() || all.is_empty() {
        all.push(of(Kind::Replay, "replay", replay));
    }
    all
}

const VIEWER: Least = Least::User(Level::Viewer);
const EDITOR: Least = Least::User(Level::Editor);
const OPERATOR: Least = Least::User(Level::Operator);

const fn reads(path: &'static str, least: Least, names: Names) -> Row {
    Row { path, least, effect: Effect::Reads, names: Some(names) }
}

const fn changes(path: &'static str, least: Least, names: Names) -> Row {
    Row { path, least, effect: Effect::Changes, names: Some(names) }
}

const fn nameless(path: &'static str, least: Least) -> Row {
    Row { path, least, effect: Effect::Reads, names: None }
}

macro_rules! path {
    ($service:ident / $method:ident) => {
        concat!("/countersign.control.v1.", stringify!($service), "/", stringify!($method))
    };
    (discovery $service:ident / $method:ident) => {
        concat!("/countersign.discovery.v1.", stringify!($service), "/", stringify!($method))
    };
}

/// Every method that is served.
pub(crate) static TABLE: &[Row] = &[
    reads(path!(SnapshotService / GetSnapshot), VIEWER, |b| {
        read(b, |m: GetSnapshotRequest| about(Kind::Snapshot, m.name))
    }),
    reads(path!(SnapshotService / ListSnapshots), VIEWER, |b| {
        read(b, |m: ListSnapshotsRequest| within(m.parent))
    }),
    changes(path!(SnapshotService / CreateSnapshot), EDITOR, |b| {
        read(b, |m: CreateSnapshotRequest| within(m.parent))
    }),
    changes(path!(SnapshotService / DeleteSnapshot), EDITOR, |b| {
        read(b, |m: DeleteSnapshotRequest| about(Kind::Snapshot, m.name))
    }),
    changes(path!(SnapshotService / AppendRecords), EDITOR, |b| {
        read(b, |m: AppendRecordsRequest| about(Kind::Snapshot, m.name))
    }),
    changes(path!(SnapshotService / CommitSnapshot), EDITOR, |b| {
        read(b, |m: CommitSnapshotRequest| {
            about(Kind::Snapshot, m.name)
                .and(Kind::Transform, "default_transform", m.default_transform)
                .and(Kind::Transform, "transform", m.transform)
        })
    }),
    changes(path!(SnapshotService / CommitSnapshotManifest), EDITOR, |b| {
        read(b, |m: CommitSnapshotManifestRequest| {
            about(Kind::Snapshot, m.name).and(
                Kind::Transform,
                "default_transform",
                m.default_transform,
            )
        })
    }),
    reads(path!(SnapshotService / ListRecords), VIEWER, |b| {
        read(b, |m: ListRecordsRequest| subject("parent", m.parent))
    }),
    reads(path!(SnapshotService / ReadRecords), VIEWER, |b| {
        read(b, |m: ReadRecordsRequest| about(Kind::Snapshot, m.name))
    }),
    reads(path!(SnapshotService / AnalyzeTokens), VIEWER, |b| {
        read(b, |m: AnalyzeTokensRequest| about(Kind::Snapshot, m.name))
    }),
    reads(path!(TransformService / GetTransform), VIEWER, |b| {
        read(b, |m: GetTransformRequest| about(Kind::Transform, m.name))
    }),
    reads(path!(TransformService / ListTransforms), VIEWER, |b| {
        read(b, |m: ListTransformsRequest| within(m.parent))
    }),
    changes(path!(TransformService / CreateTransform), EDITOR, |b| {
        read(b, |m: CreateTransformRequest| within(m.parent))
    }),
    changes(path!(TransformService / UpdateTransform), EDITOR, |b| {
        read(b, |m: UpdateTransformRequest| {
            about(Kind::Transform, m.transform.unwrap_or_default().name)
        })
    }),
    changes(path!(TransformService / DeleteTransform), EDITOR, |b| {
        read(b, |m: DeleteTransformRequest| about(Kind::Transform, m.name))
    }),
    reads(path!(TransformService / ValidateTransform), VIEWER, |b| {
        read(b, |m: ValidateTransformRequest| {
            within(m.parent).and(Kind::Snapshot, "snapshot", m.snapshot)
        })
    }),
    reads(path!(TransformService / SuggestTransform), VIEWER, |b| {
        read(b, |m: SuggestTransformRequest| {
            within(m.parent).and(Kind::Snapshot, "snapshot", m.snapshot)
        })
    }),
    reads(path!(TestConfigService / GetTestConfig), VIEWER, |b| {
        read(b, |m: GetTestConfigRequest| about(Kind::TestConfig, m.name))
    }),
    reads(path!(TestConfigService / ListTestConfigs), VIEWER, |b| {
        read(b, |m: ListTestConfigsRequest| within(m.parent))
    }),
    changes(path!(TestConfigService / CreateTestConfig), EDITOR, |b| {
        read(b, |m: CreateTestConfigRequest| within(m.parent))
    }),
    changes(path!(TestConfigService / UpdateTestConfig), EDITOR, |b| {
        read(b, |m: UpdateTestConfigRequest| {
            about(Kind::TestConfig, m.test_config.unwrap_or_default().name)
        })
    }),
    changes(path!(TestConfigService / DeleteTestConfig), EDITOR, |b| {
        read(b, |m: DeleteTestConfigRequest| about(Kind::TestConfig, m.name))
    }),
    changes(path!(TestConfigService / CloneTestConfig), EDITOR, |b| {
        read(b, |m: CloneTestConfigRequest| about(Kind::TestConfig, m.name))
    }),
    reads(path!(ReplayService / GetReplay), VIEWER, |b| {
        read(b, |m: GetReplayRequest| about(Kind::Replay, m.name))
    }),
    reads(path!(ReplayService / ListReplays), VIEWER, |b| {
        read(b, |m: ListReplaysRequest| within(m.parent))
    }),
    reads(path!(ReplayService / WatchReplay), VIEWER, |b| {
        read(b, |m: WatchReplayRequest| about(Kind::Replay, m.name))
    }),
    reads(path!(ReplayService / ListResponders), VIEWER, |b| {
        read(b, |m: ListRespondersRequest| within(m.parent))
    }),
    changes(path!(ReplayService / CreateReplay), OPERATOR, |b| read(b, replay)),
    changes(path!(ReplayService / DeleteReplay), OPERATOR, |b| {
        read(b, |m: DeleteReplayRequest| about(Kind::Replay, m.name))
    }),
    changes(path!(ReplayService / StartReplay), OPERATOR, |b| {
        read(b, |m: StartReplayRequest| about(Kind::Replay, m.name))
    }),
    changes(path!(ReplayService / RollbackReplay), OPERATOR, |b| {
        read(b, |m: RollbackReplayRequest| about(Kind::Replay, m.name))
    }),
    changes(path!(ReplayService / RetryReplay), OPERATOR, |b| {
        read(b, |m: RetryReplayRequest| about(Kind::Replay, m.name))
    }),
    changes(path!(ReplayService / StopReplay), OPERATOR, |b| {
        read(b, |m: StopReplayRequest| about(Kind::Replay, m.name))
    }),
    changes(path!(TrafficService / AppendPieces), EDITOR, |b| {
        read(b, |m: AppendPiecesRequest| about(Kind::Snapshot, m.name))
    }),
    reads(path!(TrafficService / ListPairs), VIEWER, |b| {
        read(b, |m: ListPairsRequest| subject("parent", m.parent))
    }),
    reads(path!(TrafficService / GetPair), VIEWER, |b| {
        read(b, |m: GetPairRequest| subject("snapshot", m.snapshot))
    }),
    reads(path!(TrafficService / SummarizeTraffic), VIEWER, |b| {
        read(b, |m: SummarizeTrafficRequest| about(Kind::Snapshot, m.name))
    }),
    nameless(path!(ConsoleService / DescribeTransforms), VIEWER),
    nameless(path!(ConsoleService / GetControlPlane), VIEWER),
    reads(path!(ReportService / GetReport), VIEWER, |b| {
        read(b, |m: GetReportRequest| about(Kind::Replay, m.name))
    }),
    reads(path!(ReportService / WatchReport), VIEWER, |b| {
        read(b, |m: WatchReportRequest| about(Kind::Replay, m.name))
    }),
    reads(path!(ReportService / ListReports), VIEWER, |b| {
        read(b, |m: ListReportsRequest| about(Kind::Replay, m.name))
    }),
    reads(path!(ReportService / CompareReports), VIEWER, |b| {
        read(b, |m: CompareReportsRequest| about(Kind::Replay, m.name))
    }),
    reads(path!(InspectService / PreviewTransform), VIEWER, |b| read(b, preview)),
    reads(path!(InspectService / ExplainRequest), VIEWER, |b| {
        read(b, |m: ExplainRequestRequest| {
            within(m.parent).and(Kind::Snapshot, "snapshot", m.snapshot).and(
                Kind::Transform,
                "transform",
                m.transform,
            )
        })
    }),
    nameless(path!(discovery ChunkService / GetCapabilities), Least::ResponderOr(Level::Viewer)),
    reads(path!(discovery ChunkService / ReadChunks), Least::ResponderOr(Level::Viewer), |b| {
        read(b, blobs)
    }),
    // It gives the snapshot what its project has already.
    changes(path!(discovery ChunkService / FindMissingChunks), EDITOR, |b| {
        read(b, |m: FindMissingChunksRequest| subject("snapshot", m.snapshot))
    }),
    changes(path!(discovery ChunkService / WriteChunks), EDITOR, |b| {
        read(b, |m: WriteChunksRequest| subject("snapshot", m.snapshot))
    }),
    nameless(path!(discovery DiscoveryService / Subscribe), Least::Responder),
    nameless(path!(discovery TallyService / SendTally), Least::Responder),
    nameless("/grpc.health.v1.Health/Check", Least::Anybody),
    nameless("/grpc.health.v1.Health/Watch", Least::Anybody),
    nameless("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", VIEWER),
    nameless("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", VIEWER),
];

/// The row of a method, by its path.
pub(crate) fn row(path: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.path == path)
}
