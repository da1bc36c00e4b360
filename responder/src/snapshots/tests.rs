//! What is held, whatever is told in whatever order.

use std::collections::HashSet;

use countersign_engine::{
    compile::compile,
    snapshot::{
        Serve,
        told::{ACTIVATE, PREPARE, Told, state_digest},
    },
    test_config::TestConfig,
    transform::Template,
};
use proptest::prelude::*;

use super::*;

const NAME: &str = "projects/default/replays/r";

fn version(generation: u64) -> Assignment {
    // Every fourth start is of a bundle that was there before.
    let bundle = Digest::of(&(generation % 4).to_le_bytes());
    let start_time = i64::try_from(generation).unwrap();
    Assignment { name: NAME.into(), bundle, generation, start_time, revision: generation }
}

/// What may happen, each with a generation.
#[derive(Debug, Clone)]
enum Event {
    Prepare(u64),
    Activate(u64),
    Arrive(u64),
    ArriveAgain(u64),
    Refuse(u64),
    Unprepare(u64),
    Withdraw,
    Reconnect,
}

fn event() -> impl Strategy<Value = Event> {
    let generation = 1_u64..7;
    prop_oneof![
        3 => generation.clone().prop_map(Event::Prepare),
        3 => generation.clone().prop_map(Event::Activate),
        4 => generation.clone().prop_map(Event::Arrive),
        1 => generation.clone().prop_map(Event::ArriveAgain),
        1 => generation.clone().prop_map(Event::Refuse),
        1 => generation.prop_map(Event::Unprepare),
        1 => Just(Event::Withdraw),
        1 => Just(Event::Reconnect),
    ]
}

struct World {
    snapshots: Snapshots,
    compiled: Arc<CompiledSnapshot>,
    /// What was ever told to be served since it was withdrawn last.
    served: HashSet<u64>,
}

impl World {
    fn new() -> Self {
        let config = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
        let (compiled, _) = compile(Vec::new(), &Template::default(), &config, Serve::All);
        let snapshots = Snapshots::new(Arc::new(Metrics::new(1)), true);
        Self { snapshots, compiled: Arc::new(compiled), served: HashSet::new() }
    }

    fn arrive(&self, generation: u64) {
        self.snapshots.arrive(&version(generation), &self.compiled, &Arc::default());
    }

    fn happen(&mut self, event: &Event) {
        let snapshots = &self.snapshots;
        match *event {
            Event::Prepare(generation) => snapshots.hear(&version(generation), Phase::Prepare),
            Event::Activate(generation) => {
                self.served.insert(generation);
                snapshots.hear(&version(generation), Phase::Activate);
                snapshots.activate(&version(generation));
            }
            Event::Arrive(generation) => self.arrive(generation),
            Event::ArriveAgain(generation) => drop(snapshots.arrive_again(&version(generation))),
            Event::Refuse(generation) => {
                let Assignment { bundle, generation, .. } = version(generation);
                let diagnostics = Vec::new();
                let rejected = Rejected { bundle, generation, diagnostics, activating: false };
                snapshots.reject(NAME, rejected);
            }
            Event::Unprepare(generation) => snapshots.unprepare(NAME, generation),
            Event::Withdraw => {
                assert!(snapshots.withdraw(NAME, u64::MAX));
                self.served.clear();
            }
            Event::Reconnect => snapshots.hear_anew(),
        }
        self.look();
    }

    /// What must hold at any time.
    fn look(&self) {
        let table = self.snapshots.load_full();
        assert!(table.replays.len() <= 1 && table.previous.len() <= 1);
        let active = table.active(NAME).map(|replay| &replay.assignment);
        if let Some(active) = active {
            assert!(self.served.contains(&active.generation), "it was never to be served");
            assert!(!table.awaited.contains(NAME));
        }
        if let Some(previous) = table.previous.get(NAME) {
            assert!(self.served.contains(&previous.assignment.generation));
            assert_ne!(Some(previous.assignment.bundle), active.map(|active| active.bundle));
        }
    }
}

proptest! {
    #[test]
    fn only_what_was_told_to_be_served_is_served(
        events in proptest::collection::vec(event(), 0..40),
    ) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        // Once all work is done, what is held is what was told.
        let targets = world.snapshots.load_full().targets.get(NAME).cloned().unwrap_or_default();
        for wanted in targets.active.iter().chain(&targets.next) {
            let table = world.snapshots.load_full();
            let prepared = table.prepared.get(NAME).is_some_and(|it| it.assignment.is(wanted));
            let active = table.active(NAME).is_some_and(|it| it.assignment.is(wanted));
            if !prepared && !active {
                world.snapshots.try_again(wanted);
                world.arrive(wanted.generation);
            }
        }
        let told = |phase, wanted: &Assignment| (phase, wanted.clone());
        let all = targets.active.iter().map(|it| told(ACTIVATE, it));
        let all: Vec<_> = all.chain(targets.next.iter().map(|it| told(PREPARE, it))).collect();
        let expected = state_digest(all.iter().map(|(phase, it)| Told {
            name: NAME,
            phase: *phase,
            bundle: it.bundle.hash(),
            generation: it.generation,
        }).collect());
        let table = world.snapshots.load_full();
        prop_assert_eq!(table.state_digest(|_| false), expected, "{:?}", targets);
        prop_assert!(!table.is_behind(NAME));
    }
}
