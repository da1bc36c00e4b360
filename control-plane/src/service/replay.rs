//! Replays: create, start, stop, watch; and the responders that serve them.

mod change;
mod start;
pub(super) use start::choose;
mod status;

use std::sync::Arc;

use countersign_engine::snapshot::wire::timestamp;
use countersign_proto::control::v1::{
    CreateReplayRequest, DeleteReplayRequest, GetReplayRequest, ListReplaysRequest,
    ListReplaysResponse, ListRespondersRequest, ListRespondersResponse, Replay, ReplayState,
    RetryReplayRequest, RollbackReplayRequest, StartReplayRequest, StopReplayRequest,
    WatchReplayRequest, replay_service_server::ReplayService,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    Plane, Problem,
    announced::decode_policy,
    name::{self, Name},
    page, quota, snapshot, test_config,
    transform::expect,
};
use crate::store::{Expect, Kind, ListQuery, Record, Txn};
use status::{Transitions, responder};

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Replays {
    plane: Arc<Plane>,
    transitions: Arc<Transitions>,
}

#[tonic::async_trait]
impl ReplayService for Replays {
    type WatchReplayStream = ReceiverStream<Result<Replay, Status>>;

    async fn get_replay(
        &self,
        request: Request<GetReplayRequest>,
    ) -> Result<Response<Replay>, Status> {
        let name = Name::parse(Kind::Replay, "name", &request.into_inner().name)?;
        Ok(Response::new(self.current(&name).await?))
    }

    async fn list_replays(
        &self,
        request: Request<ListReplaysRequest>,
    ) -> Result<Response<ListReplaysResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn create_replay(
        &self,
        request: Request<CreateReplayRequest>,
    ) -> Result<Response<Replay>, Status> {
        Ok(Response::new(self.create(request.into_inner()).await?))
    }

    async fn delete_replay(
        &self,
        request: Request<DeleteReplayRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let name = Name::parse(Kind::Replay, "name", &request.name)?;
        let bytes = self.plane.quota.of_replay(&self.plane, &name).await?;
        let txn = Txn::delete(Kind::Replay, name.full.clone(), expect(request.etag)).and_delete(
            Kind::Assignment,
            name.full,
            Expect::Any,
        );
        self.plane.announce(txn).await.map_err(Problem::from)?;
        self.plane.quota.released(&name.project, bytes);
        super::report::forget(&self.plane, &request.name).await?;
        self.transitions.forget(&request.name);
        Ok(Response::new(()))
    }

    async fn start_replay(
        &self,
        request: Request<StartReplayRequest>,
    ) -> Result<Response<Replay>, Status> {
        let request = request.into_inner();
        let name = Name::parse(Kind::Replay, "name", &request.name)?;
        let record = start::start(&self.plane, &name, &request).await?;
        Ok(Response::new(self.complete(record)?))
    }

    async fn rollback_replay(
        &self,
        request: Request<RollbackReplayRequest>,
    ) -> Result<Response<Replay>, Status> {
        let name = Name::parse(Kind::Replay, "name", &request.into_inner().name)?;
        Ok(Response::new(self.complete(change::roll_back(&self.plane, &name).await?)?))
    }

    async fn retry_replay(
        &self,
        request: Request<RetryReplayRequest>,
    ) -> Result<Response<Replay>, Status> {
        let name = Name::parse(Kind::Replay, "name", &request.into_inner().name)?;
        Ok(Response::new(self.complete(change::retry(&self.plane, &name).await?)?))
    }

    async fn stop_replay(
        &self,
        request: Request<StopReplayRequest>,
    ) -> Result<Response<Replay>, Status> {
        let name = Name::parse(Kind::Replay, "name", &request.into_inner().name)?;
        Ok(Response::new(self.stop(&name).await?))
    }

