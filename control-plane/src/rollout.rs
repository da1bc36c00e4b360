//! How a started replay reaches the fleet: one responder prepares the bundle, then all do, and only then is it served, by all at once.
//!
//! No clock, no store: what is to be done next follows from what is stored and from how the responders stand, so that any control plane can go on
//! with what another one has begun, and doing it twice does no harm.

mod verdict;

use std::time::Duration;

use countersign_engine::snapshot::digest::Digest;

use crate::publish::Assignment;
pub use verdict::Verdict;

/// So many names are told in a sentence.
const NAMED: usize = 5;
/// So many responders are remembered by name while something is on its way to them.
const REMEMBERED: usize = 5_000;
/// And so many afterwards: enough to tell that a fleet is not back yet.
const KEPT: usize = 50;

/// How a start reaches the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How many of the responders have to be ready, in percent.
    pub quorum: u32,
    /// How long a step may take before stragglers are dealt with.
    pub timeout: Duration,
    /// How they are dealt with.
    pub on_straggler: OnStraggler,
    /// At least so many have to have prepared it.
    pub min_responders: u32,
}

/// What becomes of a rollout when responders take too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStraggler {
    /// It waits for them.
    Wait,
    /// It goes on without them.
    Exclude,
    /// It fails.
    Fail,
}

impl Policy {
    /// The timeout unless another one is chosen.
    pub const TIMEOUT: Duration = Duration::from_secs(120);

    /// How many of so many responders have to be ready.
    #[must_use]
    pub fn needed(&self, expected: usize) -> usize {
        let quorum = usize::try_from(self.quorum).unwrap_or(100).min(100);
        let share = expected.saturating_mul(quorum).div_ceil(100);
        share.max(usize::try_from(self.min_responders).unwrap_or(usize::MAX))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            quorum: 100,
            timeout: Self::TIMEOUT,
            on_straggler: OnStraggler::Wait,
            min_responders: 0,
        }
    }
}

/// Everything that is announced of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Announced {
    /// What is to be served.
    pub active: Option<Assignment>,
    /// The bundle that was served before that.
    pub before: Option<Digest>,
    /// What is on its way to be served.
    pub rollout: Option<Rollout>,
    /// How the last start was to reach the fleet.
    pub policy: Policy,
    /// Responders without which it was activated.
    pub excluded: Vec<String>,
    /// Who was there when this was decided; one that is missed is waited for a while.
    pub fleet: Vec<String>,
    /// Grows when what was refused is to be tried again.
    pub retries: u64,
}

/// A bundle on its way to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// What will be served.
    pub next: Assignment,
    /// The step that it is at.
    pub stage: Stage,
    /// When the step began, in nanoseconds since the epoch.
    pub since: i64,
}

/// The steps of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// This one prepares it; an empty name is nobody's.
    Canary(String),
    /// All prepare it.
    Everybody,
    /// It was given up.
    Failed(Failure),
}

/// Why a rollout was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// As one word: [`REJECTED`] or [`LATE`].
    pub reason: String,
    /// In a sentence.
    pub message: String,
}

/// A responder refused the bundle.
pub const REJECTED: &str = "ResponderRejected";
/// Responders took too long.
pub const LATE: &str = "RolloutTimedOut";

/// A responder that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Whether it is connected now; one that is not counts for a while, because it may come back.
    pub here: bool,
    /// How it stands to the bundle.
    pub standing: Standing,
}

/// How a responder stands to one version of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has said nothing of it.
    Silent,
    /// It is at it.
    Fetching,
    /// It holds it.
    Prepared,
    /// It serves it.
    Active,
    /// It refused it, for this reason.
    Rejected(String),
}

impl Node {
    /// Whether it could serve the bundle at once.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        matches!(self.standing, Standing::Prepared | Standing::Active)
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something changes or this time has come.
    Wait(Option<i64>),
    /// The next step begins.
    To(Stage),
    /// It is served from now on, without these.
    Activate(Vec<String>),
}

