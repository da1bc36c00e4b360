//! From pairs and a template to a [`CompiledSnapshot`]: everything that can be known before a request is found out here.
//!
//! Request chains run on each recorded request, its signature is indexed. Response chains run on each recorded response with a stand-in
//! for each token; where the stand-ins end up are the holes that a request fills. A chain whose stand-in does not come through in plain
//! sight (a token inside base64, say) runs per request instead.

mod aging;
mod draft;
mod expiry;
pub(crate) mod headers;
mod instance;
mod keep;
mod plain;
mod plan;
mod respond;
mod scripts;
mod sockets;
mod tokens;
mod ways;

use std::{
    borrow::Cow,
    collections::HashSet,
    error::Error as _,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::{
    chaos::Chaos,
    clock::Clock,
    diagnostic::{Diagnostic, Diagnostics},
    dlp::Treatment,
    endpoints::Endpoints,
    grpc::{self, Methods},
    identity::{Identities, Seen, survey},
    index::Index,
    jwt::{TokenSlot, key::SecretRef},
    request::{Parts, host_key},
    signature::{Edit, Signature},
    snapshot::{
        HttpResponse, RrPair, Serve,
        encoded::{Encoded, Pairs},
        stub::Stub,
        wire::WireError,
    },
    stub::Stubs,
    test_config::{End, TestConfig},
    timing::Timing,
    token_world::TokenWorld,
    transform::{Chain, Scope, Side, Template, World, filter, message::Reply},
    turns::{self, Counts, Progress, Recorded},
};

pub(crate) use aging::{Aging, recorded_second};
pub(crate) use draft::{Fill, Follows, aged, token_error, validity_now};
pub(crate) use expiry::http_date;
pub(crate) use headers::{served_headers, served_trailers};
pub(crate) use instance::{Fields, Instance, Known, Living, Way};
use keep::Keep;
use plain::Plains;
pub(crate) use plan::{Plan, run_on_response};
use scripts::Scripts;
use sockets::Sockets;
pub(crate) use sockets::{Conversation, Step, key as socket_key};
pub(crate) use tokens::Resigned;
use ways::Ways;

/// A snapshot that is ready to answer once it is given keys.
#[derive(Debug)]
pub struct CompiledSnapshot {
    pub(crate) index: Index,
    pub(crate) identities: Identities,
    /// Some recorded signature holds a token, so tokens in signatures are compared by whose they are.
    pub(crate) marks: bool,
    pub(crate) progress: Progress,
    pub(crate) end: End,
    pub(crate) stubs: Stubs,
    pub(crate) plan: Plan,
    pub(crate) instances: Vec<Instance>,
    pub(crate) fills: Vec<Fill>,
    pub(crate) slots: Vec<TokenSlot>,
    pub(crate) response_chains: Vec<Chain>,
    pub(crate) world: Arc<World>,
    /// Answers may hold values that its chains learn to replace.
    pub(crate) learns: bool,
    pub(crate) token_world: TokenWorld,
    pub(crate) clock: Clock,
    pub(crate) methods: Methods,
    pub(crate) scripts: Scripts,
    passthrough: bool,
    low_data: bool,
    pub(crate) conversations: Vec<Conversation>,
    pub(crate) timing: Timing,
    /// `None` where nothing is configured to befall answers.
    pub(crate) chaos: Option<Box<Chaos>>,
    required_secrets: Vec<SecretRef>,
    diagnostics: Vec<Diagnostic>,
    /// Found once somebody counts by them.
    endpoints: OnceLock<Arc<Endpoints>>,
}

impl CompiledSnapshot {
    /// The secrets that its tokens are signed with, sorted, each once.
    #[must_use]
    pub fn required_secrets(&self) -> &[SecretRef] {
        &self.required_secrets
    }

    /// Whether requests to this host, with or without a port, were recorded.
    #[must_use]
    pub fn knows_host(&self, host: &str) -> bool {
        self.index.knows_host(&host_key(host))
    }

    /// The hosts that were recorded, without ports, the first 64 of them.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.index.hosts().filter_map(|host| std::str::from_utf8(host).ok())
    }

    /// How many recorded responses it serves.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.instances.len()
    }

    /// How many different signatures they have.
    #[must_use]
    pub fn signatures(&self) -> usize {
        self.index.len()
    }

    /// How many tokens it re-signs.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.slots.len()
    }

    /// The endpoints that it consists of. The first call takes time, as each signature is looked at.
    #[must_use]
    pub fn endpoints(&self) -> &Arc<Endpoints> {
        self.endpoints.get_or_init(|| Arc::new(Endpoints::of_snapshot(self)))
    }

    /// The signature of a request, in which tokens stand for whose they are.
    pub(crate) fn signature_of(&self, parts: &Parts, scope: &Scope) -> Signature {
        let mut signature = Signature::of(parts, &scope.edits);
        if self.marks {
            self.identities.mark(&mut signature);
        }
        signature
    }

    /// Whether a request that nothing recorded answers is meant for the real host.
    #[must_use]
    pub fn passes_through(&self) -> bool {
        self.passthrough
    }

    /// Whether only totals of its requests are reported.
    #[must_use]
    pub fn low_data(&self) -> bool {
        self.low_data
    }

    /// How far the turns have come.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let identities = self.identities.len().saturating_sub(1);
        let mut counts = Counts { identities, ..Counts::default() };
        self.index.cursors().for_each(|(cursor, len)| counts.add(cursor, len));
        counts
    }

    /// Begins all turns and scenarios anew.
    pub fn reset(&self) {
        turns::reset(self.index.cursors().map(|(cursor, _)| cursor));
        self.index.shared().for_each(|shared| shared.lease.reset());
        self.progress.reset();
        self.stubs.reset();
        self.chaos.iter().for_each(|chaos| chaos.reset());
    }

    /// Adds what was found before it was compiled.
    pub fn note(&mut self, found: &[Diagnostic]) {
        self.diagnostics.splice(0..0, found.iter().cloned());
    }

    pub(crate) fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

