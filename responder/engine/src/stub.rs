//! Stubs, compiled: which of them answers a request, and the states of their scenarios.
//!
//! Stubs are asked after recorded signatures, by priority, the newest first among equals. Those that want one literal path are found by it;
//! the rest is asked in turn. They see the request as it came: request chains work on signatures only.
//!
//! A scenario's state is one number. A stub that leads from one state to another enters it by compare-and-swap, so that of several requests
//! at once exactly one makes the transition; the others look again. States live with the snapshot: other keys do not reset them.

mod condition;
mod json_equal;
mod pattern;
mod view;

use std::{
    cmp::Reverse,
    collections::HashMap,
    iter::Peekable,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    request::{Request, normal_path},
    snapshot::stub::{Part, Scenario, Stub},
};

use condition::Compiled;
pub(crate) use condition::{ConditionError, check};
use view::View;

/// How often a request looks again after others were faster. Each time one of them got on.
const MAX_TRIES: usize = 1000;

/// The stubs of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Stubs {
    /// Once sealed, in the order in which they are asked.
    stubs: Vec<Entry>,
    by_path: HashMap<Box<str>, Vec<usize>, rapidhash::fast::RandomState>,
    /// Those without a literal path.
    others: Vec<usize>,
    scenarios: Vec<Machine>,
    by_name: HashMap<String, usize>,
    /// How many moves of states have begun, and how many are over.
    begun: AtomicUsize,
    over: AtomicUsize,
}

/// One stub.
#[derive(Debug)]
struct Entry {
    name: String,
    priority: i32,
    /// How many were added before it.
    age: usize,
    instance: usize,
    path: Option<Box<str>>,
    conditions: Vec<Compiled>,
    steps: Vec<Step>,
}

/// A stub's part in a scenario; states are numbers here.
#[derive(Debug)]
struct Step {
    scenario: usize,
    required: Option<usize>,
    next: Option<usize>,
}

/// A scenario: its state and the names of all its states.
#[derive(Debug)]
struct Machine {
    name: String,
    states: Vec<String>,
    state: AtomicUsize,
}

/// A stub that did not answer a request, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failing {
    /// What findings call it.
    pub(crate) name: String,
    /// The conditions that failed; never empty.
    pub(crate) failed: Vec<Failed>,
}

/// A condition that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// What was looked at; `None` for the state of a scenario.
    pub(crate) part: Option<Part>,
    /// The scenario's name.
    pub(crate) scenario: String,
    /// What it should have been like.
    pub(crate) expected: String,
    /// What it was.
    pub(crate) presented: Option<String>,
}

