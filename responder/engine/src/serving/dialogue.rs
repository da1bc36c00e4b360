//! Calls in which both sides may speak in turn: answered while they go on.
//!
//! What the client has said so far chooses a recorded call that began alike. As soon as what it says next contradicts the choice, another
//! one that agrees is chosen, and what was sent stays sent.

use super::{Serving, chaos};
use crate::{
    answer::Hit,
    grpc,
    identity::Who,
    index::Entry,
    request::{Parts, Request},
    transform::{Scope, Side},
};
use bytes::Bytes;

/// The recorded call that a dialogue follows.
#[derive(Debug, Clone)]
pub struct Line {
    entry: usize,
    /// Header fields and trailers, and how long the first message is held back. Its body is all messages.
    pub hit: Hit,
    /// The answers, each in its frame.
    pub answers: Vec<Bytes>,
    /// How many messages the client sends.
    pub requests: usize,
    /// There are other calls that begin alike and go on.
    pub open: bool,
}

impl Line {
    /// How many answers are due once so many messages have come: all at the end, and until then in proportion.
    #[must_use]
    pub fn due(&self, heard: usize) -> usize {
        let all = self.answers.len();
        if heard >= self.requests {
            return all;
        }
        heard.saturating_mul(all).checked_div(self.requests).unwrap_or(all)
    }
}

impl Serving {
    /// Chooses a recorded call by what a client has said so far, which is in the request's body, and by whether that is all. `before` is the
    /// choice that was made before, which stays as long as it agrees. `None` when nothing recorded begins like this. Chaos befalls the first
    /// choice, as it befalls the answer to any other request; one that takes its place goes on from what was sent.
    #[must_use]
    pub fn listen(
        &self,
        request: &Request<'_>,
        ended: bool,
        before: Option<Line>,
        now: i64,
    ) -> Option<Line> {
        let real = now;
        let now = self.snapshot.clock.at(real, self.start);
        let snapshot = &*self.snapshot;
        let live = snapshot.parts_of(request);
        let first = Scope::live(&snapshot.world, Side::Request, now);
        let find = |parts: &Parts, _: &Scope| {
            let found = snapshot
                .scripts
                .find(parts, &snapshot.identities, ended, |host| snapshot.index.knows_host(host));
            (!found.is_empty()).then_some(found)
        };
        let (found, scope) = snapshot.plan.run_on_live(&live, first, find)?;
        let heard = grpc::read(request.body)?.messages.len();
        let open = found.iter().any(|script| script.len() > heard);
        let begins = before.is_none();
        if let Some(before) = before
            && found.iter().any(|script| script.entry == before.entry)
        {
            return Some(Line { open, ..before });
        }
        let who = snapshot.identities.who(request, scope.session.as_deref());
        let own = found.iter().find(|script| {
            snapshot.index.entry(script.entry).is_some_and(|entry| self.is_of(entry, who))
        });
        let script = own.or_else(|| found.first())?;
        let entry = snapshot.index.entry(script.entry)?;
        let chosen = self.choose(entry, request, scope.session.as_deref())?;
        let scope = (!snapshot.plan.is_empty()).then_some(scope);
        let place = (chosen.place, chosen.origin.instance, chosen.instance);
        let stroke = begins.then(|| self.strike(request, Some(place), real)).flatten();
        let mut hit = self.current(chosen.instance, scope, now, stroke.as_ref());
        hit.origin = Some(chosen.origin);
        chaos::finish(stroke, &mut hit);
        let answers = grpc::split(&hit.body);
        Some(Line { entry: script.entry, hit, answers, requests: script.len(), open })
    }

    /// Whether one of the answers is of this identity.
    fn is_of(&self, entry: &Entry, who: Who) -> bool {
        let Who::Known(identity) = who else { return false };
        let instance = |nth: &usize| self.snapshot.instances.get(*nth);
        entry.instances().iter().filter_map(instance).any(|of| of.identity == identity)
    }
}