/// Compiles a snapshot that was stored as it was recorded. It never fails: what cannot be served is left out, or served as recorded, and
/// is in the findings.
#[must_use]
pub fn compile(
    pairs: Vec<RrPair>,
    template: &Template,
    config: &TestConfig,
    serve: Serve,
) -> (CompiledSnapshot, Diagnostics) {
    compile_treated(pairs, template, config, serve, Treatment::default())
}

/// Compiles a snapshot that was treated when it was stored.
#[must_use]
pub fn compile_treated(
    pairs: Vec<RrPair>,
    template: &Template,
    config: &TestConfig,
    serve: Serve,
    treatment: Treatment,
) -> (CompiledSnapshot, Diagnostics) {
    let total = pairs.len();
    compile_pairs(Pairs::of(pairs, serve), total, template, config, treatment)
}

/// Compiles a snapshot as it is stored. A pair that cannot be read is an error among the findings.
#[must_use]
pub fn compile_encoded(
    encoded: Encoded,
    template: &Template,
    config: &TestConfig,
    serve: Serve,
    treatment: Treatment,
) -> (CompiledSnapshot, Diagnostics) {
    let total = encoded.len();
    compile_pairs(Pairs::of_encoded(encoded, serve), total, template, config, treatment)
}

fn compile_pairs(
    mut pairs: Pairs,
    total: usize,
    template: &Template,
    config: &TestConfig,
    treatment: Treatment,
) -> (CompiledSnapshot, Diagnostics) {
    let mut found = Diagnostics::default();
    found.extend(config.warnings().to_vec());
    if pairs.len() == 0 && total > 0 {
        found.push(nothing_to_serve(total));
    }
    let set = claims_set(template, config);
    let (mut methods, mut shakes) = (Methods::default(), false);
    let (identities, seen) = survey(&pairs, config.identity_claims(), &set, |pair| {
        methods.look(pair);
        shakes |= sockets::is_handshake(pair);
    });
    let (request_chains, response_chains) = template
        .chains()
        .iter()
        .cloned()
        .partition::<Vec<_>, _>(|chain| chain.side() == Side::Request);
    let world = template.world(treatment.redactor().cloned());
    let mut compiled = CompiledSnapshot {
        index: Index::default(),
        identities,
        marks: false,
        progress: Progress::default(),
        end: config.sequence().end,
        stubs: Stubs::default(),
        plan: Plan::new(request_chains, treatment),
        instances: Vec::with_capacity(pairs.len()),
        fills: Vec::new(),
        slots: Vec::new(),
        response_chains,
        world,
        learns: template.learns(),
        token_world: TokenWorld::new(config.tokens().clone()),
        clock: config.clock().clone(),
        methods,
        scripts: Scripts::default(),
        passthrough: config.passthrough(),
        low_data: config.low_data(),
        conversations: Vec::new(),
        timing: config.timing(),
        chaos: config.chaos().map(|config| Box::new(Chaos::new(config.clone()))),
        required_secrets: template.required_secrets(),
        diagnostics: Vec::new(),
        endpoints: OnceLock::new(),
    };
    let (mut ways, mut keep) = (Ways::new(&compiled), Keep::default());
    compiled.index.reserve(pairs.len());
    let mut recorded = Vec::with_capacity(pairs.len());
    let mut sockets = if shakes { Sockets::find(&pairs) } else { Sockets::default() };
    let mut plains = if compiled.takes_plain_pairs() && !shakes {
        Plains::of(&compiled, &mut pairs, &seen, &mut keep)
    } else {
        Plains::default()
    };
    let mut pair = RrPair::default();
    for (at, seen) in seen.into_iter().enumerate() {
        if let Some(plain) = plains.take(at) {
            let host = plains.host(&plain);
            recorded.push(compiled.add_plain(plain, host));
            continue;
        }
        if let Err(why) = pairs.take(at, &mut pair) {
            found.push(malformed(&why));
            continue;
        }
        recorded.extend(if sockets.has_message(at) {
            compiled.add_message(&pair, at, &mut sockets, &mut ways, &mut keep, &mut found)
        } else {
            compiled.add(&pair, seen, sockets.begins(at), &mut ways, &mut keep, &mut found)
        });
    }
    compiled.conversations = sockets.finish(compiled.timing);
    compiled.stubs.seal();
    compiled.index.shrink();
    TokenWorld::settle(&mut compiled, &mut found);
    compiled.lay_out(&recorded, config);
    Chaos::settle(&mut compiled, &mut found);
    ways.tell(&compiled, &mut found);
    compiled.diagnostics = found.as_slice().to_vec();
    (compiled, found)
}

