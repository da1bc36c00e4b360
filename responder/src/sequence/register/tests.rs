//! Hand-over, step by step and at random: no turn twice and none left out, unless it is said.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{super::view::tests::list, *};

/// A fleet whose every message the test delivers, or does not.
struct Fleet {
    nodes: Vec<Node>,
    sessions: usize,
    epochs: Vec<Arc<View>>,
    /// The turn that comes next in each list, if nobody says otherwise.
    expected: BTreeMap<ListId, u64>,
    /// The last epoch in which a turn of each was taken, and the last one that began with a break.
    reigns: BTreeMap<ListId, (u64, u64)>,
    breaks: usize,
    /// What was sent, to be delivered once more.
    sent: Vec<Sent>,
}

/// A message to a process that may come late, or twice.
#[derive(Clone)]
enum Sent {
    /// Somebody of this name asks for what it owns, as one of these.
    Export(Arc<str>, u64, Vec<String>, String),
    /// The answers to somebody who asked.
    Answers(Arc<str>, u64, Vec<(Arc<str>, Option<Export>)>),
    /// What the owner of a list gave out.
    Note(Arc<str>, ListId, u64, u64),
}

struct Node {
    name: String,
    session: Arc<str>,
    register: Register,
    asking: Option<Asking>,
}

/// In this epoch a node asks these, and has these answers.
type Asking = (u64, Vec<Peer>, Vec<(Arc<str>, Option<Export>)>);

impl Node {
    fn new(number: usize, session: usize) -> Self {
        let session: Arc<str> = format!("{number}-{session}").into();
        let register = Register::new(&session);
        Self { name: format!("node {number}"), session, register, asking: None }
    }
}

impl Fleet {
    fn new(nodes: usize) -> Self {
        let nodes = (0..nodes).map(|number| Node::new(number, 0)).collect();
        let (epochs, expected, reigns) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { nodes, sessions: 0, epochs, expected, reigns, breaks: 0, sent: Vec::new() }
    }

    /// Begins an epoch of these nodes, of which nobody has heard yet.
    fn begin(&mut self, members: &[usize]) {
        let peer = |nth: &usize| Peer::new(&self.nodes[*nth].name, &self.nodes[*nth].session, "a");
        let members: Vec<Peer> = members.iter().map(peer).collect();
        let before = self.epochs.last();
        let (previous_epoch, previous) =
            before.map_or((0, Vec::new()), |view| (view.epoch, view.members.clone()));
        let epoch = previous_epoch + 3;
        self.epochs.push(Arc::new(View { epoch, members, previous_epoch, previous }));
    }

    /// Tells a node of the newest epoch, or of one so many epochs before.
    fn tell(&mut self, nth: usize, before: usize) {
        let Some(view) = self.epochs.iter().nth_back(before) else { return };
        let node = &mut self.nodes[nth];
        if let Some(peers) = node.register.adopt(Arc::clone(view)) {
            node.asking = Some((view.epoch, peers, Vec::new()));
        }
    }

    /// Has a node ask the next one, unless the answer gets lost, and settle when it has asked everybody.
    fn ask(&mut self, nth: usize, lost: bool) {
        let Some((epoch, mut peers, mut answers)) = self.nodes[nth].asking.take() else { return };
        if let Some(peer) = peers.pop() {
            let view = self.epochs.iter().find(|view| view.epoch == epoch).unwrap();
            let names: Vec<_> = owners(&view.members).map(|peer| peer.name.to_string()).collect();
            let name = self.nodes[nth].name.clone();
            self.sent.push(Sent::Export(
                Arc::clone(&peer.session),
                epoch,
                names.clone(),
                name.clone(),
            ));
            let asked = self.nodes.iter_mut().find(|node| node.session == peer.session);
            let answer =
                asked.and_then(|node| node.register.export(epoch, &Owners::of(names), &name).ok());
            answers.push((peer.session, answer.filter(|_| !lost)));
        }
        if peers.is_empty() {
            let node = &mut self.nodes[nth];
            self.sent.push(Sent::Answers(Arc::clone(&node.session), epoch, answers.clone()));
            node.register.settle(epoch, answers);
        } else {
            self.nodes[nth].asking = Some((epoch, peers, answers));
        }
    }

    /// Has a node that takes itself for the owner take a turn, of which others may hear.
    fn take(&mut self, nth: usize, list: ListId, seen_by: Option<usize>) {
        let register = &mut self.nodes[nth].register;
        let Some(epoch) = register.view().map(|view| view.epoch) else { return };
        let Ok(taken) = register.take(epoch, &[(list, Step::Take(2))]) else { return };
        let Taken { first, term, breaks } = taken[0];
        let (last, broke) = self.reigns.entry(list).or_default();
        if epoch < *last {
            // Somebody who was not reached goes on, until it hears of its end. Whoever took over has said that it did not reach it.
            assert!(epoch < *broke, "{first} taken in an epoch that was handed over");
            return;
        }
        *last = epoch;
        if breaks {
            *broke = epoch;
        }
        let expected = self.expected.insert(list, first + 2).unwrap_or_default();
        self.breaks += usize::from(breaks);
        assert!(breaks || first == expected, "{first} instead of {expected} without saying so");
        if let Some(other) = seen_by.filter(|other| *other != nth) {
            let node = &mut self.nodes[other];
            self.sent.push(Sent::Note(Arc::clone(&node.session), list, term, first + 2));
            node.register.note(list, term, first + 2);
        }
    }

