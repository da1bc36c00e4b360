//! What is announced of a replay, as it is stored and as callers choose it.

use std::time::Duration;

use bytes::Bytes;
use countersign_engine::snapshot::wire::{
    WireError, decode_digest, encode_digest, nanos, timestamp,
};
use countersign_proto::{
    control::v1::{OnStraggler as WireStraggler, RolloutPolicy},
    r#type::v1 as common,
};
use prost::Message;

use super::{
    Problem,
    wire::{decode, required},
};
use crate::{
    publish::Assignment,
    rollout::{Announced, Failure, OnStraggler, Policy, Rollout, Stage},
};

/// A rollout takes no longer than this to be late.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Clone, PartialEq, Message)]
struct StoredAssignment {
    /// What is served: three fields, as before there was anything else.
    #[prost(message, optional, tag = "2")]
    bundle: Option<common::Digest>,
    #[prost(uint64, tag = "3")]
    generation: u64,
    #[prost(message, optional, tag = "4")]
    start_time: Option<prost_types::Timestamp>,
    #[prost(message, optional, tag = "10")]
    before: Option<common::Digest>,
    #[prost(message, optional, tag = "11")]
    rollout: Option<StoredRollout>,
    #[prost(message, optional, tag = "12")]
    policy: Option<RolloutPolicy>,
    #[prost(string, repeated, tag = "13")]
    excluded: Vec<String>,
    #[prost(string, repeated, tag = "14")]
    fleet: Vec<String>,
    #[prost(uint64, tag = "15")]
    retries: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRollout {
    #[prost(message, optional, tag = "1")]
    bundle: Option<common::Digest>,
    #[prost(uint64, tag = "2")]
    generation: u64,
    #[prost(message, optional, tag = "3")]
    start_time: Option<prost_types::Timestamp>,
    #[prost(int64, tag = "4")]
    since: i64,
    /// Absent once it has been prepared.
    #[prost(string, optional, tag = "5")]
    canary: Option<String>,
    /// Not empty once it has failed.
    #[prost(string, tag = "6")]
    reason: String,
    #[prost(string, tag = "7")]
    message: String,
}

/// Encodes what is announced, for the store.
pub(crate) fn encode_announced(announced: &Announced) -> Bytes {
    let active = announced.active;
    let stored = StoredAssignment {
        bundle: active.map(|active| encode_digest(&active.bundle)),
        generation: active.map(|active| active.generation).unwrap_or_default(),
        start_time: active.map(|active| timestamp(active.start_time)),
        before: announced.before.as_ref().map(encode_digest),
        rollout: announced.rollout.as_ref().map(encode_rollout),
        policy: Some(encode_policy(&announced.policy)),
        excluded: announced.excluded.clone(),
        fleet: announced.fleet.clone(),
        retries: announced.retries,
    };
    stored.encode_to_vec().into()
}

/// Decodes what is stored.
pub(crate) fn decode_announced(bytes: Bytes) -> Result<Announced, WireError> {
    let stored: StoredAssignment = decode("assignment", bytes)?;
    let policy = stored.policy.map(|policy| decode_policy(&policy)).transpose();
    let active = match &stored.bundle {
        None => None,
        Some(bundle) => Some(version(Some(bundle), stored.generation, stored.start_time)?),
    };
    Ok(Announced {
        active,
        before: stored.before.as_ref().map(decode_digest).transpose()?,
        rollout: stored.rollout.map(decode_rollout).transpose()?,
        // What was accepted once cannot be anything else.
        policy: policy.ok().flatten().unwrap_or_default(),
        excluded: stored.excluded,
        fleet: stored.fleet,
        retries: stored.retries,
    })
}

fn version(
    bundle: Option<&common::Digest>,
    generation: u64,
    start_time: Option<prost_types::Timestamp>,
) -> Result<Assignment, WireError> {
    let start_time = start_time.map_or(Ok(0), nanos)?;
    Ok(Assignment { bundle: required(bundle)?, generation, start_time })
}

fn encode_rollout(rollout: &Rollout) -> StoredRollout {
    let (canary, failure) = match &rollout.stage {
        Stage::Canary(canary) => (Some(canary.clone()), None),
        Stage::Everybody => (None, None),
        Stage::Failed(failure) => (None, Some(failure.clone())),
    };
    let (reason, message) = failure.map(|f| (f.reason, f.message)).unwrap_or_default();
    StoredRollout {
        bundle: Some(encode_digest(&rollout.next.bundle)),
        generation: rollout.next.generation,
        start_time: Some(timestamp(rollout.next.start_time)),
        since: rollout.since,
        canary,
        reason,
        message,
    }
}

fn decode_rollout(stored: StoredRollout) -> Result<Rollout, WireError> {
    let next = version(stored.bundle.as_ref(), stored.generation, stored.start_time)?;
    let stage = match (stored.canary, stored.reason) {
        (_, reason) if !reason.is_empty() => {
            Stage::Failed(Failure { reason, message: stored.message })
        }
        (Some(canary), _) => Stage::Canary(canary),
        (None, _) => Stage::Everybody,
    };
    Ok(Rollout { next, stage, since: stored.since })
}

/// Encodes a policy.
pub(super) fn encode_policy(policy: &Policy) -> RolloutPolicy {
    let on_straggler = match policy.on_straggler {
        OnStraggler::Wait => WireStraggler::Wait,
        OnStraggler::Exclude => WireStraggler::Exclude,
        OnStraggler::Fail => WireStraggler::Fail,
    };
    RolloutPolicy {
        quorum_percent: policy.quorum,
        timeout: policy.timeout.try_into().ok(),
        on_straggler: on_straggler.into(),
        min_responders: policy.min_responders,
    }
}

/// Reads a policy that a caller chose.
pub(super) fn decode_policy(policy: &RolloutPolicy) -> Result<Policy, Problem> {
    let refused = |field: &str, message: &str| {
        Problem::field(format!("rollout_policy.{field}"), "INVALID_POLICY", message)
    };
    let quorum = match policy.quorum_percent {
        0 => 100,
        percent @ 1..=100 => percent,
        _ => return Err(refused("quorum_percent", "a quorum has at most 100 percent")),
    };
    let timeout = match policy.timeout {
        None => Policy::TIMEOUT,
        Some(timeout) => Duration::try_from(timeout)
            .ok()
            .filter(|timeout| !timeout.is_zero() && *timeout <= LONGEST)
            .ok_or_else(|| {
                refused("timeout", "a timeout is longer than nothing and at most a week")
            })?,
    };
    let on_straggler = match WireStraggler::try_from(policy.on_straggler) {
        Ok(WireStraggler::Unspecified | WireStraggler::Wait) => OnStraggler::Wait,
        Ok(WireStraggler::Exclude) => OnStraggler::Exclude,
        Ok(WireStraggler::Fail) => OnStraggler::Fail,
        Err(_) => return Err(refused("on_straggler", "that is no way to deal with stragglers")),
    };
    Ok(Policy { quorum, timeout, on_straggler, min_responders: policy.min_responders })
}

#[cfg(test)]
mod tests {
    use countersign_engine::snapshot::digest::Digest;