fn nothing_to_serve(total: usize) -> Diagnostic {
    let message = format!("none of the {total} pairs has the direction that is served");
    Diagnostic::warning("nothing_to_serve", "", message).hint("serve `in`, `out` or `all`")
}

fn malformed(why: &WireError) -> Diagnostic {
    let source = why.source().map(|source| format!(": {source}")).unwrap_or_default();
    Diagnostic::error("bundle_malformed", "", format!("{why}{source}"))
}

/// The claims that re-signing sets, which so tell nobody apart.
fn claims_set(template: &Template, config: &TestConfig) -> HashSet<String> {
    let mut set = HashSet::new();
    template.chains().iter().for_each(|chain| chain.sets_claims(&mut set));
    if config.tokens().issuer.is_any() {
        set.insert("iss".to_owned());
    }
    set
}

impl CompiledSnapshot {
    /// Adds a pair; `None` when it is left out.
    fn add(
        &mut self,
        pair: &RrPair,
        mut seen: Seen,
        socket: Option<usize>,
        ways: &mut Ways,
        keep: &mut Keep,
        found: &mut Diagnostics,
    ) -> Option<Recorded> {
        if !(200..=999).contains(&pair.response.status) && socket.is_none() {
            let status = pair.response.status;
            found.push(
                Diagnostic::warning(
                    "status_not_servable",
                    "",
                    format!("a response with status {status} cannot be replayed and is left out"),
                )
                .subject(name_of(pair)),
            );
            return None;
        }
        if let Some(stub) = &pair.stub {
            return self.add_stub(pair, stub, ways, keep, found);
        }
        let recorded = self.recorded(pair);
        let mut captured = Vec::new();
        let asked = if self.plan.leaves_recorded() {
            self.enter_as_it_is(&recorded, keep)
        } else {
            let mut parts = recorded.parts().clone();
            let scope = self.plan.run_on_recorded(pair, &mut parts, &self.world, found);
            self.enter(&parts, &scope.edits, keep);
            if let Some(session) = &scope.session {
                seen.identity = self.identities.of_session(session);
            }
            captured = scope.captured;
            Cow::Owned(parts.method)
        };
        let mut instance = self.prepare(&recorded, ways, keep, found);
        if !captured.is_empty() {
            instance.rare_mut().captured.append(&mut captured);
        }
        self.token_world.look(pair, &mut instance, self.instances.len());
        instance.identity = seen.identity;
        if socket.is_some() {
            instance.rare_mut().conversation = socket;
        }
        if let Some(chaos) = &mut self.chaos {
            chaos.look(self.instances.len(), pair, recorded.parts());
        }
        self.instances.push(instance);
        Some(turns::recorded(&asked, &pair.response, seen))
    }