    /// Has a node asked for turns in an epoch that is not its newest one, which it must not give.
    fn take_late(&mut self, nth: usize, list: ListId, before: usize) {
        let Some(epoch) = self.epochs.iter().nth_back(before).map(|view| view.epoch) else {
            return;
        };
        let register = &mut self.nodes[nth].register;
        if register.view().is_none_or(|view| view.epoch != epoch) {
            let known = register.cursor(list);
            assert!(
                register.take(epoch, &[(list, Step::Take(2))]).is_err(),
                "{epoch} is not known"
            );
            assert_eq!(register.cursor(list), known);
        }
    }

    /// Delivers a message once more, if whom it was sent to is still there.
    fn deliver_again(&mut self, sent: usize) {
        let Some(sent) =
            self.sent.len().checked_sub(1).map(|last| self.sent[last - sent.min(last)].clone())
        else {
            return;
        };
        let (Sent::Export(to, ..) | Sent::Answers(to, ..) | Sent::Note(to, ..)) = &sent;
        let Some(node) = self.nodes.iter_mut().find(|node| node.session == *to) else { return };
        match sent {
            Sent::Export(_, epoch, names, name) => {
                drop(node.register.export(epoch, &Owners::of(names), &name));
            }
            Sent::Answers(_, epoch, answers) => {
                assert!(!node.register.settle(epoch, answers), "it has settled, or is further on");
            }
            Sent::Note(_, list, term, taken) => node.register.note(list, term, taken),
        }
    }

    fn crash(&mut self, nth: usize) {
        self.sessions += 1;
        self.nodes[nth] = Node::new(nth, self.sessions);
    }

    /// Tells everybody, and has everybody ask.
    fn settle(&mut self) {
        for nth in 0..self.nodes.len() {
            self.tell(nth, 0);
        }
        for nth in (0..self.nodes.len()).cycle().take(self.nodes.len() * self.nodes.len()) {
            self.ask(nth, false);
        }
    }

    fn take_all(&mut self, lists: u32) {
        for nth in 0..self.nodes.len() {
            for number in 0..lists {
                self.take(nth, list(number), None);
            }
        }
    }
}

#[test]
fn turns_go_on_at_the_new_owner_when_somebody_comes_or_goes() {
    let mut fleet = Fleet::new(3);
    fleet.begin(&[0]);
    fleet.settle();
    fleet.take_all(50);
    fleet.begin(&[0, 1, 2]);
    fleet.settle();
    fleet.take_all(50);
    fleet.begin(&[1, 2]);
    fleet.settle();
    fleet.take_all(50);
    assert!(fleet.nodes[0].register.is_taken_over());
    assert!((0..50).all(|number| fleet.expected[&list(number)] == 6), "{:?}", fleet.expected);
    assert_eq!(fleet.breaks, 0);
}

#[test]
fn what_a_lost_owner_had_breaks_once_and_nothing_else_does() {
    let mut fleet = Fleet::new(3);
    fleet.begin(&[0, 1, 2]);
    fleet.settle();
    fleet.take_all(50);
    let owned = |nth: usize| {
        let view = &fleet.epochs[0];
        let owns =
            |number: &u32| *view.owner(list(*number)).unwrap().name == *format!("node {nth}");
        (0..50).filter(owns).count()
    };
    let lost = owned(0);
    assert!(lost > 5);
    fleet.crash(0);
    fleet.begin(&[1, 2]);
    fleet.settle();
    fleet.take_all(50);
    fleet.take_all(50);
    assert_eq!(fleet.breaks, lost);
    let counted: u64 = fleet.nodes.iter().map(|node| node.register.breaks()).sum();
    assert_eq!(usize::try_from(counted), Ok(lost));
    fleet.begin(&[0, 1, 2]);
    fleet.settle();
    fleet.take_all(60);
    assert!(fleet.breaks > lost, "those that nobody asked for before are still in doubt");
    assert!(fleet.breaks < lost + 10);
}

