//! How much of the store the snapshots of one project may take, so that they leave room to those of others.
//!
//! A snapshot counts with all of its content, whether or not it shares some with another one, and an upload with what came of it so far. It is looked at
//! when an upload begins and when a snapshot is committed: what begins at the same time can go beyond by as much as it brings.

use countersign_proto::control::v1::SnapshotState;

use super::{Plane, Problem, name, stored, wire::StoredSnapshot};
use crate::{
    held,
    store::{self, Kind},
};

/// The bytes that one project may take; `None` for as many as there are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quota(Option<u64>);

impl Quota {
    pub(crate) fn new(bytes: Option<u64>) -> Self {
        Self(bytes)
    }

    /// How many bytes one snapshot may have beside the others of its project.
    pub(crate) async fn room(
        self,
        plane: &Plane,
        project: &str,
        snapshot: &str,
    ) -> Result<Room, Problem> {
        let Some(limit) = self.0 else { return Ok(Room::default()) };
        let mut taken = 0_u64;
        for record in
            store::all(&*plane.meta, Kind::Snapshot, &name::prefix(Kind::Snapshot, project)).await?
        {
            if record.name == snapshot {
                continue;
            }
            let known: StoredSnapshot = stored(&record)?;
            let known = known.snapshot.unwrap_or_default();
            let bytes = if known.state() == SnapshotState::Ready {
                known.size_bytes
            } else {
                let written = held::of(&*plane.meta, &record).await?;
                let written: u64 = written.iter().map(|digest| digest.size()).sum();
                let (staging, name) = (plane.staging.clone(), record.name.clone());
                written.saturating_add(store::blocking(move || staging.size(&name)).await??)
            };
            taken = taken.saturating_add(bytes);
        }
        Ok(Room { project: project.to_owned(), limit, left: limit.saturating_sub(taken) })
    }
}

/// What a project has left.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    project: String,
    limit: u64,
    left: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { project: String::new(), limit: u64::MAX, left: u64::MAX }
    }
}

impl Room {
    /// How many bytes there is room for.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Refuses what is larger.
    pub(crate) fn admit(&self, bytes: u64) -> Result<(), Problem> {
        if bytes <= self.left { Ok(()) } else { Err(self.refusal()) }
    }

    /// What is said to what is larger.
    pub(crate) fn refusal(&self) -> Problem {
        let Self { project, limit, left } = self;
        let message = format!(
            "{project} may store {limit} bytes, and has room for {left} beside its other snapshots; delete some that nobody needs"
        );
        Problem::Full { project: project.clone(), message }
    }
}