    /// A pair whose parts are worked out once somebody asks for them; a call's tell how its body is read.
    fn recorded<'p>(&self, pair: &'p RrPair) -> filter::Recorded<'p> {
        if self.methods.is_empty() {
            return filter::Recorded::new(pair);
        }
        let mut parts = Parts::of_recorded(pair);
        parts.listed = self.lists(&parts);
        filter::Recorded::of(pair, parts)
    }

    /// Enters the next instance under the signature of its pair; tells its method.
    fn enter_as_it_is<'p>(
        &mut self,
        recorded: &'p filter::Recorded<'_>,
        keep: &mut Keep,
    ) -> Cow<'p, str> {
        let nth = self.instances.len();
        keep.scratch.clear();
        if let Some((host, request)) = Signature::write_pair(recorded.pair, &mut keep.scratch) {
            self.index.add_bytes(Some(&host), &keep.scratch, nth);
            return Cow::Borrowed(&request.method);
        }
        let parts = recorded.parts();
        self.enter(parts, &[], keep);
        Cow::Borrowed(&parts.method)
    }

    /// Enters the next instance under its signature.
    fn enter(&mut self, parts: &Parts, edits: &[Edit], keep: &mut Keep) {
        let nth = self.instances.len();
        keep.scratch.clear();
        let entry = match Signature::write_recorded(parts, edits, &mut keep.scratch) {
            Some(host) => self.index.add_bytes(Some(&host), &keep.scratch, nth),
            None => {
                let mut signature = Signature::of(parts, edits);
                self.marks |= self.identities.mark(&mut signature);
                self.index.add(&signature, nth)
            }
        };
        self.scripts.add(parts, &self.identities, entry);
    }

    /// Lays out who gets which answer in which order.
    fn lay_out(&mut self, recorded: &[Recorded], config: &TestConfig) {
        let identities = self.identities.len();
        let (progress, moves) =
            turns::plan(&mut self.index, recorded, identities, config.sequence());
        self.progress = progress;
        for (instance, moves) in self.instances.iter_mut().zip(moves) {
            if moves.is_some() {
                instance.rare_mut().moves = moves;
            }
        }
    }

    /// A stub is asked for what its conditions say: no request chain runs on it, and it has no signature.
    fn add_stub(
        &mut self,
        pair: &RrPair,
        stub: &Stub,
        ways: &mut Ways,
        keep: &mut Keep,
        found: &mut Diagnostics,
    ) -> Option<Recorded> {
        if let Err(why) = self.stubs.add(stub, name_of(pair), self.instances.len()) {
            let message = format!("the stub cannot be matched and is left out: {why}");
            found.push(Diagnostic::warning("stub_invalid", "", message).subject(name_of(pair)));
            return None;
        }
        let recorded = filter::Recorded::new(pair);
        if let Some(chaos) = &mut self.chaos {
            chaos.look(self.instances.len(), pair, recorded.parts());
        }
        let mut instance = self.prepare(&recorded, ways, keep, found);
        self.token_world.look(pair, &mut instance, self.instances.len());
        self.instances.push(instance);
        Some(Recorded::default())
    }
}

/// The reply of a pair before its chains. `edited` says that they will look into the body, which must be plain then.
pub(crate) fn recorded_reply(pair: &RrPair, edited: bool) -> Reply {
    let mut reply = if edited { Reply::of(pair) } else { Reply::without_context(pair) };
    if has_no_body(&reply.response) {
        reply.response.body = Bytes::new();
    }
    headers::settle_encoding(&mut reply.response, pair, edited);
    grpc::settle(pair, &mut reply);
    reply
}

/// A 204 or 304 has no body, whatever the recording says (RFC 9110, sections 15.3.5 and 15.4.5).
fn has_no_body(response: &HttpResponse) -> bool {
    matches!(response.status, 204 | 304)
}

/// What findings call a pair.
pub(crate) fn name_of(pair: &RrPair) -> String {
    let what = pair.request.as_ref().map_or_else(
        || format!("{} {}", pair.command, pair.location),
        |r| format!("{} {}", r.method, r.path),
    );
    match pair.uuid {
        Some(id) => format!("{what} ({})", uuid::Uuid::from_bytes(id)),
        None => what,
    }
}

/// Keeps the compiler honest about what may be shared between threads.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Arc<CompiledSnapshot>>();
};

#[cfg(test)]
mod tests;
