//! Who leads, by a Lease: a pure decision, and the loop that acts on it.
//!
//! As in client-go, clocks of different machines are not compared: a lease has run out when it was seen unchanged for its own duration. Whoever
//! leads steps down before that, when it could not renew in time; between the two nobody leads.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::settings::Election;

/// What a candidate knows of the lease: what it saw, and since when it looks like that.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// What it holds.
    pub spec: LeaseSpec,
    /// How long it has looked like that.
    pub unchanged_for: Duration,
}

/// What is to be done about a lease.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Write this: it makes the candidate the one that leads, or keeps it so.
    Write(LeaseSpec),
    /// Somebody else leads.
    Follow,
}

/// Decides, for a candidate at a moment. `None` is a lease that is not there.
#[must_use]
pub fn decide(
    seen: Option<&Seen>,
    candidate: &str,
    duration: Duration,
    now: Timestamp,
) -> Decision {
    let seconds = i32::try_from(duration.as_secs().max(1)).unwrap_or(i32::MAX);
    let mine = |acquired: Option<MicroTime>, transitions: i32| {
        Decision::Write(LeaseSpec {
            holder_identity: Some(candidate.to_owned()),
            lease_duration_seconds: Some(seconds),
            acquire_time: Some(acquired.unwrap_or(MicroTime(now))),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        })
    };
    let Some(seen) = seen else { return mine(None, 0) };
    let transitions = seen.spec.lease_transitions.unwrap_or_default();
    let holder = seen.spec.holder_identity.as_deref().filter(|holder| !holder.is_empty());
    match holder {
        Some(holder) if holder == candidate => mine(seen.spec.acquire_time.clone(), transitions),
        Some(_) if seen.unchanged_for < lasts(&seen.spec, duration) => Decision::Follow,
        Some(_) | None => mine(None, transitions.saturating_add(1)),
    }
}

/// How long a lease lasts: as its holder says.
fn lasts(spec: &LeaseSpec, default: Duration) -> Duration {
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.filter(|seconds| *seconds > 0).map_or(default, Duration::from_secs)
}

/// Takes part in the election.
#[derive(Debug)]
pub struct Candidate {
    leases: Api<Lease>,
    election: Election,
    identity: String,
    /// What was seen last, with its version, and when that was first.
    last: Option<(Lease, Instant)>,
}

impl Candidate {
    /// A candidate; it does nothing yet.
    #[must_use]
    pub fn new(client: Client, namespace: &str, identity: String, election: Election) -> Self {
        Self { leases: Api::namespaced(client, namespace), election, identity, last: None }
    }

