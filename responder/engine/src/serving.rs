//! The main path: a compiled snapshot joined with a node's keys.
//!
//! [`Serving::answer`] is: normalise, request chains, signature, look-up, choose an instance, fill its holes.

mod binder;
mod chaos;
mod dialogue;
mod find;
mod live;
mod ready;
mod seen;
mod signing;
mod socket;
mod waiting;

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::{
    answer::{Answer, Hit, Origin, Spliced},
    body,
    chaos::{Spoiling, Stroke},
    compile::{CompiledSnapshot, Fields, Fill, Instance, Living, Way, aged, http_date},
    diagnostic::Diagnostic,
    jwt::{
        TokenSlot,
        key::{KeyRing, SigningKey},
    },
    near_miss::{self, NearMiss},
    request::Request,
    signature::Signature,
    token_world::{self, Published},
    transform::{Scope, Side},
};
use binder::Binder;
pub use dialogue::Line;
use find::{Chosen, Found};
use signing::{Budget, Token};
pub use socket::{Said, Talk};
pub use waiting::{Awaited, Pending, Turn};

/// A snapshot that answers.
#[derive(Debug)]
pub struct Serving {
    /// Tells it from all others of this process.
    serial: u64,
    snapshot: Arc<CompiledSnapshot>,
    tokens: Vec<Token>,
    /// Some token takes long to sign.
    costly: bool,
    budget: Budget,
    keys: Arc<KeyRing>,
    published: Published,
    /// When the replay was started.
    start: i64,
    diagnostics: Vec<Diagnostic>,
    /// What the first miss finds out.
    known: OnceLock<near_miss::Known>,
}

/// An answer whose token has still to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Owed {
    origin: Origin,
    now: i64,
    /// The client does not take the recorded coding.
    plain: bool,
}

const NANOS: i64 = 1_000_000_000;

impl Serving {
    /// Joins a snapshot with keys.
    #[must_use]
    pub fn new(snapshot: Arc<CompiledSnapshot>, keys: &KeyRing) -> Self {
        let mut binder = Binder::new(keys);
        let names_keys = snapshot.token_world.names_keys();
        let tokens: Vec<Token> = snapshot
            .slots
            .iter()
            .map(|slot| {
                let key = binder.key_for(slot);
                let kid = key.as_ref().filter(|_| names_keys).and_then(|key| binder.kid_of(key));
                let header = kid.as_ref().and_then(|kid| binder.header_of(slot, kid));
                Token::new(slot, key, kid, header)
            })
            .collect();
        let mut diagnostics = snapshot.diagnostics().to_vec();
        diagnostics.extend(binder.finish(&snapshot));
        let (published, told) = token_world::publish(&snapshot.token_world, keys);
        diagnostics.extend(told);
        Self {
            serial: ready::serial(),
            keys: Arc::new(keys.only(snapshot.required_secrets())),
            snapshot,
            costly: tokens.iter().any(Token::is_costly),
            budget: Budget::of_cores(1),
            tokens,
            published,
            start: 0,
            diagnostics,
            known: OnceLock::new(),
        }
    }

    /// The same snapshot with other keys; who comes next in a sequence stays as it is.
    #[must_use]
    pub fn rebind(&self, keys: &KeyRing) -> Self {
        let budget = self.budget.again();
        Self { budget, ..Self::new(Arc::clone(&self.snapshot), keys) }.started_at(self.start)
    }

    /// The same on a node that signs on so many cores; on one unless told otherwise.
    #[must_use]
    pub fn on_cores(self, cores: usize) -> Self {
        Self { budget: Budget::of_cores(cores), ..self }
    }

    /// The same for a replay that was started then, in nanoseconds since the Unix epoch: a clock that runs at another pace began to do so.
    #[must_use]
    pub fn started_at(self, start: i64) -> Self {
        Self { start, ..self }
    }