    use super::*;

    #[test]
    fn what_is_announced_comes_back() {
        let version = |generation| Assignment {
            bundle: Digest::of(b"x"),
            generation,
            start_time: 1_700_000_000_000_000_001,
        };
        let failure = Failure { reason: "Word".into(), message: "a sentence".into() };
        let stages = [
            Stage::Canary("a".into()),
            Stage::Canary(String::new()),
            Stage::Everybody,
            Stage::Failed(failure),
        ];
        for stage in stages {
            let announced = Announced {
                active: Some(version(7)),
                before: Some(Digest::of(b"before")),
                rollout: Some(Rollout { next: version(8), stage, since: 5 }),
                policy: Policy {
                    quorum: 60,
                    timeout: Duration::from_millis(1500),
                    on_straggler: OnStraggler::Exclude,
                    min_responders: 3,
                },
                excluded: vec!["slow".into()],
                fleet: vec!["a".into(), "slow".into()],
                retries: 2,
            };
            assert_eq!(decode_announced(encode_announced(&announced)).unwrap(), announced);
        }
        let empty = Announced::default();
        assert_eq!(decode_announced(encode_announced(&empty)).unwrap(), empty);
        assert!(decode_announced(Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn a_policy_has_defaults_and_bounds() {
        assert_eq!(decode_policy(&RolloutPolicy::default()).unwrap(), Policy::default());
        let timeout = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        for bad in [
            RolloutPolicy { quorum_percent: 101, ..RolloutPolicy::default() },
            RolloutPolicy { timeout: timeout(0), ..RolloutPolicy::default() },
            RolloutPolicy { timeout: timeout(-1), ..RolloutPolicy::default() },
            RolloutPolicy { timeout: timeout(i64::MAX), ..RolloutPolicy::default() },
            RolloutPolicy { on_straggler: 9, ..RolloutPolicy::default() },
        ] {
            assert!(decode_policy(&bad).is_err(), "{bad:?}");
        }
    }
}