    /// Waits until it leads.
    pub async fn lead(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the lease could not be asked for"),
            }
            sleep(self.election.retry_period).await;
        }
    }

    /// Keeps leading; returns when it does no more, because somebody else does or because the lease could not be renewed in time.
    pub async fn keep(&mut self, mut ended: watch::Receiver<bool>) {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = sleep(self.election.retry_period) => {}
                _ = ended.wait_for(|ended| *ended) => return,
            }
            let left = self.election.renew_deadline.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return tracing::error!("another operator leads now"),
                Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed"),
                Err(_) => tracing::warn!("the lease could not be renewed in time"),
            }
            if renewed.elapsed() >= self.election.renew_deadline {
                return tracing::error!("the lease was not renewed for too long");
            }
        }
    }

    /// Lets the next one lead at once.
    pub async fn release(&mut self) {
        let Some((lease, _)) = self.last.take() else { return };
        let spec = lease.spec.unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            return;
        }
        let free = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            ..spec
        };
        let lease = Lease { spec: Some(free), ..lease };
        if let Err(error) =
            self.leases.replace(&self.election.lease_name, &PostParams::default(), &lease).await
        {
            tracing::debug!(%error, "the lease was not released");
        }
    }

    /// Looks at the lease and does what is decided. Whether it leads.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let name = self.election.lease_name.clone();
        let found = self.leases.get_opt(&name).await?;
        self.see(found.as_ref());
        let seen = found.as_ref().map(|lease| Seen {
            spec: lease.spec.clone().unwrap_or_default(),
            unchanged_for: self.last.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed()),
        });
        let Decision::Write(spec) =
            decide(seen.as_ref(), &self.identity, self.election.lease_duration, Timestamp::now())
        else {
            return Ok(false);
        };
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let metadata = found.as_ref().map_or(metadata, |lease| lease.metadata.clone());
        let lease = Lease { metadata, spec: Some(spec) };
        // The version of what was seen goes along, so that of two candidates one is refused.
        let written = match found {
            Some(_) => self.leases.replace(&name, &PostParams::default(), &lease).await,
            None => self.leases.create(&PostParams::default(), &lease).await,
        };
        match written {
            Ok(lease) => {
                self.see(Some(&lease));
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn see(&mut self, lease: Option<&Lease>) {
        let Some(lease) = lease else {
            self.last = None;
            return;
        };
        let is_same = self.last.as_ref().is_some_and(|(last, _)| {
            last.metadata.resource_version == lease.metadata.resource_version
        });
        if !is_same {
            self.last = Some((lease.clone(), Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(15);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn held(by: &str, unchanged_for: u64) -> Seen {
        Seen {
            spec: LeaseSpec {
                holder_identity: Some(by.to_owned()),
                lease_duration_seconds: Some(15),
                acquire_time: Some(MicroTime(at(0))),
                renew_time: Some(MicroTime(at(0))),
                lease_transitions: Some(2),
                ..LeaseSpec::default()
            },
            unchanged_for: Duration::from_secs(unchanged_for),
        }
    }

    fn written(decision: Decision) -> LeaseSpec {
        match decision {
            Decision::Write(spec) => spec,
            Decision::Follow => panic!("it follows"),
        }
    }

    #[test]
    fn a_lease_that_is_not_there_is_taken() {
        let spec = written(decide(None, "a", DURATION, at(5)));
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("a"), Some(0)));
        assert_eq!(
            (spec.acquire_time, spec.renew_time),
            (Some(MicroTime(at(5))), Some(MicroTime(at(5))))
        );
        assert_eq!(spec.lease_duration_seconds, Some(15));
    }

    #[test]
    fn a_lease_of_ones_own_is_renewed_and_was_acquired_when_it_was() {
        let spec = written(decide(Some(&held("a", 0)), "a", DURATION, at(5)));
        assert_eq!(
            (spec.acquire_time, spec.renew_time),
            (Some(MicroTime(at(0))), Some(MicroTime(at(5))))
        );
        assert_eq!(spec.lease_transitions, Some(2));
    }

    #[test]
    fn another_ones_lease_is_left_until_it_was_seen_unchanged_for_as_long_as_it_lasts() {
        for (unchanged, follows) in [(0, true), (14, true), (15, false), (60, false)] {
            let decision = decide(Some(&held("b", unchanged)), "a", DURATION, at(1_000_000));
            assert_eq!(decision == Decision::Follow, follows, "{unchanged}");
        }
        let taken = written(decide(Some(&held("b", 15)), "a", DURATION, at(5)));
        assert_eq!(
            (taken.holder_identity.as_deref(), taken.lease_transitions),
            (Some("a"), Some(3))
        );
        // What its holder says counts, not what the candidate would say.
        let mut long = held("b", 20);
        long.spec.lease_duration_seconds = Some(30);
        assert_eq!(decide(Some(&long), "a", DURATION, at(5)), Decision::Follow);
    }

    #[test]
    fn a_lease_that_was_released_is_taken_at_once() {
        for holder in [Some(String::new()), None] {
            let mut free = held("b", 0);
            free.spec.holder_identity = holder;
            let taken = written(decide(Some(&free), "a", DURATION, at(5)));
            assert_eq!(taken.lease_transitions, Some(3));
        }
    }
}
