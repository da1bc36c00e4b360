//! Who shares the turns of a replay: agreed upon in the store, so that it is the same at every control plane in the same epoch.
//!
//! One control plane at a time writes, by a lease, and on the condition that the record is as it was read. Everybody tells its own
//! responders what the store says.

mod judge;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use countersign_proto::{
    control::v1::SequencePeer,
    discovery::v1::{Member, Members},
};
use prost::Message;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{super::chain, Plane};
use crate::{
    fleet::{AtReplay, Fleet, Responder},
    publish::Table,
    service::wire,
    store::{CommitError, Expect, Guard, Kind, ListQuery, MetaStore, StoreError, Txn},
};
use judge::{Heard, Judge};

/// The lease of whoever writes.
const LEASE: &str = "members";
const TTL: Duration = Duration::from_secs(5);
/// How soon after the last look the next one may come, where turns are shared and where they are not.
const BRISK: Duration = Duration::from_millis(50);
const CALM: Duration = Duration::from_secs(1);
/// How often somebody looks although nothing has changed.
const EVERY: Duration = Duration::from_millis(250);

/// What is agreed upon, by replay.
pub(crate) type Agreed = Arc<BTreeMap<String, Members>>;

/// Where it is heard.
pub(crate) type Announced = watch::Sender<Agreed>;

/// A record and its version.
struct Stored {
    etag: String,
    members: Members,
}

/// Goes on until the control plane stops.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut revision = plane.meta.revision();
    let mut fleet = plane.fleet.subscribe();
    revision.mark_changed();
    let mut stored = BTreeMap::new();
    let mut judge = Judge::new(Instant::now());
    let mut works = true;
    loop {
        let done = match revision.has_changed() {
            Ok(true) => {
                revision.mark_unchanged();
                read(&*plane.meta).await.map(|now| stored = now)
            }
            _ => Ok(()),
        };
        let done = match done {
            Ok(()) => {
                announce(&plane.members, &stored);
                agree(&plane, &mut judge, &stored).await
            }
            failed => failed,
        };
        if let Err(error) = &done {
            // What was not read or written is tried again.
            revision.mark_changed();
            if works {
                tracing::warn!(error = chain(error), "cannot agree on who shares turns");
            }
        }
        works = done.is_ok();
        let pause = if judge.is_idle() && stored.is_empty() { CALM } else { BRISK };
        let next = Instant::now() + EVERY.max(pause);
        tokio::select! {
            () = sleep(pause) => {}
            () = plane.stopping.cancelled() => return,
        }
        tokio::select! {
            _ = revision.changed() => revision.mark_changed(),
            _ = fleet.changed() => {}
            () = sleep_until(next) => {}
            () = plane.stopping.cancelled() => return,
        }
    }
}

fn announce(announced: &Announced, stored: &BTreeMap<String, Stored>) {
    announced.send_if_modified(|agreed| {
        let same = agreed.len() == stored.len()
            && stored
                .iter()
                .all(|(replay, stored)| agreed.get(replay).is_some_and(|m| *m == stored.members));
        if !same {
            let members =
                |(replay, stored): (&String, &Stored)| (replay.clone(), stored.members.clone());
            *agreed = Arc::new(stored.iter().map(members).collect());
        }
        !same
    });
}

/// Writes what has changed.
async fn agree(
    plane: &Plane,
    judge: &mut Judge,
    stored: &BTreeMap<String, Stored>,
) -> Result<(), StoreError> {
    let table = plane.publisher.table();
    let sharing = sharing(&plane.fleet, &table);
    let mut changes = Vec::new();
    for (replay, stored) in
        stored.iter().filter(|(replay, _)| !table.assignments.contains_key(*replay))
    {
        changes.push(Txn::delete(Kind::Members, replay, Expect::Etag(stored.etag.clone())));
    }
    for (replay, now) in &sharing {
        let stored = stored.get(replay);
        let before = stored.map(|stored| &stored.members);
        if let Some(members) = judge.next(replay, before, now, table.revision, Instant::now()) {
            let expect = stored.map_or(Expect::Absent, |stored| Expect::Etag(stored.etag.clone()));
            changes.push(Txn::put(Kind::Members, replay, expect, members.encode_to_vec()));
        }
    }
    judge.forget_others();
    if changes.is_empty() {
        return Ok(());
    }
    let Some(epoch) = plane.meta.lease(LEASE, &plane.replica, TTL).await? else { return Ok(()) };
    for change in changes {
        let guard = Guard { lease: LEASE.to_owned(), epoch, held: true };
        match plane.meta.commit(change.guarded(guard)).await {
            Ok(_) => {}
            Err(CommitError::Store(error)) => return Err(error),
            // Somebody else was quicker; that is read before anything is written again.
            Err(error) => {
                tracing::debug!(%error, "who shares turns was written by another control plane");
            }
        }
    }
    Ok(())
}