impl Announced {
    /// The same with another bundle on its way. A proven one, which was served before, needs nobody to try it first.
    #[must_use]
    pub fn with_next(
        &self,
        next: Assignment,
        policy: Policy,
        proven: bool,
        nodes: &[Node],
        now: i64,
    ) -> Self {
        let begun = Self {
            rollout: None,
            policy,
            fleet: nodes.iter().take(REMEMBERED).map(|node| node.name.clone()).collect(),
            ..self.clone()
        };
        if nodes.is_empty() && policy.min_responders == 0 {
            return begun.activated(next, Vec::new());
        }
        let stage = if proven {
            Stage::Everybody
        } else {
            Stage::Canary(candidate(nodes, "").unwrap_or_default())
        };
        Self { rollout: Some(Rollout { next, stage, since: now }), ..begun }
    }

    /// The same after a step; `None` when there is nothing to be done.
    #[must_use]
    pub fn after(&self, step: Step, nodes: &[Node], now: i64) -> Option<Self> {
        let rollout = self.rollout.as_ref()?;
        let begun = Self {
            fleet: nodes.iter().take(REMEMBERED).map(|node| node.name.clone()).collect(),
            ..self.clone()
        };
        Some(match step {
            Step::Wait(_) => return None,
            Step::To(stage) => {
                let rollout = Rollout { stage, since: now, ..rollout.clone() };
                Self { rollout: Some(rollout), ..begun }
            }
            Step::Activate(excluded) => begun.activated(rollout.next, excluded),
        })
    }

    fn activated(&self, next: Assignment, mut excluded: Vec<String>) -> Self {
        excluded.truncate(REMEMBERED);
        let fleet = self.fleet.iter().take(KEPT).cloned().collect();
        let replaced = self.active.map(|active| active.bundle);
        let before = replaced.filter(|bundle| *bundle != next.bundle).or(self.before);
        Self {
            active: Some(next),
            // Going back to what is served leads nowhere.
            before: before.filter(|bundle| *bundle != next.bundle),
            rollout: None,
            excluded,
            fleet,
            ..self.clone()
        }
    }

    /// The rollout, unless it was given up.
    #[must_use]
    pub fn under_way(&self) -> Option<&Rollout> {
        self.rollout.as_ref().filter(|rollout| !matches!(rollout.stage, Stage::Failed(_)))
    }

    /// What this responder is to prepare.
    #[must_use]
    pub fn prepares(&self, responder: &str) -> Option<Assignment> {
        let rollout = self.rollout.as_ref()?;
        match &rollout.stage {
            Stage::Everybody => Some(rollout.next),
            Stage::Canary(canary) if canary == responder => Some(rollout.next),
            Stage::Canary(_) | Stage::Failed(_) => None,
        }
    }

    /// The newest assignment, whatever has become of it.
    #[must_use]
    pub fn newest(&self) -> Option<Assignment> {
        self.rollout.as_ref().map(|rollout| rollout.next).or(self.active)
    }

    /// Every bundle that responders may need.
    pub fn bundles(&self) -> impl Iterator<Item = Digest> {
        let active = self.active.map(|active| active.bundle);
        let next = self.rollout.as_ref().map(|rollout| rollout.next.bundle);
        active.into_iter().chain(next).chain(self.before)
    }

    /// What is to be done next, as the responders stand to what is on its way.
    #[must_use]
    pub fn step(&self, nodes: &[Node], now: i64) -> Step {
        let Some(rollout) = &self.rollout else { return Step::Wait(None) };
        match &rollout.stage {
            Stage::Failed(_) => Step::Wait(None),
            Stage::Canary(canary) => self.try_out(canary, rollout.since, nodes, now),
            Stage::Everybody => self.barrier(rollout.since, nodes, now),
        }
    }

