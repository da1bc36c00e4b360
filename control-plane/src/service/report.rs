//! Reports of replays: what responders count is merged and kept, and put together when somebody asks.
//!
//! Nothing is kept in memory but what is on its way into the store, so that every control plane that shares it tells the same.

mod advice;
mod compare;
mod intake;
mod stored;
mod view;

use std::{sync::Arc, time::Duration};

use countersign_proto::{
    control::v1::{
        CompareReportsRequest, GetReportRequest, ListReportsRequest, ListReportsResponse,
        ReplayReport, ReportComparison, WatchReportRequest, report_service_server::ReportService,
    },
    discovery::v1::{
        Hello, SendTallyRequest, SendTallyResponse, tally_service_server::TallyService,
    },
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    Plane, Problem,
    name::{self, Name},
};
use crate::{
    auth::rights::Principal,
    store::{Kind, ListQuery, Txn, all},
};
pub(crate) use intake::Intake;
use stored::{Contribution, RunName};
use view::Known;

/// So many runs of a replay are kept.
const RUNS: usize = 5;
/// So many responders' counts of a run are read.
const RESPONDERS: usize = 1000;
/// How often a report is sent at most.
const FASTEST: Duration = Duration::from_secs(1);
/// How often a report is sent unless the caller says otherwise.
const USUAL: Duration = Duration::from_secs(2);

/// The service of users.
#[derive(Debug, Clone)]
pub(crate) struct Reports {
    pub(crate) plane: Arc<Plane>,
}

/// The service of responders.
#[derive(Debug)]
pub(crate) struct Tallies {
    pub(crate) plane: Arc<Plane>,
    pub(crate) intake: Intake,
}

#[tonic::async_trait]
impl TallyService for Tallies {
    async fn send_tally(
        &self,
        request: Request<SendTallyRequest>,
    ) -> Result<Response<SendTallyResponse>, Status> {
        let who = request.extensions().get::<Arc<Principal>>().cloned();
        let request = request.into_inner();
        let project = name::project("project", &request.project)?;
        if let Some(who) = who {
            let (project, responder) = (project.clone(), request.responder.clone());
            who.may_be(&Hello { project, responder, ..Hello::default() })?;
        }
        Ok(Response::new(self.intake.take(&self.plane, &project, request).await?))
    }
}

#[tonic::async_trait]
impl ReportService for Reports {
    type WatchReportStream = ReceiverStream<Result<ReplayReport, Status>>;

    async fn get_report(
        &self,
        request: Request<GetReportRequest>,
    ) -> Result<Response<ReplayReport>, Status> {
        let request = request.into_inner();
        let name = Name::parse(Kind::Replay, "name", &request.name)?;
        Ok(Response::new(self.report(&name, request.run).await?))
    }