#[test]
fn an_older_epoch_is_refused_and_so_is_who_does_not_own_a_list() {
    let mut fleet = Fleet::new(2);
    fleet.begin(&[0, 1]);
    fleet.settle();
    let (first, second) = (fleet.epochs[0].epoch, fleet.epochs[0].epoch + 3);
    let mine = (0..).map(list).find(|l| *fleet.epochs[0].owner(*l).unwrap().name == *"node 0");
    let mine = [(mine.unwrap(), Step::Take(1))];
    assert!(fleet.nodes[0].register.take(first, &mine).is_ok());
    assert_eq!(fleet.nodes[0].register.take(second, &mine), Err(Refused::NotOwner));
    assert_eq!(fleet.nodes[1].register.take(first, &mine), Err(Refused::NotOwner));
    // Whoever hands over takes nothing more, although it was told of no other epoch.
    let owners = Owners::of(vec!["node 1".into()]);
    let export = fleet.nodes[0].register.export(second, &owners, "node 1").unwrap();
    assert_eq!((export.settled_epoch, export.complete, export.cursors.len()), (first, true, 1));
    assert!(export.cursors[0].sure && export.cursors[0].taken == 1);
    assert_eq!(fleet.nodes[0].register.take(first, &mine), Err(Refused::Stale(second)));
    let late = fleet.nodes[0].register.export(first, &owners, "node 1");
    assert_eq!(late, Err(Refused::Stale(second)));
}

#[test]
fn what_is_begun_anew_is_newer_than_anything_seen_of_it() {
    let mut fleet = Fleet::new(2);
    fleet.begin(&[0]);
    fleet.settle();
    fleet.take(0, list(1), Some(1));
    fleet.nodes[0].register.reset(&[list(1)]);
    fleet.expected.insert(list(1), 0);
    fleet.take(0, list(1), Some(1));
    fleet.begin(&[1]);
    fleet.settle();
    fleet.take(1, list(1), None);
    assert_eq!((fleet.expected[&list(1)], fleet.breaks), (4, 0));
}

#[test]
fn what_is_put_back_stays_there_when_it_is_handed_over() {
    let mut fleet = Fleet::new(2);
    fleet.begin(&[0]);
    fleet.settle();
    fleet.take(0, list(1), Some(1));
    let epoch = fleet.epochs[0].epoch;
    let put = fleet.nodes[0].register.take(epoch, &[(list(1), Step::Put(1))]).unwrap();
    assert_eq!((put[0].first, put[0].term), (1, 1));
    fleet.begin(&[1]);
    fleet.settle();
    let look = [(list(1), Step::Take(0))];
    let looked = fleet.nodes[1].register.take(epoch + 3, &look).unwrap();
    assert_eq!((looked[0].first, looked[0].breaks), (1, false));
    assert_eq!(fleet.nodes[1].register.take(epoch + 3, &look).unwrap(), looked);
}

#[test]
fn whoever_takes_alone_goes_on_from_what_it_has_seen() {
    let mut fleet = Fleet::new(2);
    fleet.begin(&[0]);
    fleet.settle();
    fleet.take(0, list(1), Some(1));
    let taken = fleet.nodes[1].register.take_alone(list(1), Step::Take(1));
    assert_eq!(taken, Taken { first: 2, term: 0, breaks: true });
    assert_eq!(fleet.nodes[1].register.breaks(), 1);
}

#[derive(Debug, Clone)]
enum Event {
    Begin(Vec<usize>),
    Tell(usize, usize),
    Ask(usize, bool),
    Take(usize, u32, Option<usize>),
    TakeLate(usize, u32, usize),
    Again(usize),
    Crash(usize),
}

const NODES: usize = 4;

fn event() -> impl Strategy<Value = Event> {
    let node = || 0..NODES;
    prop_oneof![
        2 => prop::sample::subsequence((0..NODES).collect::<Vec<_>>(), 1..=NODES).prop_map(Event::Begin),
        9 => node().prop_map(|node| Event::Tell(node, 0)),
        2 => (node(), 1..4usize).prop_map(|(node, before)| Event::Tell(node, before)),
        20 => (node(), prop::bool::weighted(0.05)).prop_map(|(node, lost)| Event::Ask(node, lost)),
        40 => (node(), 0..6u32, prop::option::of(node())).prop_map(|(node, list, by)| Event::Take(node, list, by)),
        4 => (node(), 0..6u32, 0..4usize).prop_map(|(node, list, before)| Event::TakeLate(node, list, before)),
        8 => (0..60usize).prop_map(Event::Again),
        1 => node().prop_map(Event::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn turns_come_one_after_the_other_unless_it_is_said_whatever_gets_lost_or_comes_late_or_twice(steps in prop::collection::vec(event(), 1..400)) {
        let mut fleet = Fleet::new(NODES);
        fleet.begin(&[0, 1]);
        fleet.settle();
        for step in steps {
            match step {
                Event::Begin(members) => fleet.begin(&members),
                Event::Tell(node, before) => fleet.tell(node, before),
                Event::Ask(node, lost) => fleet.ask(node, lost),
                Event::Take(node, number, seen_by) => fleet.take(node, list(number), seen_by),
                Event::TakeLate(node, number, before) => fleet.take_late(node, list(number), before),
                Event::Again(sent) => fleet.deliver_again(sent),
                Event::Crash(node) => fleet.crash(node),
            }
        }
    }
}
