//! The steps of a rollout: one by one, and in any order of what may happen.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000_000;

fn version(generation: u64) -> Assignment {
    let bundle = Digest::of(&generation.to_le_bytes());
    Assignment { bundle, generation, start_time: 0 }
}

fn node(name: &str, standing: Standing) -> Node {
    Node { name: name.into(), here: true, standing }
}

fn rejected() -> Standing {
    Standing::Rejected("no".into())
}

fn rolling(policy: Policy, stage: Stage) -> Announced {
    let rollout = Some(Rollout { next: version(2), stage, since: 0 });
    Announced { active: Some(version(1)), rollout, policy, ..Announced::default() }
}

fn canary(name: &str) -> Step {
    Step::To(Stage::Canary(name.into()))
}

fn is_failed(step: &Step, reason: &str) -> bool {
    matches!(step, Step::To(Stage::Failed(failure)) if failure.reason == reason)
}

fn end() -> Step {
    Step::Wait(Some(120 * SECOND))
}

#[test]
fn with_nobody_there_it_is_served_at_once_unless_somebody_has_to_be() {
    let now = Announced::default().with_next(version(1), Policy::default(), false, &[], 0);
    assert_eq!((now.active, now.rollout), (Some(version(1)), None));
    let policy = Policy { min_responders: 1, ..Policy::default() };
    let waits = Announced::default().with_next(version(1), policy, false, &[], 0);
    assert_eq!(waits.active, None);
    assert_eq!(waits.step(&[], 0), Step::Wait(None));
    assert_eq!(waits.step(&[node("a", Standing::Silent)], 0), canary("a"));
}

#[test]
fn the_first_that_is_connected_tries_it() {
    let away = Node { here: false, ..node("a", Standing::Silent) };
    let nodes = [away, node("c", Standing::Silent), node("b", Standing::Silent)];
    let begun = Announced::default().with_next(version(1), Policy::default(), false, &nodes, 7);
    let rollout = begun.rollout.as_ref().unwrap();
    assert_eq!((&rollout.stage, rollout.since), (&Stage::Canary("b".into()), 7));
    assert_eq!(begun.fleet, ["a", "c", "b"]);
    let proven = Announced::default().with_next(version(1), Policy::default(), true, &nodes, 7);
    assert_eq!(proven.rollout.unwrap().stage, Stage::Everybody);
}

#[test]
fn what_the_one_says_decides() {
    let at = |standing| {
        let nodes = [node("a", standing), node("b", Standing::Silent)];
        rolling(Policy::default(), Stage::Canary("a".into())).step(&nodes, 0)
    };
    assert_eq!(at(Standing::Silent), end());
    assert_eq!(at(Standing::Fetching), end());
    assert_eq!(at(Standing::Prepared), Step::To(Stage::Everybody));
    assert!(is_failed(&at(rejected()), REJECTED));
    let alone = [node("a", Standing::Prepared)];
    let rollout = rolling(Policy::default(), Stage::Canary("a".into()));
    assert_eq!(rollout.step(&alone, 0), Step::Activate(vec![]));
    assert_eq!(rollout.step(&[node("b", Standing::Silent)], 0), canary("b"), "it has gone");
    assert_eq!(rollout.step(&[], 0), Step::Wait(None));
}

#[test]
fn one_that_takes_too_long_is_dealt_with_as_was_chosen() {
    let nodes = [node("a", Standing::Fetching), node("b", Standing::Silent)];
    let late = |on_straggler| {
        let policy = Policy { on_straggler, ..Policy::default() };
        rolling(policy, Stage::Canary("a".into())).step(&nodes, 120 * SECOND)
    };
    assert_eq!(late(OnStraggler::Wait), Step::Wait(None));
    assert_eq!(late(OnStraggler::Exclude), canary("b"));
    assert!(is_failed(&late(OnStraggler::Fail), LATE));
}

#[test]
fn all_have_to_have_prepared_it_unless_fewer_will_do() {
    let nodes =
        [node("a", Standing::Prepared), node("b", Standing::Active), node("c", Standing::Fetching)];
    let step = |policy: Policy, now| rolling(policy, Stage::Everybody).step(&nodes, now);
    let standard = Policy::default();
    assert_eq!(step(standard, 0), end());
    let two_thirds = Policy { quorum: 66, ..standard };
    assert_eq!(step(two_thirds, 0), Step::Activate(vec!["c".into()]));
    assert_eq!(step(Policy { quorum: 67, ..standard }, 0), end());
    assert_eq!(step(Policy { min_responders: 3, ..two_thirds }, 0), end());
    let late = |on_straggler| step(Policy { on_straggler, ..standard }, 120 * SECOND);
    assert_eq!(late(OnStraggler::Wait), Step::Wait(None));
    assert_eq!(late(OnStraggler::Exclude), Step::Activate(vec!["c".into()]));
    assert!(is_failed(&late(OnStraggler::Fail), LATE));
}