    async fn watch_report(
        &self,
        request: Request<WatchReportRequest>,
    ) -> Result<Response<Self::WatchReportStream>, Status> {
        let request = request.into_inner();
        let name = Name::parse(Kind::Replay, "name", &request.name)?;
        let asked = request.interval.and_then(|asked| Duration::try_from(asked).ok());
        let every = asked.unwrap_or(USUAL).clamp(FASTEST, Duration::from_secs(3600));
        // Who asks for what is not there is told so at once.
        let first = self.report(&name, request.run).await?;
        let place = self.plane.open.watch(&name.project)?;
        let (sender, receiver) = mpsc::channel(1);
        let reports = self.clone();
        tokio::spawn(async move {
            let _place = place;
            let stopping = reports.plane.stopping.clone();
            let watched = tokio::select! {
                watched = reports.watch(&name, request.run, (first, every), &sender) => watched,
                () = sender.closed() => Ok(()),
                () = stopping.cancelled() => {
                    let message = "the control plane is shutting down; watch again".to_owned();
                    Err(Problem::Unavailable { reason: "STOPPING", message })
                }
            };
            if let Err(problem) = watched {
                drop(sender.send(Err(problem.into())).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_reports(
        &self,
        request: Request<ListReportsRequest>,
    ) -> Result<Response<ListReportsResponse>, Status> {
        let name = Name::parse(Kind::Replay, "name", &request.into_inner().name)?;
        let last = self.last(&name).await?;
        let mut reports = Vec::new();
        for run in self.runs(&name).await?.into_iter().rev() {
            let report = self.known(&name, run, last.as_ref()).await?.report();
            reports.push(view::totals_only(report));
        }
        Ok(Response::new(ListReportsResponse { reports }))
    }

    async fn compare_reports(
        &self,
        request: Request<CompareReportsRequest>,
    ) -> Result<Response<ReportComparison>, Status> {
        let request = request.into_inner();
        let name = Name::parse(Kind::Replay, "name", &request.name)?;
        if request.base == 0 {
            let message = "which run to compare with has to be said";
            return Err(Problem::field("base", "RUN_MISSING", message).into());
        }
        let base = self.report(&name, request.base).await?;
        let run = self.report(&name, request.run).await?;
        Ok(Response::new(compare::compare(base, run)))
    }
}

impl Reports {
    async fn watch(
        &self,
        name: &Name,
        run: u64,
        (first, every): (ReplayReport, Duration),
        sender: &mpsc::Sender<Result<ReplayReport, Status>>,
    ) -> Result<(), Problem> {
        let mut last = first.clone();
        // Whoever does not listen any more is noticed by the caller.
        drop(sender.send(Ok(first)).await);
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let report = self.report(name, run).await?;
            if report != last {
                last = report.clone();
                drop(sender.send(Ok(report)).await);
            }
        }
    }

    /// The report of a run, or of the last.
    async fn report(&self, name: &Name, run: u64) -> Result<ReplayReport, Problem> {
        let last = self.last(name).await?;
        let newest = self.runs(name).await?.last().copied();
        let begun = last.as_ref().map(|last| last.generation);
        let chosen = match run {
            0 => begun.max(newest).unwrap_or_default(),
            run => run,
        };
        let known = self.known(name, chosen, last.as_ref()).await?;
        if known.is_empty() && run != 0 && begun != Some(run) {
            return Err(Problem::State {
                reason: "RUN_NOT_KNOWN",
                subject: name.full.clone(),
                message: format!(
                    "nothing is kept of run {run} of {}; the last {RUNS} runs are kept",
                    name.full
                ),
            });
        }
        Ok(known.report())
    }

    /// What is announced of a replay, which has to exist.
    async fn last(&self, name: &Name) -> Result<Option<crate::publish::Assignment>, Problem> {
        self.plane.get(Kind::Replay, &name.full).await?;
        let table = self.plane.publisher.table();
        Ok(table.get(&name.full).and_then(|announced| announced.active))
    }

    /// The runs of which something is kept, in order.
    async fn runs(&self, name: &Name) -> Result<Vec<u64>, Problem> {
        runs(&self.plane, &name.full).await
    }

    async fn known(
        &self,
        name: &Name,
        run: u64,
        last: Option<&crate::publish::Assignment>,
    ) -> Result<Known, Problem> {
        let prefix = RunName { replay: &name.full, run }.prefix();
        let query = ListQuery {
            kind: Kind::Report,
            prefix: prefix.clone(),
            after: String::new(),
            limit: RESPONDERS,
        };
        let page = self.plane.meta.list(query).await?;
        let contribution = |record: &crate::store::Record| {
            let responder = record.name.strip_prefix(&prefix).unwrap_or_default();
            Some((responder.to_owned(), Contribution::decode(&record.body)?))
        };
        let contributions = page.records.iter().filter_map(contribution).collect();
        Ok(Known::new(name.full.clone(), run, last.copied(), contributions))
    }
}

/// The runs of which something is kept, in order.
async fn runs(plane: &Plane, replay: &str) -> Result<Vec<u64>, Problem> {
    let prefix = RunName::all(replay);
    let mut runs: Vec<u64> = Vec::new();
    let mut after = String::new();
    loop {
        // One name of each run is enough to know of it.
        let query = ListQuery { kind: Kind::Report, prefix: prefix.clone(), after, limit: 1 };
        let page = plane.meta.list(query).await?;
        let run = page.records.first().and_then(|record| RunName::parse(&prefix, &record.name));
        let Some(run) = run else { return Ok(runs) };
        runs.push(run);
        after = RunName { replay, run }.after();
    }
}

/// Forgets all runs of a replay.
pub(crate) async fn forget(plane: &Plane, replay: &str) -> Result<(), Problem> {
    let records = all(&*plane.meta, Kind::Report, &RunName::all(replay)).await?;
    let forget = |txn: Txn, record: crate::store::Record| {
        txn.and_delete(Kind::Report, record.name, crate::store::Expect::Any)
    };
    let txn = records.into_iter().fold(Txn::default(), forget);
    if !txn.ops.is_empty() {
        plane.meta.commit(txn).await.map_err(Problem::from)?;
    }
    Ok(())
}