    /// The snapshot that it serves.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<CompiledSnapshot> {
        &self.snapshot
    }

    /// What was found when the snapshot was compiled and its keys were bound.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// How many signatures were made so far, with these keys and those before; other tokens came from memory.
    #[must_use]
    pub fn signatures(&self) -> u64 {
        self.budget.made()
    }

    /// The generation of the key ring that it signs with.
    #[must_use]
    pub fn key_generation(&self) -> u64 {
        self.keys.generation()
    }

    /// Answers a request, unless something has to be waited for: a token that takes long to sign, or a turn that nodes share. Then that comes back, and
    /// [`Serving::pay`] or [`Serving::answer_in_turn`] makes an answer of it.
    ///
    /// # Errors
    /// What is waited for. Whoever owes a token has had its turn: the request must not be asked again.
    pub fn answer_or_owe(&self, request: &Request<'_>, now: i64) -> Result<Answer, Pending> {
        let (real, now) = (now, self.at(now));
        let (chosen, scope) = match self.find(request, now) {
            Some((Found::Chosen(chosen), scope)) => (chosen, scope),
            Some((Found::Shared(entry, shared, whose), scope)) => {
                return Err(self.awaited(entry, shared, whose, scope));
            }
            Some((Found::Progress(entry, identity, list), scope)) => {
                return Err(self.unsure(entry, (identity, list), scope));
            }
            None => {
                let made = self.well_known(request).map(|hit| self.befallen(request, hit, real));
                return Ok(made.map_or(Answer::Miss, |hit| Answer::Hit(self.dated(hit, now))));
            }
        };
        self.answer_with(request, chosen, scope, (real, now)).map_err(Pending::Token)
    }

    /// Answers with what was chosen, unless its token takes long to sign.
    fn answer_with(
        &self,
        request: &Request<'_>,
        Chosen { instance, origin, place }: Chosen<'_>,
        scope: Option<Scope>,
        (real, now): (i64, i64),
    ) -> Result<Answer, Owed> {
        let plain = instance.folded && !accepts_gzip(request.headers);
        let ready = instance.living.as_ref().and_then(|_| self.ready_body(origin, now));
        if self.costly && ready.is_none() && scope.is_none() && self.owes(instance, now) {
            return Err(Owed { origin, now, plain });
        }
        let stroke = self.strike(request, Some((place, origin.instance, instance)), real);
        Ok(Answer::Hit(self.finish(instance, (origin, ready), scope, stroke, (now, plain))))
    }

    /// Signs what is owed, which takes long, and answers.
    #[must_use]
    pub fn pay(&self, owed: &Owed) -> Option<Hit> {
        let Owed { origin, now, plain } = *owed;
        let instance = self.snapshot.instances.get(origin.instance)?;
        Some(self.finish(instance, (origin, None), None, None, (now, plain)))
    }

    /// Whether an answer needs a token that takes long to sign. Where more than tokens is to be filled in, it is never put off.
    fn owes(&self, instance: &Instance, now: i64) -> bool {
        let second = now.div_euclid(NANOS);
        let snapshot = &self.snapshot;
        let living = instance.living.as_deref();
        let living = living.filter(|_| snapshot.chaos.is_none() && !snapshot.learns);
        living.is_some_and(|living| {
            self.any_slot(living, |slot| {
                self.tokens.get(slot).is_some_and(|token| token.is_owed(second))
            })
        })
    }

    /// Whether a slot is such whose token stands in an answer.
    fn any_slot(&self, living: &Living, mut is: impl FnMut(usize) -> bool) -> bool {
        living.any_fill(|fill| match self.snapshot.fills.get(fill) {
            Some(Fill::Token(slot)) => is(*slot),
            _ => false,
        })
    }

    fn finish(
        &self,
        instance: &Instance,
        (origin, ready): (Origin, Option<Bytes>),
        scope: Option<Scope>,
        stroke: Option<Stroke<'_>>,
        (now, plain): (i64, bool),
    ) -> Hit {
        let stroke_spoils = stroke.as_ref().is_some_and(|stroke| stroke.tokens().is_some());
        let is_plain = scope.is_none() && !self.snapshot.learns && !stroke_spoils;
        let mut hit = match ready.filter(|_| is_plain).and_then(|body| instance.of_ready(body)) {
            Some(hit) => hit,
            None => {
                let hit = self.current(instance, scope, now, stroke.as_ref());
                if is_plain && hit.resigned > 0 && instance.has_holes_in_body_alone() {
                    ready::keep(self.serial, origin.instance, now.div_euclid(NANOS), &hit.body);
                }
                hit
            }
        };
        hit.origin = Some(origin);
        if let Some(aging) = &instance.rare().aging {
            aging.renew(now.div_euclid(NANOS), &mut hit.headers);
        }
        if plain {
            unfold(&mut hit);
        }
        chaos::finish(stroke, &mut hit);
        self.dated(hit, now)
    }

    /// The time by the replay's own clock, in nanoseconds since the Unix epoch.
    fn at(&self, now: i64) -> i64 {
        let clock = &self.snapshot.clock;
        if clock.is_real() { now } else { clock.at(now, self.start) }
    }

    /// A replay with its own clock says what time it is.
    fn dated(&self, mut hit: Hit, now: i64) -> Hit {
        if !self.snapshot.clock.is_real()
            && let Some(date) = http_date(now).and_then(|date| HeaderValue::from_str(&date).ok())
        {
            hit.headers.insert(http::header::DATE, date);
        }
        hit
    }

    /// What was recorded nearest to a request that got no answer, and what is known of its credentials. Costs more than an answer: for
    /// misses only. `now` is in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn near_miss(&self, request: &Request<'_>, now: i64) -> NearMiss {
        let snapshot = &self.snapshot;
        let live = snapshot.parts_of(request);
        let looking = Scope::looking(&snapshot.world, Side::Request, now);
        let found = snapshot.plan.run_on_live(&live, looking, |parts, scope| {
            Some((snapshot.signature_of(parts, scope), scope.session.clone()))
        });
        let (signature, session) = match found {
            Some((found, _)) => found,
            None => (Signature::of(&live, &[]), None),
        };
        let who = snapshot.identities.who(request, session.as_deref());
        let mut miss = near_miss::nearest(&signature, &snapshot.index);
        miss.credentials = self.credentials(request, now);
        miss.with_callers(snapshot, who).with_stubs(&snapshot.stubs, request)
    }

    /// Makes what all explanations of misses need and what takes long with a large recording, unless it was made already. The first
    /// explanation does it otherwise.
    pub fn prepare_near_misses(&self, now: i64) {
        self.snapshot.index.order();
        self.known(self.snapshot.clock.at(now, self.start));
    }

    fn known(&self, now: i64) -> &near_miss::Known {
        self.known.get_or_init(|| near_miss::Known::of(self, &self.keys, now.div_euclid(NANOS)))
    }

    /// What is known of the credentials that a request presents. `now` is in nanoseconds since the Unix epoch.
    #[must_use]
    pub fn credentials(&self, request: &Request<'_>, now: i64) -> Vec<near_miss::Presented> {
        let now = self.snapshot.clock.at(now, self.start);
        near_miss::credentials(&self.snapshot, self.known(now), request, now)
    }

    /// The tokens that are given out, who signs them, and what key sets call the key.
    pub(crate) fn signers(
        &self,
    ) -> impl Iterator<Item = (&TokenSlot, Option<&Arc<SigningKey>>, Option<&str>)> {
        let tokens = self.snapshot.slots.iter().zip(&self.tokens);
        tokens.map(|(slot, token)| (slot, token.key.as_ref(), token.kid.as_deref()))
    }

    /// Whether tokens name their key as key sets do.
    fn names_keys(&self) -> bool {
        self.snapshot.token_world.names_keys()
    }

    /// A key set that was not recorded but is asked for where key sets lie.
    pub(crate) fn well_known(&self, request: &Request<'_>) -> Option<Hit> {
        let body = self.published.well_known.get(request.path)?;
        if !matches!(request.method, "GET" | "HEAD") {
            return None;
        }
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, json)]);
        Some(Hit::new(200, headers, body.clone()))
    }

    fn current(
        &self,
        instance: &Instance,
        scope: Option<Scope>,
        now: i64,
        stroke: Option<&Stroke<'_>>,
    ) -> Hit {
        let spoiling = stroke.and_then(Stroke::tokens);
        let recorded = |unsigned: u32| Hit {
            unsigned,
            delay: instance.delay,
            trailers: instance.rare().trailers.clone(),
            ..Hit::new(instance.status, (*instance.headers).clone(), instance.body.clone())
        };
        let hit = match instance.living.as_deref() {
            None => recorded(0),
            Some(living) => match &living.way {
                Way::Dynamic { reply, chains, known, recorded_at } => {
                    let scope = self.answering(instance, scope, now, *recorded_at);
                    let second = now.div_euclid(NANOS);
                    let run = live::Run { serving: self, known, now, second, spoiling };
                    let (mut hit, scope) = live::run(&run, reply, chains, scope);
                    self.settle(instance, scope, &mut hit);
                    return hit;
                }
                Way::KeySet(set) => {
                    let fault = stroke.and_then(Stroke::key_set);
                    let unsound = fault.and_then(|fault| self.unsound_set(Some(*set), fault));
                    let body = unsound.or_else(|| self.published.sets.get(*set).cloned().flatten());
                    Hit { body: body.unwrap_or_else(|| instance.body.clone()), ..recorded(0) }
                }
                Way::Spliced { headers, body, trailers } => {
                    match self.fill_all((headers, body, trailers.as_deref()), now, spoiling) {
                        None => recorded(living.tokens),
                        Some(filled) => Hit {
                            status: instance.status,
                            delay: instance.delay,
                            resigned: living.tokens,
                            ..filled
                        },
                    }
                }
            },
        };
        if scope.is_none() && !self.snapshot.learns {
            return hit;
        }
        let (mut hit, scope) = (hit, self.answering(instance, scope, now, None));
        self.settle(instance, scope, &mut hit);
        hit
    }

    /// The run that goes on with the answer after it worked on the request.
    fn answering(
        &self,
        instance: &Instance,
        scope: Option<Scope>,
        now: i64,
        recorded_at: Option<i64>,
    ) -> Scope {
        let mut scope =
            scope.unwrap_or_else(|| Scope::live(&self.snapshot.world, Side::Response, now));
        // What the request has taught holds for its own answer already.
        scope.learn_from(&instance.rare().captured);
        scope.commit();
        scope.side = Side::Response;
        scope.recorded_at = recorded_at;
        scope.secrets = Some(Arc::clone(&self.keys));
        scope
    }

    /// What is left to do when all chains are through.
    fn settle(&self, instance: &Instance, mut scope: Scope, hit: &mut Hit) {
        scope.learn_from(&instance.rare().captured);
        scope.commit();
        live::finish(&self.snapshot.world, &scope, hit);
    }

    /// Fields and body with current tokens; `None` when one of them cannot be signed.
    fn fill_all(
        &self,
        (headers, body, trailers): (&Fields, &Spliced, Option<&Fields>),
        now: i64,
        spoiling: Option<&Spoiling<'_>>,
    ) -> Option<Hit> {
        let fill = |what: usize, out: &mut Vec<u8>| self.fill(what, now, spoiling, out);
        let all = |fields: &Fields| {
            let mut all = (*fields.plain).clone();
            for (name, value) in &fields.spliced {
                let value = value.fill(fill)?;
                all.append(name.clone(), HeaderValue::from_maybe_shared(value).ok()?);
            }
            Some(all)
        };
        let trailers = match trailers {
            Some(trailers) => Some(Box::new(all(trailers)?)),
            None => None,
        };
        Some(Hit { trailers, ..Hit::new(0, all(headers)?, body.fill(fill)?) })
    }

    fn fill(
        &self,
        what: usize,
        now: i64,
        spoiling: Option<&Spoiling<'_>>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let second = now.div_euclid(NANOS);
        match self.snapshot.fills.get(what)? {
            Fill::Token(slot) => out.extend_from_slice(&self.spoilt(*slot, now, spoiling)?),
            Fill::Text(text) => out.extend_from_slice(text.as_bytes()),
            Fill::Aged { text, from } => {
                out.extend_from_slice(aged(text, *from, second)?.as_bytes());
            }
            // A token that is served as recorded is not about another time.
            Fill::Moment { slot, text, .. } if self.tokens.get(*slot)?.key.is_none() => {
                out.extend_from_slice(text.as_bytes());
            }
            Fill::Moment { slot, text, follows } => {
                out.extend_from_slice(
                    follows.now(text, self.snapshot.slots.get(*slot)?, second)?.as_bytes(),
                );
            }
        }
        Some(())
    }

    /// The token of a slot for this second, or one that serves as well.
    fn token(&self, slot: usize, now: i64) -> Option<Bytes> {
        self.tokens.get(slot)?.current(self.snapshot.slots.get(slot)?, now, &self.budget)
    }

    /// The body that this thread has made for an instance in this second already.
    fn ready_body(&self, origin: Origin, now: i64) -> Option<Bytes> {
        ready::get(self.serial, origin.instance, now.div_euclid(NANOS))
    }
}

/// Whether a client takes gzip. A client that says nothing about codings gets none.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(http::header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let refused = parts.any(|parameter| {
                parameter.replace(' ', "").starts_with("q=0")
                    && !parameter.contains(['1', '2', '3', '4', '5', '6', '7', '8', '9'])
            });
            (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
        })
}

fn unfold(hit: &mut Hit) {
    if let Cow::Owned(plain) = body::unfolded(&hit.body) {
        hit.body = plain.into();
        hit.headers.remove(http::header::CONTENT_ENCODING);
    }
}

#[cfg(test)]
mod tests;