/// Who says of itself that it shares the turns of each replay, or that it does not. Every replay that is announced stands there.
fn sharing(fleet: &Fleet, table: &Table) -> BTreeMap<String, Heard> {
    let projects: BTreeSet<&str> = table
        .assignments
        .keys()
        .filter_map(|replay| replay.split_once("/replays/"))
        .map(|(project, _)| project)
        .collect();
    let mut sharing: BTreeMap<String, Heard> =
        table.assignments.keys().map(|replay| (replay.clone(), BTreeMap::new())).collect();
    for project in projects {
        for responder in fleet.list(project).iter().filter(|responder| responder.connected) {
            for (replay, member) in memberships(responder) {
                // What it says of a replay that is not for it counts for nothing, whichever control plane heard it.
                if let Some(heard) = sharing.get_mut(replay).filter(|_| responder.wants(replay)) {
                    heard.insert(responder.name.clone(), member);
                }
            }
        }
    }
    sharing
}

/// Of what a responder reports, all that matters here.
#[derive(Clone, PartialEq, Message)]
struct Shares {
    #[prost(message, optional, tag = "20")]
    sequence_peer: Option<SequencePeer>,
}

fn memberships<'r>(responder: &'r Responder) -> impl Iterator<Item = (&'r String, Option<Member>)> {
    let serving = |(replay, at): (_, &'r AtReplay)| Some((replay, at.serving.as_ref()?));
    responder.replays.iter().filter_map(serving).map(|(replay, outcome)| {
        let shares = Shares::decode(outcome.report.clone()).unwrap_or_default();
        let member = |SequencePeer { session_id, address }| Member {
            name: responder.name.clone(),
            session_id,
            address,
        };
        (replay, shares.sequence_peer.map(member))
    })
}

async fn read(meta: &dyn MetaStore) -> Result<BTreeMap<String, Stored>, StoreError> {
    let mut stored = BTreeMap::new();
    let mut query =
        ListQuery { kind: Kind::Members, prefix: String::new(), after: String::new(), limit: 1000 };
    loop {
        let page = meta.list(query.clone()).await?;
        for record in page.records {
            query.after.clone_from(&record.name);
            match wire::decode::<Members>("record", record.body) {
                Ok(members) => {
                    let members = Members { replay: record.name.clone(), ..members };
                    stored.insert(record.name, Stored { etag: record.etag, members });
                }
                Err(error) => tracing::error!(
                    replay = record.name,
                    error = chain(&error),
                    "cannot read who shares turns, leaving it out"
                ),
            }
        }
        if !page.more {
            return Ok(stored);
        }
    }
}

/// What a responder was told.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<String, u64>);

impl Told {
    /// What it has to be told of the replays that it knows.
    pub(super) fn news(&mut self, agreed: &Agreed, knows: impl Fn(&str) -> bool) -> Vec<Members> {
        self.0.retain(|replay, _| agreed.contains_key(replay));
        let news = agreed.iter().filter(|(replay, members)| {
            self.0.get(*replay) != Some(&members.epoch) && knows(replay)
        });
        let news: Vec<Members> = news.map(|(_, members)| members.clone()).collect();
        self.0.extend(news.iter().map(|members| (members.replay.clone(), members.epoch)));
        news
    }
}

#[cfg(test)]
mod tests;
