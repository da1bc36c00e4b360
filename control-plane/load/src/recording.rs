//! A recording as it is driven: sessions of steps, each with what was answered.
//!
//! A session holds what one user sent, in recorded order. What several pairs have in common, header fields and bodies, is held once, so that
//! a recording of a million pairs takes little more memory than its different bodies.

mod atoms;
mod flow;
mod intern;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use countersign_engine::{
    sending::{self, Admitted, Asker, Generator},
    snapshot::{Direction, Header, HttpResponse, RrPair},
};
use http::{HeaderName, HeaderValue, Method, uri::PathAndQuery};

pub(crate) use atoms::cookie;
pub(crate) use flow::{Give, Piece, Place, Use, Written};
use intern::Interner;

/// So many endpoints are told apart; the others are one.
const MAX_ENDPOINTS: usize = 256;
/// What the endpoints are called that are not told apart.
const OTHER: &str = "(other endpoints)";
/// Fields of a recorded request that belong to its connection, or that the client makes itself.
const NOT_SENT: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why a recording cannot be driven.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// There is no request in it.
    #[error("the recording holds no request that can be sent: {0}")]
    Nothing(String),
}

/// Which pairs are driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driven {
    /// What the recorded service was asked, if there is any of it, else what it asked of others.
    #[default]
    Auto,
    /// What the recorded service was asked.
    Inbound,
    /// What it asked of others.
    Outbound,
    /// Both.
    All,
}

/// What a recording is made into sessions with.
#[derive(Debug, Default)]
pub struct Options<'o> {
    /// Which pairs.
    pub driven: Driven,
    /// Chains that work on requests.
    pub generator: Option<&'o Generator>,
    /// Whether what an answer gives goes into later requests.
    pub carry: bool,
    /// The claims that tell users apart, where they are named.
    pub claims: Option<&'o [String]>,
    /// Whether recorded answers are held against live ones, and so are kept.
    pub keep_answers: bool,
}

/// A recording, ready to be driven.
#[derive(Debug)]
pub struct Recording {
    pub(crate) sessions: Vec<Session>,
    pub(crate) endpoints: Vec<String>,
    /// What it holds.
    pub summary: Summary,
}

/// What a recording holds, for people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Requests that are driven.
    pub requests: usize,
    /// Sessions.
    pub sessions: usize,
    /// Identities that the recording shows.
    pub users: usize,
    /// Requests that present a token.
    pub with_token: usize,
    /// Values that answers give and later requests carry.
    pub carried: usize,
    /// Calls of gRPC.
    pub calls: usize,
    /// Pairs that were recorded over HTTP/2.
    pub http2: usize,
    /// Requests that the generator's chains work on.
    pub transformed: usize,
    /// From the first request to the last.
    pub length: Duration,
    /// Whether the recording says when requests were sent.
    pub timed: bool,
    /// Which pairs were chosen.
    pub direction: Direction,
    /// Pairs of the other direction, which are left out.
    pub other_direction: usize,
    /// Pairs that cannot be sent: no request, or one that HTTP has no form for.
    pub left_out: usize,
}

/// What one user sends.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) steps: Box<[Step]>,
    /// The recorded values that live ones take the place of.
    pub(crate) slots: Box<[Box<str>]>,
}

/// A request, and what was answered.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) endpoint: usize,
    /// When it was sent, since the first request of the recording.
    pub(crate) offset: Duration,
    pub(crate) method: Method,
    pub(crate) host: Arc<str>,
    pub(crate) target: PathAndQuery,
    pub(crate) headers: Arc<[(HeaderName, HeaderValue)]>,
    /// Fields that are the user's own, behind those that many requests share.
    pub(crate) own: Box<[(HeaderName, HeaderValue)]>,
    pub(crate) body: Bytes,
    pub(crate) uses: Box<[Use]>,
    pub(crate) gives: Box<[Give]>,
    pub(crate) expected: Expected,
    /// It presents a token.
    pub(crate) token: bool,
    pub(crate) admitted: Admitted,
    pub(crate) recorded_at: Option<i64>,
}

/// What was answered.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub(crate) status: u16,
    pub(crate) headers: Arc<[(HeaderName, HeaderValue)]>,
    pub(crate) body: Bytes,
    /// The status of a call of gRPC, where it was recorded.
    pub(crate) grpc_status: Option<i32>,
}

/// Fields that most requests of a recording have alike.
fn is_common(name: &str) -> bool {
    matches!(name, "accept" | "accept-language" | "content-type" | "user-agent" | "origin")
        || name.starts_with("sec-")
}

