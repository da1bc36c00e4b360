//! A transaction as the caller states it, and the judgement whether it may happen, which is the same in every store.

use bytes::Bytes;
use countersign_engine::snapshot::digest::Digest;

use super::{Epoch, Kind, Lease, Record, StoreError};

/// Operations that happen together.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    /// The operations, in order.
    pub ops: Vec<Op>,
    /// What must hold of leases.
    pub guards: Vec<Guard>,
}

/// What must hold of a lease for a transaction to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The lease.
    pub lease: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// Whether it must be held; otherwise it must not be.
    pub held: bool,
}

impl Txn {
    /// One write.
    #[must_use]
    pub fn put(
        kind: Kind,
        name: impl Into<String>,
        expect: Expect,
        body: impl Into<Bytes>,
    ) -> Self {
        Self::default().and_put(kind, name, expect, body)
    }

    /// One deletion.
    #[must_use]
    pub fn delete(kind: Kind, name: impl Into<String>, expect: Expect) -> Self {
        Self::default().and_delete(kind, name, expect)
    }

    /// Adds a write.
    #[must_use]
    pub fn and_put(
        mut self,
        kind: Kind,
        name: impl Into<String>,
        expect: Expect,
        body: impl Into<Bytes>,
    ) -> Self {
        self.ops.push(Op { kind, name: name.into(), expect, write: Some(body.into()) });
        self
    }

    /// Adds a deletion.
    #[must_use]
    pub fn and_delete(mut self, kind: Kind, name: impl Into<String>, expect: Expect) -> Self {
        self.ops.push(Op { kind, name: name.into(), expect, write: None });
        self
    }

    /// Adds a condition.
    #[must_use]
    pub fn guarded(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Op {
    /// The kind of the record.
    pub kind: Kind,
    /// Its full resource name.
    pub name: String,
    /// What must hold for the whole transaction to happen.
    pub expect: Expect,
    /// The new body; `None` deletes.
    pub write: Option<Bytes>,
}

/// A precondition of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// None.
    Any,
    /// There is no such record.
    Absent,
    /// There is such a record.
    Present,
    /// There is such a record in this version.
    Etag(String),
}

/// What a commit did.
#[derive(Debug, Clone)]
pub struct Committed {
    /// Its revision.
    pub revision: u64,
    /// The records as written, in the order of the writes.
    pub records: Vec<Record>,
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The record exists already.
    #[error("{kind} {name} exists already")]
    Exists {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The record does not exist.
    #[error("there is no {kind} {name}")]
    Missing {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The record was changed by somebody else.
    #[error("{kind} {name} was changed since it was read: it is at etag {current}, not {expected}")]
    Changed {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// The etag that the caller knew.
        expected: String,
        /// The etag that it has.
        current: String,
    },
    /// A lease is not as it was.
    #[error("the lease {lease} has passed on")]
    Fenced {
        /// The lease.
        lease: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Guard {
    /// Judges a lease as it stands.
    pub(super) fn check(&self, lease: Lease) -> Result<(), CommitError> {
        if (lease.epoch, lease.held) == (self.epoch, self.held) {
            return Ok(());
        }
        Err(CommitError::Fenced { lease: self.lease.clone() })
    }
}

impl Op {
    /// Judges the precondition against the record as it stands.
    pub(super) fn check(&self, current: Option<&Record>) -> Result<(), CommitError> {
        let (kind, name) = (self.kind, self.name.clone());
        match (&self.expect, current) {
            (Expect::Any, _) | (Expect::Absent, None) | (Expect::Present, Some(_)) => Ok(()),
            (Expect::Etag(expected), Some(current)) if *expected == current.etag => Ok(()),
            (Expect::Absent, Some(_)) => Err(CommitError::Exists { kind, name }),
            (Expect::Present | Expect::Etag(_), None) => Err(CommitError::Missing { kind, name }),
            (Expect::Etag(expected), Some(current)) => Err(CommitError::Changed {
                kind,
                name,
                expected: expected.clone(),
                current: current.etag.clone(),
            }),
        }
    }

    /// The record that it writes, if it writes one.
    pub(super) fn written(
        &self,
        current: Option<&Record>,
        revision: u64,
        now: i64,
    ) -> Option<Record> {
        let body = self.write.clone()?;
        // The content is in the etag too, so that a store restored from a backup does not give an old etag to new content.
        let content: String = Digest::of(&body).to_hex().chars().take(12).collect();
        let (name, etag) = (self.name.clone(), format!("{revision:x}-{content}"));
        let created = current.map_or(now, |current| current.created);
        Some(Record { name, etag, revision, created, updated: now.max(created), body })
    }
}
