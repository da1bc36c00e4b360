//! Which recorded answer a request gets: by its signature, and by whose turn it is.

use super::{Serving, seen};
use crate::{
    answer::Origin,
    body,
    compile::Instance,
    grpc,
    identity::{IdentityId, Who, may_hold_token},
    index::{Entry, Next},
    request::{Parts, Request, host_key},
    scratch,
    signature::Signature,
    transform::{Scope, Side},
    turns::{ListId, Shared},
};

/// The instance that answers.
#[derive(Clone, Copy)]
pub(super) struct Chosen<'s> {
    pub(super) instance: &'s Instance,
    pub(super) origin: Origin,
    /// The first instance of its signature, which stands for all of them.
    pub(super) place: usize,
}

/// What was found for a request.
pub(super) enum Found<'s> {
    /// The answer whose turn it is.
    Chosen(Chosen<'s>),
    /// Answers whose turns nodes share.
    Shared(&'s Entry, &'s Shared, Option<(IdentityId, u32)>),
    /// Answers of an identity, of which nodes share how far it is.
    Progress(&'s Entry, IdentityId, ListId),
}

impl Serving {
    /// The instance whose turn it is, and the run of the chains that worked on the request, if any did. A recorded signature is more exact
    /// than any condition, so stubs come after.
    pub(super) fn find(
        &self,
        request: &Request<'_>,
        now: i64,
    ) -> Option<(Found<'_>, Option<Scope>)> {
        let snapshot = &*self.snapshot;
        match self.find_recorded(request, now) {
            Some((entry, scope)) => {
                let session = scope.as_ref().and_then(|scope| scope.session.as_deref());
                Some((self.take(entry, request, session)?, scope))
            }
            None => {
                let nth = snapshot.stubs.find(request)?;
                Some((Found::Chosen(self.chosen(nth, nth, false)?), None))
            }
        }
    }

    /// Takes the next answer of whoever asks, as far as this node alone knows who is next.
    pub(super) fn choose<'s>(
        &'s self,
        entry: &'s Entry,
        request: &Request<'_>,
        session: Option<&[u8]>,
    ) -> Option<Chosen<'s>> {
        let whose = match self.take(entry, request, session)? {
            Found::Chosen(chosen) => return Some(chosen),
            Found::Shared(_, _, whose) => whose,
            Found::Progress(_, identity, _) => {
                Some((identity, self.snapshot.progress.of(identity)))
            }
        };
        let list = entry.list(whose);
        let at = list.cursor.take(list.instances.len(), self.snapshot.end);
        self.in_turn(entry, (whose, at), request, session)
    }

    /// The answer at this place in the list of somebody, for whoever asks.
    pub(super) fn in_turn<'s>(
        &'s self,
        entry: &'s Entry,
        (whose, at): (Option<(IdentityId, u32)>, usize),
        request: &Request<'_>,
        session: Option<&[u8]>,
    ) -> Option<Chosen<'s>> {
        let nth = *entry.list(whose).instances.get(at)?;
        let borrowed = whose.is_none() && entry.tells_apart();
        let who = || self.snapshot.identities.who(request, session);
        Some(self.moved_on(self.chosen(nth, *entry.instances().first()?, borrowed)?, who))
    }

    /// Notes what an answer changes.
    fn moved_on<'s>(&'s self, mut chosen: Chosen<'s>, who: impl FnOnce() -> Who) -> Chosen<'s> {
        let progress = &self.snapshot.progress;
        // Somebody else who gets this answer for want of an own one does not move its owner on.
        if let Some(moves) = chosen.instance.rare().moves
            && (moves.issues || who() == Who::Known(moves.identity))
        {
            progress.make(moves);
            chosen.origin.moved = progress.is_shared();
        }
        chosen
    }

    /// Takes the next answer of whoever asks. Who that is is found out only where it matters.
    fn take<'s>(
        &'s self,
        entry: &'s Entry,
        request: &Request<'_>,
        session: Option<&[u8]>,
    ) -> Option<Found<'s>> {
        let snapshot = &*self.snapshot;
        let who = || snapshot.identities.who(request, session);
        let (nth, borrowed) = match entry.next(snapshot.end, who, &snapshot.progress)? {
            Next::Instance { nth, borrowed } => (nth, borrowed),
            Next::Shared(shared, whose) => return Some(Found::Shared(entry, shared, whose)),
            Next::Progress(identity, id) => return Some(Found::Progress(entry, identity, id)),
        };
        let chosen = self.chosen(nth, entry.instances().first().copied()?, borrowed)?;
        Some(Found::Chosen(self.moved_on(chosen, who)))
    }

    pub(super) fn chosen(&self, nth: usize, place: usize, borrowed: bool) -> Option<Chosen<'_>> {
        let instance = self.snapshot.instances.get(nth)?;
        let origin = Origin { ordinal: instance.ordinal, borrowed, moved: false, instance: nth };
        Some(Chosen { instance, origin, place })
    }

    fn find_recorded(&self, request: &Request<'_>, now: i64) -> Option<(&Entry, Option<Scope>)> {
        let snapshot = &*self.snapshot;
        match self.find_as_it_comes(request) {
            Ok(found) => Some((found?, None)),
            Err(NeedsParts) => {
                let live = snapshot.parts_of(request);
                let look_up = |parts: &Parts, scope: &Scope| {
                    snapshot.index.get(&snapshot.signature_of(parts, scope))
                };
                // Without a chain on requests the run begins with the answer.
                let begin = if snapshot.plan.is_empty() { Scope::looking } else { Scope::live };
                let first = begin(&snapshot.world, Side::Request, now);
                let (entry, scope) = snapshot.plan.run_on_live(&live, first, look_up)?;
                Some((entry, (!snapshot.plan.is_empty()).then_some(scope)))
            }
        }
    }

    /// The short way for what most requests are: no chain works on them, and their host was recorded.
    fn find_as_it_comes(&self, request: &Request<'_>) -> Result<Option<&Entry>, NeedsParts> {
        if self.snapshot.index.len() == 0 {
            return Ok(None);
        }
        if !self.snapshot.plan.leaves(request) || self.may_need_marks(request) {
            return Err(NeedsParts);
        }
        let index = &self.snapshot.index;
        let find = || {
            scratch::with(|bytes| {
                Signature::write_live(request, bytes);
                index.number(bytes)
            })
        };
        let found = if request.body.is_empty() {
            find()
        } else {
            seen::or_find(self.serial, request, find)
        };
        match found.and_then(|nth| index.entry(nth)) {
            None if !index.knows_host(&host_key(request.host)) => Err(NeedsParts),
            found => Ok(found),
        }
    }

    /// Whether a token may take part in the signature. A compressed body does not show.
    fn may_need_marks(&self, request: &Request<'_>) -> bool {
        self.snapshot.marks
            && (may_hold_token(request.query.as_bytes())
                || may_hold_token(request.body)
                || body::is_gzip(request.body)
                || grpc::hides_text(request))
    }
}

/// A request that has to be taken apart to be matched.
struct NeedsParts;