impl Recording {
    /// Makes sessions of pairs.
    ///
    /// # Errors
    /// When none of them can be sent.
    pub fn new(mut pairs: Vec<RrPair>, options: &Options<'_>) -> Result<Self, RecordingError> {
        let (total, direction) = (pairs.len(), choose(&pairs, options.driven));
        if options.driven != Driven::All {
            pairs.retain(|pair| pair.direction == direction);
        }
        let mut summary =
            Summary { direction, other_direction: total - pairs.len(), ..Summary::default() };
        pairs.retain(|pair| pair.request.is_some() && pair.stub.is_none());
        in_time(&mut pairs, &mut summary);
        let asked = sending::survey(pairs, options.claims);
        let mut askers: Vec<Asker> = asked.askers.clone();
        askers.sort_unstable_by_key(|asker| asker.number());
        askers.dedup();
        summary.users = askers.iter().filter(|asker| asker.number().is_some()).count();
        let groups = flow::group(&asked.pairs, &asked.askers);
        let mut builder = Builder::new(options, first_ts(&asked.pairs));
        let mut sessions = Vec::with_capacity(groups.len());
        // Each pair is forgotten once its session is made.
        let mut left: Vec<Option<RrPair>> = asked.pairs.into_iter().map(Some).collect();
        for group in groups {
            let take = |nth: &usize| left.get_mut(*nth).and_then(Option::take);
            let of: Vec<RrPair> = group.iter().filter_map(take).collect();
            sessions.extend(builder.session(&of, &mut summary));
        }
        if sessions.is_empty() {
            let why = if summary.other_direction > 0 {
                format!("{} pairs went the other way; see --direction", summary.other_direction)
            } else {
                format!("{total} pairs were read")
            };
            return Err(RecordingError::Nothing(why));
        }
        sessions.sort_by_key(|session| session.steps.first().map(|step| step.offset));
        summary.sessions = sessions.len();
        Ok(Self { sessions, endpoints: builder.endpoints, summary })
    }
}

/// Takes out of a pair what no session needs, so that a large recording fits into memory while it is read. Filters of a generator's chains may
/// ask for all of it: then leave pairs as they are.
pub fn slim(pair: &mut RrPair) {
    pair.signature.clear();
    pair.tags.clear();
    for text in [
        &mut pair.session,
        &mut pair.service,
        &mut pair.cluster,
        &mut pair.namespace,
        &mut pair.tech,
        &mut pair.status,
        &mut pair.response.status_message,
    ] {
        *text = String::new();
    }
    // Trailers of gRPC lie in there.
    if !pair.extra_json.contains("\"trailers\"") {
        pair.extra_json = String::new();
    }
}

/// Which way the pairs go that are driven.
fn choose(pairs: &[RrPair], driven: Driven) -> Direction {
    match driven {
        Driven::Outbound => Direction::Out,
        Driven::Inbound => Direction::In,
        Driven::Auto | Driven::All => {
            let inbound = pairs.iter().any(|pair| pair.direction == Direction::In);
            if inbound { Direction::In } else { Direction::Out }
        }
    }
}

/// Sorts pairs by when they were sent, where the recording says so of all; numbers them anew.
fn in_time(pairs: &mut [RrPair], summary: &mut Summary) {
    summary.timed = pairs.len() > 1 && pairs.iter().all(|pair| pair.ts.is_some());
    pairs.sort_by_key(|pair| (if summary.timed { pair.ts } else { None }, pair.ordinal));
    for (ordinal, pair) in (0..).zip(pairs.iter_mut()) {
        pair.ordinal = ordinal;
    }
    let between = first_ts(pairs).zip(pairs.last().and_then(|pair| pair.ts));
    summary.length = between.map_or(Duration::ZERO, |(first, last)| since(first, last));
}

fn first_ts(pairs: &[RrPair]) -> Option<i64> {
    pairs.first().and_then(|pair| pair.ts)
}

fn since(first: i64, ts: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ts.saturating_sub(first)).unwrap_or_default())
}

/// Makes steps of pairs and holds once what they share.
struct Builder<'o> {
    options: &'o Options<'o>,
    begin: Option<i64>,
    endpoints: Vec<String>,
    by_name: HashMap<String, usize>,
    lists: Interner<[(HeaderName, HeaderValue)]>,
    hosts: Interner<str>,
    bodies: intern::Bodies,
}