#[test]
fn a_refusal_ends_it_unless_it_can_go_on_without() {
    let nodes = [node("a", Standing::Prepared), node("b", rejected())];
    let step = |policy: Policy| rolling(policy, Stage::Everybody).step(&nodes, 0);
    assert!(is_failed(&step(Policy::default()), REJECTED));
    let without = Step::Activate(vec!["b".into()]);
    assert_eq!(step(Policy { quorum: 50, ..Policy::default() }), without);
    let exclude = Policy { on_straggler: OnStraggler::Exclude, ..Policy::default() };
    assert_eq!(step(exclude), without);
    assert!(is_failed(&step(Policy { min_responders: 2, ..exclude }), REJECTED));
    let all = [node("a", rejected()), node("b", rejected())];
    assert!(is_failed(&rolling(exclude, Stage::Everybody).step(&all, 0), REJECTED));
}

#[test]
fn who_is_there_is_remembered_as_long_as_that_is_of_use() {
    let nodes: Vec<Node> =
        (0..6000).map(|n| node(&format!("{n:04}"), Standing::Prepared)).collect();
    let begun = Announced::default().with_next(version(1), Policy::default(), true, &nodes, 0);
    assert_eq!(begun.fleet.len(), REMEMBERED);
    let after = begun.after(begun.step(&nodes, 0), &nodes, 0).unwrap();
    assert_eq!((after.active, after.fleet.len()), (Some(version(1)), KEPT));
}

#[test]
fn what_was_served_before_is_kept_for_the_way_back() {
    let nobody =
        |announced: &Announced, next| announced.with_next(next, Policy::default(), false, &[], 0);
    let one = nobody(&Announced::default(), version(1));
    assert_eq!(one.before, None);
    let again = nobody(&one, Assignment { generation: 2, ..version(1) });
    assert_eq!(again.before, None, "the same bundle is no way back");
    let two = nobody(&again, version(3));
    assert_eq!(two.before, Some(version(1).bundle));
    let again = nobody(&two, Assignment { generation: 4, ..version(3) });
    assert_eq!(again.before, Some(version(1).bundle));
    let back = nobody(&again, Assignment { generation: 5, ..version(1) });
    assert_eq!(back.before, Some(version(3).bundle));
}

#[test]
fn a_verdict_counts_who_has_to_serve_it() {
    let reason = |announced: &Announced, nodes: &[Node]| announced.verdict(nodes).reason;
    let active = Announced { active: Some(version(1)), ..Announced::default() };
    let serving = node("a", Standing::Active);
    assert_eq!(reason(&active, &[]), "NoResponders");
    assert_eq!(reason(&active, std::slice::from_ref(&serving)), "Serving");
    let lagging = [serving.clone(), node("b", Standing::Silent)];
    assert_eq!(reason(&active, &lagging), "Fetching");
    let begun = rolling(Policy::default(), Stage::Canary("gone".into()));
    assert_eq!(
        (reason(&begun, &[]), reason(&begun, &lagging)),
        ("NoResponders".into(), "Preparing".into())
    );
    let without = Announced { excluded: vec!["b".into()], ..active.clone() };
    assert_eq!(reason(&without, &lagging), "Serving");
    assert_eq!(reason(&without, &lagging[1..]), "Fetching", "nobody serves it");
    let refused = [serving, node("b", rejected())];
    let verdict = active.verdict(&refused);
    assert_eq!((verdict.reason.as_str(), verdict.message.as_str()), (REJECTED, "b: no"));
    let half = Announced { policy: Policy { quorum: 50, ..Policy::default() }, ..active };
    assert_eq!(reason(&half, &refused), "Serving");
}