    fn try_out(&self, canary: &str, since: i64, nodes: &[Node], now: i64) -> Step {
        let another = |than: &str| candidate(nodes, than).map(|name| Step::To(Stage::Canary(name)));
        let Some(node) = nodes.iter().find(|node| node.name == canary) else {
            // It has gone, and may have been the last one. Whoever comes then will be the next.
            return another(canary).unwrap_or(Step::Wait(None));
        };
        match &node.standing {
            Standing::Rejected(why) => failed(REJECTED, format!("{canary}: {why}")),
            Standing::Prepared | Standing::Active => match self.barrier(since, nodes, now) {
                activate @ Step::Activate(_) => activate,
                _ => Step::To(Stage::Everybody),
            },
            Standing::Silent | Standing::Fetching => {
                let end = deadline(since, self.policy.timeout);
                if now < end {
                    return Step::Wait(Some(end));
                }
                match self.policy.on_straggler {
                    OnStraggler::Wait => Step::Wait(None),
                    OnStraggler::Exclude => another(canary).unwrap_or(Step::Wait(None)),
                    OnStraggler::Fail => late(&[canary]),
                }
            }
        }
    }

    fn barrier(&self, since: i64, nodes: &[Node], now: i64) -> Step {
        if nodes.is_empty() {
            return Step::Wait(None);
        }
        let policy = &self.policy;
        let prepared = nodes.iter().filter(|node| node.is_prepared()).count();
        let unprepared = || nodes.iter().filter(|node| !node.is_prepared());
        let go = || Step::Activate(unprepared().map(|node| node.name.clone()).collect());
        if prepared >= policy.needed(nodes.len()) {
            return go();
        }
        let refusals: Vec<String> = nodes
            .iter()
            .filter_map(|node| match &node.standing {
                Standing::Rejected(why) => Some(format!("{}: {why}", node.name)),
                _ => None,
            })
            .collect();
        let able = nodes.len() - refusals.len();
        let excludes = policy.on_straggler == OnStraggler::Exclude;
        let needed = policy.needed(if excludes { able } else { nodes.len() });
        // Too few are left, however long one waits. Who may still join does not count.
        if !refusals.is_empty() && (able < needed || able == 0) {
            return failed(REJECTED, listed(&refusals));
        }
        if excludes && !refusals.is_empty() && prepared >= needed {
            return go();
        }
        let end = deadline(since, policy.timeout);
        if now < end {
            return Step::Wait(Some(end));
        }
        let enough = usize::try_from(policy.min_responders).unwrap_or(usize::MAX).max(1);
        match policy.on_straggler {
            OnStraggler::Exclude if prepared >= enough => go(),
            OnStraggler::Wait | OnStraggler::Exclude => Step::Wait(None),
            OnStraggler::Fail => {
                let names: Vec<&str> = unprepared().map(|node| node.name.as_str()).collect();
                late(&names)
            }
        }
    }
}

/// The next by name behind this one, then from the start; those that are connected come first.
fn candidate(nodes: &[Node], behind: &str) -> Option<String> {
    let others = nodes.iter().filter(|node| node.name != behind);
    let chosen = others.min_by_key(|node| (!node.here, *node.name <= *behind, node.name.as_str()));
    chosen.map(|node| node.name.clone())
}

fn failed(reason: &str, message: String) -> Step {
    Step::To(Stage::Failed(Failure { reason: reason.to_owned(), message }))
}

fn late(names: &[&str]) -> Step {
    let who = if names.is_empty() {
        "too few responders are connected".to_owned()
    } else {
        format!("not prepared in time by {}", listed(names))
    };
    failed(LATE, who)
}

/// Some of these, and how many more there are.
pub(crate) fn listed<S: AsRef<str>>(all: &[S]) -> String {
    let shown: Vec<&str> = all.iter().take(NAMED).map(AsRef::as_ref).collect();
    match all.len().checked_sub(NAMED) {
        None | Some(0) => shown.join("; "),
        Some(more) => format!("{}; and {more} more", shown.join("; ")),
    }
}

fn deadline(since: i64, timeout: Duration) -> i64 {
    since.saturating_add(i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
