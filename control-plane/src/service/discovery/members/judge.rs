//! Whether it is time for another epoch. No store, no socket; the time is handed in.
//!
//! Whoever is not heard of is left in for a moment, because a broken stream is mostly opened again by the same process. After the start of a
//! control plane, those who have not come back yet are left in for longer.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
    time::Duration,
};

use countersign_proto::discovery::v1::{Member, Members};
use tokio::time::Instant;

/// Whoever is not heard of is left in for so long.
const LINGER: Duration = Duration::from_millis(500);
/// The same while a control plane has just started.
const GRACE: Duration = Duration::from_secs(10);
/// So many responders share the turns of a replay; further ones ask them.
const MEMBERS: usize = 1024;

/// What responders say of themselves, by name: which member of those who share turns each is, if any.
pub(super) type Heard = BTreeMap<String, Option<Member>>;

/// Remembers since when who is not heard of.
#[derive(Debug)]
pub(super) struct Judge {
    started: Instant,
    /// The processes that were heard of soon after that.
    back: HashSet<String>,
    /// By replay and process.
    gone: HashMap<(String, String), Gone>,
    /// Nobody shared anything in the last round.
    idle: bool,
    /// Somebody does in this one.
    shared: bool,
}

#[derive(Debug)]
struct Gone {
    since: Instant,
    /// It was looked for in this round.
    missed: bool,
}

impl Judge {
    pub(super) fn new(started: Instant) -> Self {
        let (back, gone) = (HashSet::new(), HashMap::new());
        Self { started, back, gone, idle: true, shared: false }
    }

    /// Whether nobody shared anything in the last round.
    pub(super) fn is_idle(&self) -> bool {
        self.idle
    }

    /// The next epoch of a replay, if there has to be one.
    pub(super) fn next(
        &mut self,
        replay: &str,
        before: Option<&Members>,
        heard: &Heard,
        revision: u64,
        now: Instant,
    ) -> Option<Members> {
        let mut members: BTreeMap<&String, Member> = heard
            .iter()
            .filter_map(|(name, member)| member.clone().map(|member| (name, member)))
            .collect();
        self.shared |= !members.is_empty();
        if self.is_starting(now) {
            self.back.extend(members.values().map(|member| member.session_id.clone()));
        } else {
            self.back = HashSet::new();
        }
        for member in before.into_iter().flat_map(|before| &before.members) {
            if !heard.contains_key(&member.name) && self.may_return(replay, member, now) {
                members.insert(&member.name, member.clone());
            }
        }
        let members: Vec<Member> = members.into_values().take(MEMBERS).collect();
        let old = before.map_or(&[][..], |before| &before.members);
        // When all are gone, the last ones stand there still: whoever comes next has to ask them, and to say that there is no answer.
        if members.is_empty() || members == old {
            return None;
        }
        let previous_epoch = before.map_or(0, |before| before.epoch);
        Some(Members {
            replay: replay.to_owned(),
            // Greater than in any earlier life of the replay: each epoch is a commit, and commits raise the revision.
            epoch: revision.max(previous_epoch.saturating_add(1)),
            members,
            previous_epoch,
            previous: old.to_vec(),
        })
    }

    fn may_return(&mut self, replay: &str, member: &Member, now: Instant) -> bool {
        let key = (replay.to_owned(), member.session_id.clone());
        let gone = self.gone.entry(key).or_insert(Gone { since: now, missed: true });
        gone.missed = true;
        let since = gone.since;
        let awaited = self.is_starting(now) && !self.back.contains(&member.session_id);
        now.saturating_duration_since(since) < if awaited { GRACE } else { LINGER }
    }