impl Stubs {
    /// What findings call each stub, and its instance.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.stubs.iter().map(|stub| (&*stub.name, stub.instance))
    }

    /// Adds a stub. Stubs come in recorded order.
    pub(crate) fn add(
        &mut self,
        stub: &Stub,
        name: String,
        instance: usize,
    ) -> Result<(), ConditionError> {
        let template = condition::template_of(stub);
        let conditions = stub
            .conditions
            .iter()
            .map(|condition| Compiled::new(condition, template.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let steps = stub.scenarios.iter().map(|scenario| self.step(scenario)).collect();
        let path = stub.conditions.iter().find_map(condition::literal_path).map(String::into);
        let (priority, age) = (stub.priority, self.stubs.len());
        self.stubs.push(Entry { name, priority, age, instance, path, conditions, steps });
        Ok(())
    }

    /// Puts the stubs into the order in which they are asked. To be called once, after the last was added.
    pub(crate) fn seal(&mut self) {
        self.stubs.sort_by_key(|stub| (stub.priority, Reverse(stub.age)));
        for (nth, stub) in self.stubs.iter().enumerate() {
            match &stub.path {
                Some(path) => self.by_path.entry(path.clone()).or_default().push(nth),
                None => self.others.push(nth),
            }
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.stubs.is_empty()
    }

    /// Puts every scenario back to its first state.
    pub(crate) fn reset(&self) {
        for scenario in &self.scenarios {
            scenario.state.store(0, Ordering::Release);
        }
    }

    /// The instance that answers a request.
    pub(crate) fn find(&self, request: &Request<'_>) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let view = View::new(request);
        (0..MAX_TRIES).find_map(|_| {
            let (over, begun) =
                (self.over.load(Ordering::SeqCst), self.begun.load(Ordering::SeqCst));
            let stub = self.asked(request.path).find(|stub| self.answers(stub, &view));
            match stub {
                // A state that moved while the stubs were asked may have passed by the one that waits for it.
                None if over != begun || self.begun.load(Ordering::SeqCst) != begun => None,
                None => Some(None),
                Some(stub) => self.enter(stub).then_some(Some(stub.instance)),
            }
        })?
    }

    /// The stubs that fail the fewest conditions, by weight, lightest first.
    pub(crate) fn nearest(&self, request: &Request<'_>, most: usize) -> Vec<Failing> {
        let view = View::new(request);
        let mut ranked: Vec<(usize, usize, &Entry)> = self
            .stubs
            .iter()
            .enumerate()
            .map(|(nth, stub)| (self.weight(stub, &view), nth, stub))
            .collect();
        ranked.sort_unstable_by_key(|(weight, nth, _)| (*weight, *nth));
        ranked.into_iter().take(most).map(|(_, _, stub)| self.failing(stub, &view)).collect()
    }

    fn step(&mut self, scenario: &Scenario) -> Step {
        let nth = *self.by_name.entry(scenario.name.clone()).or_insert(self.scenarios.len());
        if nth == self.scenarios.len() {
            let states = vec![Stub::STARTED.to_owned()];
            let name = scenario.name.clone();
            self.scenarios.push(Machine { name, states, state: AtomicUsize::new(0) });
        }
        let mut state = |name: &Option<String>| {
            let machine = self.scenarios.get_mut(nth)?;
            let name = name.as_ref()?;
            Some(machine.states.iter().position(|known| known == name).unwrap_or_else(|| {
                machine.states.push(name.clone());
                machine.states.len() - 1
            }))
        };
        Step { scenario: nth, required: state(&scenario.required), next: state(&scenario.next) }
    }

    /// The stubs that a path may lead to, in the order in which they are asked.
    fn asked(&self, path: &str) -> impl Iterator<Item = &Entry> {
        let literal = self.by_path.get(&*normal_path(path)).map_or(&[][..], Vec::as_slice);
        let merged = Merged {
            left: literal.iter().copied().peekable(),
            right: self.others.iter().copied().peekable(),
        };
        merged.filter_map(|nth| self.stubs.get(nth))
    }

    fn answers(&self, stub: &Entry, view: &View<'_>) -> bool {
        stub.steps.iter().all(|step| self.is_in_state(step))
            && stub.conditions.iter().all(|condition| condition.holds(view))
    }

    fn state(&self, step: &Step) -> Option<&AtomicUsize> {
        self.scenarios.get(step.scenario).map(|machine| &machine.state)
    }

    fn is_in_state(&self, step: &Step) -> bool {
        step.required.is_none_or(|required| {
            self.state(step).is_some_and(|state| state.load(Ordering::Acquire) == required)
        })
    }

    /// Makes a stub's transitions; `false` when another request has changed the state since. The first transition that has a condition
    /// decides for all of them.
    fn enter(&self, stub: &Entry) -> bool {
        if stub.steps.is_empty() {
            return true;
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        let entered = self.moved(stub);
        self.over.fetch_add(1, Ordering::SeqCst);
        entered
    }

    fn moved(&self, stub: &Entry) -> bool {
        let decisive =
            stub.steps.iter().position(|step| step.required.is_some() && step.next.is_some());
        if let Some(step) = decisive.and_then(|nth| stub.steps.get(nth))
            && let (Some(required), Some(next), Some(state)) =
                (step.required, step.next, self.state(step))
            && state.compare_exchange(required, next, Ordering::AcqRel, Ordering::Acquire).is_err()
        {
            return false;
        }
        for (nth, step) in stub.steps.iter().enumerate() {
            if Some(nth) != decisive
                && let (Some(next), Some(state)) = (step.next, self.state(step))
            {
                state.store(next, Ordering::Release);
            }
        }
        true
    }

    /// Among stubs a path or a method that differs weighs more than the rest, as it does among signatures.
    fn weight(&self, stub: &Entry, view: &View<'_>) -> usize {
        let states = stub.steps.iter().filter(|step| !self.is_in_state(step)).count();
        let failed = stub.conditions.iter().filter(|condition| !condition.holds(view));
        let weights = failed.map(|condition| match condition.source.part {
            Part::Url | Part::Path => 8,
            Part::Method => 4,
            _ => 2,
        });
        states + weights.sum::<usize>()
    }

    fn failing(&self, stub: &Entry, view: &View<'_>) -> Failing {
        let conditions = stub.conditions.iter().filter(|c| !c.holds(view)).map(|c| Failed {
            part: Some(c.source.part.clone()),
            scenario: String::new(),
            expected: c.source.test.to_string(),
            presented: c.presented(view),
        });
        let steps = stub.steps.iter().filter(|step| !self.is_in_state(step)).filter_map(|step| {
            let machine = self.scenarios.get(step.scenario)?;
            let named = |state: usize| machine.states.get(state).cloned();
            Some(Failed {
                part: None,
                scenario: machine.name.clone(),
                expected: format!("is `{}`", named(step.required?)?),
                presented: named(machine.state.load(Ordering::Acquire)),
            })
        });
        Failing { name: stub.name.clone(), failed: conditions.chain(steps).collect() }
    }
}

/// Two ascending sequences as one.
struct Merged<I: Iterator<Item = usize>> {
    left: Peekable<I>,
    right: Peekable<I>,
}

impl<I: Iterator<Item = usize>> Iterator for Merged<I> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match (self.left.peek(), self.right.peek()) {
            (Some(left), Some(right)) if left > right => self.right.next(),
            (Some(_), _) => self.left.next(),
            (None, _) => self.right.next(),
        }
    }
}

#[cfg(test)]
mod tests;