    async fn watch_replay(
        &self,
        request: Request<WatchReplayRequest>,
    ) -> Result<Response<Self::WatchReplayStream>, Status> {
        let name = Name::parse(Kind::Replay, "name", &request.into_inner().name)?;
        let place = self.plane.open.watch(&name.project)?;
        let (sender, receiver) = mpsc::channel(1);
        let replays = self.clone();
        tokio::spawn(async move {
            let _place = place;
            let stopping = replays.plane.stopping.clone();
            let watched = tokio::select! {
                watched = replays.watch(&name, &sender) => watched,
                () = sender.closed() => Ok(()),
                () = stopping.cancelled() => {
                    Err(Problem::Unavailable { reason: "STOPPING", message: "the control plane is shutting down; watch again".to_owned() })
                }
            };
            if let Err(problem) = watched {
                drop(sender.send(Err(problem.into())).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_responders(
        &self,
        request: Request<ListRespondersRequest>,
    ) -> Result<Response<ListRespondersResponse>, Status> {
        Ok(Response::new(self.responders(&request.into_inner())?))
    }
}

impl Replays {
    pub(crate) fn new(plane: Arc<Plane>) -> Self {
        Self { plane, transitions: Arc::default() }
    }

    async fn current(&self, name: &Name) -> Result<Replay, Problem> {
        self.complete(self.plane.get(Kind::Replay, &name.full).await?)
    }

    /// The replay of a record, with what the fleet makes of it.
    fn complete(&self, record: Record) -> Result<Replay, Problem> {
        let stored: Replay = super::stored(&record)?;
        let revision = record.revision;
        let replay = Replay {
            name: record.name,
            etag: record.etag,
            create_time: Some(timestamp(record.created)),
            update_time: Some(timestamp(record.updated)),
            ..stored
        };
        Ok(self.transitions.with_status(replay, revision, &self.plane))
    }

    async fn list(&self, request: ListReplaysRequest) -> Result<ListReplaysResponse, Problem> {
        let prefix = name::prefix(Kind::Replay, &name::project("parent", &request.parent)?);
        let after = page::after(&prefix, &request.page_token)?;
        let query = ListQuery {
            kind: Kind::Replay,
            prefix: prefix.clone(),
            after,
            limit: page::size(request.page_size)?,
        };
        let found = self.plane.meta.list(query).await?;
        let next_page_token = match found.records.last() {
            Some(last) if found.more => page::token(&prefix, &last.name),
            _ => String::new(),
        };
        let replays = found
            .records
            .into_iter()
            .map(|record| self.complete(record))
            .collect::<Result<_, _>>()?;
        Ok(ListReplaysResponse { replays, next_page_token })
    }

    async fn create(&self, request: CreateReplayRequest) -> Result<Replay, Problem> {
        let project = name::project("parent", &request.parent)?;
        let given = request.replay.unwrap_or_default();
        let parts = Parts::parse(&project, &given)?;
        decode_policy(&given.rollout_policy.unwrap_or_default())?;
        let id = if request.replay_id.is_empty() { &parts.snapshot.id } else { &request.replay_id };
        let name = Name::within(Kind::Replay, &project, "replay_id", id)?;
        snapshot::ready(&self.plane, &parts.snapshot).await?;
        if let Some(transform) = &parts.transform {
            self.plane.get(Kind::Transform, &transform.full).await?;
        }
        test_config::get(&self.plane, &parts.test_config).await?;
        let replay = Replay {
            snapshot: parts.snapshot.full,
            transform: parts.transform.map(|name| name.full).unwrap_or_default(),
            test_config: parts.test_config.full,
            serve: parts.serve.into(),
            state: ReplayState::Stopped.into(),
            rollout_policy: given.rollout_policy,
            ..Replay::default()
        };
        if request.validate_only {
            if self.plane.meta.get(Kind::Replay, &name.full).await?.is_some() {
                return Err(Problem::Exists { kind: Kind::Replay, name: name.full });
            }
            return Ok(Replay { name: name.full, ..replay });
        }
        let body = replay.encode_to_vec();
        self.complete(quota::put(&self.plane, Kind::Replay, name, Expect::Absent, body).await?)
    }

    async fn stop(&self, name: &Name) -> Result<Replay, Problem> {
        let record = self.plane.get(Kind::Replay, &name.full).await?;
        let replay: Replay = super::stored(&record)?;
        if replay.state() != ReplayState::Running {
            return self.complete(record);
        }
        let bytes = self.plane.quota.of_replay(&self.plane, name).await?;
        let stopped = Replay { state: ReplayState::Stopped.into(), bundle: None, ..replay };
        let txn = Txn::put(
            Kind::Replay,
            name.full.clone(),
            Expect::Etag(record.etag.clone()),
            stopped.encode_to_vec(),
        )
        .and_delete(Kind::Assignment, name.full.clone(), Expect::Any);
        let written = self.plane.announce(txn).await?.records.into_iter().next();
        self.plane.quota.released(&name.project, bytes);
        self.complete(written.unwrap_or(record))
    }

    /// Sends the replay now and whenever it differs; a slow client skips states.
    async fn watch(
        &self,
        name: &Name,
        states: &mpsc::Sender<Result<Replay, Status>>,
    ) -> Result<(), Problem> {
        let mut revision = self.plane.meta.revision();
        let mut fleet = self.plane.fleet.subscribe();
        let mut table = self.plane.publisher.subscribe();
        let mut sent = None;
        loop {
            revision.mark_unchanged();
            fleet.mark_unchanged();
            table.mark_unchanged();
            let now = self.current(name).await?;
            if sent.as_ref() != Some(&now) {
                if states.send(Ok(now.clone())).await.is_err() {
                    return Ok(());
                }
                sent = Some(now);
            }
            let changed = tokio::select! {
                changed = revision.changed() => changed,
                changed = fleet.changed() => changed,
                changed = table.changed() => changed,
            };
            if changed.is_err() {
                return Ok(());
            }
        }
    }

    fn responders(
        &self,
        request: &ListRespondersRequest,
    ) -> Result<ListRespondersResponse, Problem> {
        let project = name::project("parent", &request.parent)?;
        let list = format!("{project}/responders/");
        let after = page::after(&list, &request.page_token)?;
        let limit = page::size(request.page_size)?;
        let mut found = self.plane.fleet.list(&project);
        found.retain(|responder| responder.name > after);
        let next_page_token = match found.get(limit.saturating_sub(1)) {
            Some(last) if found.len() > limit => page::token(&list, &last.name),
            _ => String::new(),
        };
        let responders = found.iter().take(limit).map(responder).collect();
        Ok(ListRespondersResponse { responders, next_page_token })
    }
}

/// What a replay is made of, by name.
struct Parts {
    snapshot: Name,
    transform: Option<Name>,
    test_config: Name,
    serve: countersign_proto::snapshot::v1::ServeDirection,
}

impl Parts {
    fn parse(project: &str, replay: &Replay) -> Result<Self, Problem> {
        let local = |kind, field: &'static str, name: &str| {
            let name = Name::parse(kind, field, name)?;
            if name.project == project {
                return Ok(name);
            }
            Err(Problem::field(
                field,
                "WRONG_PROJECT",
                format!("{} belongs to another project than the replay", name.full),
            ))
        };
        let test_config = match replay.test_config.as_str() {
            "" => Name::within(
                Kind::TestConfig,
                project,
                "replay.test_config",
                test_config::STANDARD,
            )?,
            name => local(Kind::TestConfig, "replay.test_config", name)?,
        };
        let transform = match replay.transform.as_str() {
            "" => None,
            name => Some(local(Kind::Transform, "replay.transform", name)?),
        };
        let serve = replay.serve.try_into().map_err(|_| {
            Problem::field("replay.serve", "INVALID_SERVE", "unknown serve direction")
        })?;
        Ok(Self {
            snapshot: local(Kind::Snapshot, "replay.snapshot", &replay.snapshot)?,
            transform,
            test_config,
            serve,
        })
    }
}