impl<'o> Builder<'o> {
    fn new(options: &'o Options<'o>, begin: Option<i64>) -> Self {
        Self {
            options,
            begin,
            endpoints: Vec::new(),
            by_name: HashMap::new(),
            lists: Interner::default(),
            hosts: Interner::default(),
            bodies: intern::Bodies::default(),
        }
    }

    fn session(&mut self, pairs: &[RrPair], summary: &mut Summary) -> Option<Session> {
        let mut sent: Vec<&RrPair> = Vec::with_capacity(pairs.len());
        let mut steps = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match self.step(pair) {
                Some(step) => {
                    steps.push(step);
                    sent.push(pair);
                }
                None => summary.left_out += 1,
            }
        }
        let slots = if self.options.carry { flow::connect(&sent, &mut steps) } else { Vec::new() };
        summary.requests += steps.len();
        summary.carried += slots.len();
        summary.with_token += steps.iter().filter(|step| step.token).count();
        summary.transformed += steps.iter().filter(|step| !step.admitted.is_empty()).count();
        summary.calls += sent.iter().filter(|pair| sending::is_call(pair)).count();
        let http2 = |pair: &&&RrPair| {
            pair.request.as_ref().is_some_and(|request| request.version.starts_with('2'))
        };
        summary.http2 += sent.iter().filter(http2).count();
        (!steps.is_empty()).then(|| Session { steps: steps.into(), slots: slots.into() })
    }

    fn step(&mut self, pair: &RrPair) -> Option<Step> {
        let request = pair.request.as_ref()?;
        let query = if request.query.is_empty() { "" } else { "?" };
        let path = if request.path.is_empty() { "/" } else { &request.path };
        let target = format!("{path}{query}{}", request.query);
        let sent = |name: &str| !name.starts_with(':') && !NOT_SENT.contains(&name);
        let (common, own): (Vec<_>, Vec<_>) = fields(&request.headers)
            .filter(|(name, _)| sent(name.as_str()))
            .partition(|(name, _)| is_common(name.as_str()));
        let body = sending::body(pair);
        Some(Step {
            endpoint: self.endpoint(pair),
            offset: self.begin.zip(pair.ts).map_or(Duration::ZERO, |(begin, ts)| since(begin, ts)),
            method: Method::from_bytes(request.method.as_bytes()).ok()?,
            host: self.hosts.get(request.host.as_str()),
            target: PathAndQuery::try_from(target).ok()?,
            headers: self.lists.get(common.as_slice()),
            own: own.into(),
            body: self.bodies.get(&body),
            uses: Box::default(),
            gives: Box::default(),
            expected: self.expected(pair),
            token: sending::presents_token(pair),
            admitted: self.options.generator.map(|own| own.admits(pair)).unwrap_or_default(),
            recorded_at: pair.ts,
        })
    }

    fn expected(&mut self, pair: &RrPair) -> Expected {
        let HttpResponse { status, headers, .. } = &pair.response;
        let grpc_status = sending::is_call(pair).then(|| {
            let trailers = sending::trailers(pair);
            let found = trailers
                .iter()
                .chain(headers)
                .find(|field| field.name.eq_ignore_ascii_case("grpc-status"));
            found.and_then(|field| std::str::from_utf8(&field.value).ok()?.trim().parse().ok())
        });
        let all = self.options.keep_answers;
        // Which cookies were set tells where live ones belong.
        let kept: Vec<_> =
            fields(headers).filter(|(name, _)| all || name == http::header::SET_COOKIE).collect();
        let body = if all { sending::answer(pair) } else { Bytes::new() };
        Expected {
            status: *status,
            headers: self.lists.get(kept.as_slice()),
            body: self.bodies.get(&body),
            grpc_status: grpc_status.flatten(),
        }
    }

    fn endpoint(&mut self, pair: &RrPair) -> usize {
        let endpoint = sending::endpoint(pair);
        let mut name = format!("{} {}", endpoint.method, endpoint.route);
        if !self.by_name.contains_key(&name) && self.endpoints.len() >= MAX_ENDPOINTS {
            OTHER.clone_into(&mut name);
        }
        if let Some(known) = self.by_name.get(&name) {
            return *known;
        }
        self.endpoints.push(name.clone());
        let nth = self.endpoints.len() - 1;
        self.by_name.insert(name, nth);
        nth
    }
}

/// The fields that HTTP has a form for.
fn fields(headers: &[Header]) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
    headers.iter().filter_map(|header| {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(&header.value).ok()?))
    })
}

#[cfg(test)]
pub(crate) mod tests;