    fn is_starting(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.started) < GRACE
    }

    /// Ends a round: whoever was not looked for is back, or out.
    pub(super) fn forget_others(&mut self) {
        self.gone.retain(|_, gone| mem::take(&mut gone.missed));
        self.idle = !mem::take(&mut self.shared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session without a name is of somebody who does not share.
    fn heard(names: &[(&str, &str)]) -> Heard {
        let member = |(name, session): &(&str, &str)| Member {
            name: (*name).into(),
            session_id: (*session).into(),
            address: format!("{name}:1"),
        };
        let member = |of: &(&str, &str)| (!of.1.is_empty()).then(|| member(of));
        names.iter().map(|of| (of.0.to_owned(), member(of))).collect()
    }

    struct Rounds {
        judge: Judge,
        stored: Option<Members>,
        now: Instant,
    }

    impl Rounds {
        /// A control plane that has been running for a while.
        fn new() -> Self {
            let started = Instant::now();
            Self { judge: Judge::new(started), stored: None, now: started + 2 * GRACE }
        }

        fn round(&mut self, names: &[(&str, &str)], revision: u64) -> Option<(u64, Vec<String>)> {
            let next =
                self.judge.next("r", self.stored.as_ref(), &heard(names), revision, self.now);
            self.judge.forget_others();
            let told = next.as_ref().map(|members| {
                let sessions = members.members.iter().map(|m| m.session_id.clone());
                (members.epoch, sessions.collect())
            });
            self.stored = next.or_else(|| self.stored.take());
            told
        }
    }

    fn epoch(number: u64, sessions: &[&str]) -> Option<(u64, Vec<String>)> {
        Some((number, sessions.iter().map(|session| (*session).to_owned()).collect()))
    }

    #[test]
    fn an_epoch_begins_with_each_change_and_names_the_one_before() {
        let mut rounds = Rounds::new();
        assert_eq!(rounds.round(&[], 3), None);
        assert_eq!(rounds.round(&[("a", "a1")], 7), epoch(7, &["a1"]));
        assert_eq!(rounds.round(&[("a", "a1")], 8), None);
        assert_eq!(rounds.round(&[("a", "a1"), ("b", "b1")], 7), epoch(8, &["a1", "b1"]));
        let stored = rounds.stored.as_ref().unwrap();
        assert_eq!((stored.previous_epoch, stored.previous.len()), (7, 1));
        assert_eq!(rounds.round(&[("a", "a2"), ("b", "b1")], 20), epoch(20, &["a2", "b1"]));
    }

    #[test]
    fn a_broken_stream_may_come_back_and_the_last_ones_stay_on_record() {
        let mut rounds = Rounds::new();
        rounds.round(&[("a", "a1"), ("b", "b1")], 1);
        assert_eq!(rounds.round(&[("b", "b1")], 2), None, "it may come back");
        assert_eq!(rounds.round(&[("a", "a1"), ("b", "b1")], 2), None);
        rounds.now += LINGER;
        assert_eq!(rounds.round(&[("b", "b1")], 2), None, "it was back in between");
        rounds.now += LINGER;
        assert_eq!(rounds.round(&[("b", "b1")], 2), epoch(2, &["b1"]));
        assert_eq!(rounds.round(&[], 3), None);
        rounds.now += LINGER;
        assert_eq!(rounds.round(&[], 3), None, "nobody is left to agree on anything");
        assert_eq!(rounds.round(&[("c", "c1")], 3), epoch(3, &["c1"]));
        assert_eq!(rounds.stored.unwrap().previous[0].session_id, "b1");
    }

    #[test]
    fn whoever_says_that_it_leaves_is_out_at_once() {
        let mut rounds = Rounds::new();
        rounds.round(&[("a", "a1"), ("b", "b1"), ("c", "")], 1);
        assert_eq!(rounds.stored.as_ref().unwrap().members.len(), 2);
        assert_eq!(rounds.round(&[("a", ""), ("b", "b1")], 2), epoch(2, &["b1"]));
        assert_eq!(rounds.round(&[("b", ""), ("c", "")], 3), None);
    }

    #[test]
    fn after_a_start_nobody_is_missed_for_a_while() {
        let mut rounds = Rounds::new();
        rounds.round(&[("a", "a1"), ("b", "b1")], 1);
        rounds.judge = Judge::new(rounds.now);
        assert_eq!(rounds.round(&[], 2), None);
        rounds.now += 2 * LINGER;
        assert_eq!(rounds.round(&[("a", "a1")], 2), None);
        assert_eq!(rounds.round(&[], 2), None);
        rounds.now += LINGER;
        let left = rounds.round(&[], 2);
        assert_eq!(left, epoch(2, &["b1"]), "who was back and is gone again is not waited for");
        rounds.now += GRACE;
        assert_eq!(rounds.round(&[("c", "c1")], 3), epoch(3, &["c1"]));
    }
}