/// What may happen.
#[derive(Debug, Clone)]
enum Event {
    Join(u8),
    Leave(u8),
    /// It carries out the newest of what it was told.
    Work(u8),
    Refuse(u8),
    /// Its report arrives late: of the version that it served before.
    Late(u8),
    Tick,
    Start,
    Retry,
    Rollback,
    /// A control plane takes a step.
    Lead,
    /// Another one judges now and commits later.
    Judge,
    /// And commits, if nobody was faster.
    Commit,
}

fn event() -> impl Strategy<Value = Event> {
    let who = 0_u8..5;
    prop_oneof![
        3 => who.clone().prop_map(Event::Join),
        1 => who.clone().prop_map(Event::Leave),
        6 => who.clone().prop_map(Event::Work),
        1 => who.clone().prop_map(Event::Refuse),
        1 => who.prop_map(Event::Late),
        2 => Just(Event::Tick),
        2 => Just(Event::Start),
        1 => Just(Event::Retry),
        1 => Just(Event::Rollback),
        8 => Just(Event::Lead),
        2 => Just(Event::Judge),
        2 => Just(Event::Commit),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let ways = vec![OnStraggler::Wait, OnStraggler::Exclude, OnStraggler::Fail];
    (1_u32..=100, proptest::sample::select(ways), 0_u32..3).prop_map(
        |(quorum, on_straggler, min_responders)| Policy {
            quorum,
            on_straggler,
            min_responders,
            timeout: Duration::from_secs(10),
        },
    )
}

/// A responder as the control plane knows it.
#[derive(Debug, Clone, Default)]
struct Known {
    prepared: Option<u64>,
    active: Option<u64>,
    refused: Option<u64>,
}

#[derive(Debug, Default)]
struct World {
    announced: Announced,
    etag: u64,
    responders: BTreeMap<String, Known>,
    now: i64,
    generation: u64,
    judged: Option<(u64, Announced)>,
    policy: Policy,
}

impl World {
    fn nodes(&self) -> Vec<Node> {
        let Some(newest) = self.announced.newest() else { return Vec::new() };
        let is = |generation: Option<u64>| generation == Some(newest.generation);
        let standing = |known: &Known| match known {
            known if is(known.active) => Standing::Active,
            known if is(known.refused) => rejected(),
            known if is(known.prepared) => Standing::Prepared,
            _ => Standing::Silent,
        };
        self.responders.iter().map(|(name, known)| node(name, standing(known))).collect()
    }

    fn write(&mut self, announced: Announced) {
        self.check(&announced);
        self.announced = announced;
        self.etag += 1;
    }

    /// What must hold of every change.
    fn check(&self, after: &Announced) {
        let before = &self.announced;
        if after.active == before.active {
            return;
        }
        let (Some(rollout), Some(active)) = (&before.rollout, after.active) else { return };
        if active != rollout.next {
            return;
        }
        let nodes = self.nodes();
        let prepared = nodes.iter().filter(|node| node.is_prepared()).count();
        let able = nodes.iter().filter(|node| !matches!(node.standing, Standing::Rejected(_)));
        let (able, policy) = (able.count(), &before.policy);
        let late = self.now >= deadline(rollout.since, policy.timeout);
        let enough = match policy.on_straggler {
            OnStraggler::Exclude if late => prepared > 0,
            OnStraggler::Exclude => prepared >= policy.needed(able) && prepared > 0,
            OnStraggler::Wait | OnStraggler::Fail => prepared >= policy.needed(nodes.len()),
        };
        assert!(enough, "{prepared} of {nodes:?} for {policy:?}");
        assert!(prepared >= usize::try_from(policy.min_responders).unwrap());
        let left_out: Vec<_> = nodes.iter().filter(|n| !n.is_prepared()).map(|n| &n.name).collect();
        assert_eq!(left_out, after.excluded.iter().collect::<Vec<_>>());
    }

    fn start(&mut self, next: Assignment, proven: bool) {
        self.generation = next.generation;
        let nodes = self.nodes_silent();
        let policy = self.policy;
        let after = self.announced.with_next(next, policy, proven, &nodes, self.now);
        if after.rollout.is_none() {
            assert!(nodes.is_empty() && policy.min_responders == 0);
        }
        self.announced = after;
        self.etag += 1;
    }

    /// Nobody has heard of what is only now started.
    fn nodes_silent(&self) -> Vec<Node> {
        self.responders.keys().map(|name| node(name, Standing::Silent)).collect()
    }

    fn happen(&mut self, event: &Event) {
        let name = |who: &u8| who.to_string();
        match event {
            Event::Join(who) => drop(self.responders.entry(name(who)).or_default()),
            Event::Leave(who) => drop(self.responders.remove(&name(who))),
            Event::Work(who) => self.work(&name(who), false),
            Event::Refuse(who) => self.work(&name(who), true),
            Event::Late(who) => {
                let before = self.generation.checked_sub(1);
                if let Some(known) = self.responders.get_mut(&name(who))
                    && known.active.is_none()
                {
                    known.active = before;
                }
            }
            Event::Tick => self.now += 4 * SECOND,
            Event::Start => self.start(version(self.generation + 1), false),
            Event::Retry => {
                if let Some(Rollout { next, stage: Stage::Failed(_), .. }) = self.announced.rollout
                {
                    self.start(Assignment { generation: self.generation + 1, ..next }, false);
                }
            }
            Event::Rollback => match (self.announced.before, &self.announced.rollout) {
                (Some(bundle), None) => {
                    let generation = self.generation + 1;
                    self.start(Assignment { bundle, generation, start_time: 0 }, true);
                }
                (_, Some(_)) if self.announced.active.is_some() => {
                    self.write(Announced { rollout: None, ..self.announced.clone() });
                }
                _ => {}
            },
            Event::Lead => {
                if let Some(after) = self.judge() {
                    self.write(after);
                    assert_eq!(self.judge_again(), None, "a step is taken once");
                }
            }
            Event::Judge => self.judged = self.judge().map(|after| (self.etag, after)),
            Event::Commit => {
                if let Some((etag, after)) = self.judged.take()
                    && etag == self.etag
                {
                    // It was judged by what is known to it, which may have changed; what was prepared stays so.
                    self.announced = after;
                    self.etag += 1;
                }
            }
        }
        self.look();
    }

    fn judge(&self) -> Option<Announced> {
        let nodes = self.nodes();
        self.announced.after(self.announced.step(&nodes, self.now), &nodes, self.now)
    }

    /// A second step at once is another one.
    fn judge_again(&self) -> Option<Announced> {
        self.judge().filter(|again| {
            again.rollout == self.announced.rollout && again.active == self.announced.active
        })
    }

    fn work(&mut self, name: &str, refuse: bool) {
        let next = self.announced.prepares(name).map(|next| next.generation);
        let active = self.announced.active.map(|active| active.generation);
        let Some(known) = self.responders.get_mut(name) else { return };
        match (next, active) {
            (Some(next), _) if refuse => known.refused = Some(next),
            (Some(next), _) if known.prepared != Some(next) => known.prepared = Some(next),
            (_, Some(active)) if !refuse && known.active < Some(active) => {
                known.active = Some(active);
            }
            _ => {}
        }
    }

    /// What must hold at any time.
    fn look(&self) {
        let verdict = self.announced.verdict(&self.nodes());
        if verdict.ready {
            assert_eq!(self.announced.rollout, None, "something else is on its way");
            let active = self.announced.active.unwrap().generation;
            let serving = self.responders.values().filter(|known| known.active == Some(active));
            let (serving, excluded) = (serving.count(), self.announced.excluded.len());
            let expected = self.responders.len().saturating_sub(excluded);
            assert!(serving > 0 && serving >= self.announced.policy.needed(expected));
        }
        if let Some(Rollout { stage: Stage::Canary(canary), .. }) = &self.announced.rollout {
            let told = self.responders.keys().filter(|n| self.announced.prepares(n).is_some());
            assert!(told.into_iter().all(|name| name == canary), "one alone tries it");
        }
    }
}

proptest! {
    #[test]
    fn in_any_order_nothing_is_served_too_early(
        policy in policy(),
        events in proptest::collection::vec(event(), 0..120),
    ) {
        let mut world = World { policy, ..World::default() };
        for event in &events {
            world.happen(event);
        }
    }

    #[test]
    fn once_all_do_their_work_it_is_served_by_all(
        policy in policy(),
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let mut world = World { policy, ..World::default() };
        for event in &events {
            world.happen(event);
        }
        for who in 0..5 {
            world.happen(&Event::Join(who));
        }
        world.happen(&Event::Start);
        let newest = world.generation;
        for _ in 0..10 {
            (0..5).for_each(|who| world.happen(&Event::Work(who)));
            world.happen(&Event::Lead);
        }
        prop_assert_eq!(world.announced.active.map(|active| active.generation), Some(newest));
        prop_assert!(world.announced.verdict(&world.nodes()).ready);
    }
}
