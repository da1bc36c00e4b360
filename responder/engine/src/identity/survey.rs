//! The survey of a recording: which credentials are presented where, who issued them, and so which identities there are.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    Heard, Identities, IdentityId,
    claims::Table,
    credential::{Credential, Key, claims_of, opaque_key, user_key},
    mark::{may_hold_token, runs},
    place::{self, Place},
};
use crate::{
    body, grpc, json,
    request::Request,
    snapshot::{Header, RrPair, encoded::Pairs, wire::Part},
};

/// So many places are told apart.
const MAX_PLACES: usize = 64;
/// Responses that are larger issue nothing.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// A shorter text is not looked for in responses.
const MIN_TOKEN: usize = 8;
/// So many tokens of a text are looked at.
const MAX_RUNS: usize = 64;
/// Through so many tokens an opaque token is followed to who logged in.
const MAX_STEPS: usize = 16;
/// How a login names its user.
const USER_FIELDS: [&str; 9] = [
    "username",
    "user",
    "email",
    "login",
    "user_name",
    "userid",
    "account",
    "client_id",
    "clientid",
];

/// Who is behind a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// Whose credential the request presents.
    pub(crate) identity: IdentityId,
    /// Whose token the response issues.
    pub(crate) issued: Option<IdentityId>,
}

/// Looks at all pairs; what is seen of each comes back in their order. `also` looks at what tells who asks of each. `configured` are an operator's candidate claims, `set` the claims
/// that a template sets.
pub(crate) fn survey(
    pairs: &Pairs,
    configured: Option<&[String]>,
    set: &HashSet<String>,
    mut also: impl FnMut(&RrPair),
) -> (Identities, Vec<Seen>) {
    let mut survey = Survey::default();
    for nth in 0..pairs.len() {
        let pair = pairs.get(nth, Part::Request);
        survey.requests(&pair);
        also(&pair);
    }
    if survey.places.is_empty() && survey.tokens.is_empty() {
        return (Identities::default(), vec![Seen::default(); pairs.len()]);
    }
    survey.issued = vec![Vec::new(); pairs.len()];
    if !survey.tokens.is_empty() {
        for nth in 0..pairs.len() {
            survey.response(nth, &pairs.get(nth, Part::Response));
        }
    }
    survey.finish(pairs, configured, set)
}

/// A credential that was seen.
#[derive(Debug, Clone)]
enum Shown {
    Token(usize),
    User(String),
}

/// A token that some request presents.
#[derive(Debug)]
struct Token {
    text: Box<[u8]>,
    jwt: bool,
    /// The first pair whose response holds it.
    issuer: Option<usize>,
}

#[derive(Debug, Default)]
struct Survey {
    /// Places, and whether JWTs are presented there.
    places: Vec<(Place, bool)>,
    tokens: Vec<Token>,
    by_text: HashMap<Box<[u8]>, usize, rapidhash::fast::RandomState>,
    /// What each pair's request presents, and where.
    shown: Vec<Vec<(usize, Shown)>>,
    /// The tokens that each pair's response holds.
    issued: Vec<Vec<usize>>,
}

impl Survey {
    fn requests(&mut self, pair: &RrPair) {
        let mut shown = Vec::new();
        with_request(pair, |request| {
            place::all(request, &mut |place, credential| {
                let jwt = matches!(credential, Credential::Jwt(_));
                if let Some(place) = self.place(place, jwt) {
                    shown.push((place, self.credential(credential)));
                }
            });
            // Tokens inside longer text present nobody, but take part in signatures: their claims count, too.
            let body = grpc::text_of(request);
            for text in [request.query.as_bytes(), &body] {
                if may_hold_token(text) {
                    for span in runs(text).take(MAX_RUNS) {
                        self.credential(Credential::Jwt(text.get(span).unwrap_or_default().into()));
                    }
                }
            }
        });
        self.shown.push(shown);
    }

    fn place(&mut self, place: Place, jwt: bool) -> Option<usize> {
        let known = self.places.iter().position(|known| known.0 == place);
        let nth = known.unwrap_or(self.places.len());
        match self.places.get_mut(nth) {
            Some(known) => known.1 |= jwt,
            None if nth < MAX_PLACES => self.places.push((place, jwt)),
            None => return None,
        }
        Some(nth)
    }

    fn credential(&mut self, credential: Credential<'_>) -> Shown {
        let (text, jwt) = match credential {
            Credential::User(name) => return Shown::User(name),
            Credential::Jwt(text) => (text, true),
            Credential::Opaque(text) => (text, false),
        };
        if let Some(known) = self.by_text.get(&*text) {
            return Shown::Token(*known);
        }
        let text: Box<[u8]> = text.into();
        self.by_text.insert(text.clone(), self.tokens.len());
        self.tokens.push(Token { text, jwt, issuer: None });
        Shown::Token(self.tokens.len() - 1)
    }

    /// Finds presented tokens in a response: strings of a JSON body, cookies, header fields.
    fn response(&mut self, nth: usize, pair: &RrPair) {
        let (by_text, tokens, issued) = (&self.by_text, &mut self.tokens, &mut self.issued);
        let mut look = |text: &[u8]| {
            if text.len() < MIN_TOKEN {
                return;
            }
            let bare = text.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
            if let Some(token) = by_text.get(bare) {
                if let Some(token) = tokens.get_mut(*token) {
                    token.issuer.get_or_insert(nth);
                }
                if let Some(issued) = issued.get_mut(nth) {
                    issued.push(*token);
                }
            }
        };
        for Header { name, value } in &pair.response.headers {
            if name.eq_ignore_ascii_case("set-cookie") {
                let cookie = value.split(|byte| *byte == b';').next().unwrap_or_default();
                let at = cookie.iter().position(|byte| *byte == b'=').map_or(0, |at| at + 1);
                look(cookie.get(at..).unwrap_or_default().trim_ascii());
            } else {
                look(value);
            }
        }
        if pair.response.body.len() > MAX_BODY {
            return;
        }
        let doc = match grpc::is_call(pair).then(|| grpc::to_form(&pair.response.body, false)) {
            Some(form) => Cow::Owned(form.unwrap_or_default()),
            None => body::unfolded(&pair.response.body),
        };
        if doc.len() > MAX_BODY || !matches!(doc.trim_ascii_start().first(), Some(b'{' | b'[')) {
            return;
        }
        let visited = json::visit(&doc, &mut |event| {
            if let json::Event::Scalar { kind: json::Kind::String, span } = event {
                look(doc.get(span.start + 1..span.end.saturating_sub(1)).unwrap_or_default());
            }
        });
        // A body that is cut off has issued what stands in it, too.
        drop(visited);
    }

    fn finish(
        self,
        pairs: &Pairs,
        configured: Option<&[String]>,
        set: &HashSet<String>,
    ) -> (Identities, Vec<Seen>) {
        let mut table = Table::default();
        let mut heard = Heard::default();
        for token in self.tokens.iter().filter(|token| token.jwt) {
            heard.token(&token.text);
            if let Some(claims) = claims_of(&token.text) {
                table.add(&claims, token.issuer.and_then(|nth| self.login(pairs, nth)));
            }
        }
        let mut identities =
            Identities { choice: table.choose(configured, set), heard, ..Identities::default() };
        let mut ids: Vec<Option<IdentityId>> = vec![None; self.tokens.len()];
        for nth in 0..self.tokens.len() {
            let id = self.identify(nth, pairs, &mut identities, 0);
            if let Some(place) = ids.get_mut(nth) {
                *place = id;
            }
        }
        let token = |nth: usize| ids.get(nth).copied().flatten().unwrap_or_default();
        let shown: Vec<Vec<(usize, IdentityId)>> = self
            .shown
            .iter()
            .map(|shown| {
                let identity = |shown: &Shown| match shown {
                    Shown::Token(nth) => token(*nth),
                    Shown::User(name) => {
                        identities.intern(user_key(name), || format!("user {name}"))
                    }
                };
                let mut identity = identity;
                shown.iter().map(|(place, shown)| (*place, identity(shown))).collect()
            })
            .collect();
        let order = self.order(&shown);
        let rank = |place: usize| order.iter().position(|known| *known == place);
        let seen = shown
            .iter()
            .zip(&self.issued)
            .map(|(shown, issued)| Seen {
                identity: shown
                    .iter()
                    .min_by_key(|shown| rank(shown.0))
                    .map_or(IdentityId::NOBODY, |shown| shown.1),
                issued: issued.first().map(|nth| token(*nth)),
            })
            .collect();
        let mut places: Vec<Place> =
            order.iter().filter_map(|nth| Some(self.places.get(*nth)?.0.clone())).collect();
        // A client may present in the usual place what the recorded one presented elsewhere.
        if !places.contains(&Place::authorization()) {
            places.push(Place::authorization());
        }
        identities.places = places;
        (identities, seen)
    }

    /// The places in the order in which they are asked: those where everybody presents the same tell nobody apart and come last.
    fn order(&self, shown: &[Vec<(usize, IdentityId)>]) -> Vec<usize> {
        let mut first: Vec<Option<IdentityId>> = vec![None; self.places.len()];
        let mut telling = vec![false; self.places.len()];
        for (place, identity) in shown.iter().flatten() {
            if let (Some(first), Some(telling)) = (first.get_mut(*place), telling.get_mut(*place)) {
                *telling |= *first.get_or_insert(*identity) != *identity;
            }
        }
        let class = |nth: usize| match self.places.get(nth) {
            Some((place, _)) if *place == Place::authorization() => 0,
            Some((Place::Header(_), true)) => 1,
            Some((Place::Cookie(_), true)) => 2,
            Some((Place::Header(_), false)) => 3,
            Some((Place::Cookie(_), false)) => 4,
            Some((Place::Query(_), _)) => 5,
            Some((Place::Form(_) | Place::Json(_), _)) | None => 6,
        };
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_by_key(|nth| (!telling.get(*nth).copied().unwrap_or_default(), class(*nth)));
        order
    }

    /// The identity behind a token: the claims of a JWT; of an opaque token, that of the JWT issued beside it, or of who it was issued to.
    fn identify(
        &self,
        nth: usize,
        pairs: &Pairs,
        identities: &mut Identities,
        steps: usize,
    ) -> Option<IdentityId> {
        let token = self.tokens.get(nth)?;
        let own = if token.jwt {
            identities.key(&Credential::Jwt((&*token.text).into()))
        } else {
            opaque_key(&token.text)
        };
        if let Some(known) = identities.by_key.get(&own) {
            return Some(*known);
        }
        if token.jwt {
            let claims = claims_of(&token.text).unwrap_or_default();
            let choice = identities.choice.identity.clone();
            return Some(identities.intern(own, || told(&choice.0, || choice.tell(&claims))));
        }
        let issuer = token.issuer.filter(|_| steps < MAX_STEPS);
        let identity =
            issuer.and_then(|issuer| self.issued_to(issuer, nth, pairs, identities, steps));
        match identity {
            Some(identity) => {
                identities.by_key.insert(own, identity);
                Some(identity)
            }
            None => Some(identities.intern(own, || format!("token {}", digest(&own)))),
        }
    }

    fn issued_to(
        &self,
        issuer: usize,
        token: usize,
        pairs: &Pairs,
        identities: &mut Identities,
        steps: usize,
    ) -> Option<IdentityId> {
        let jwt = self
            .issued
            .get(issuer)?
            .iter()
            .find(|nth| self.tokens.get(**nth).is_some_and(|other| other.jwt));
        if let Some(jwt) = jwt {
            return self.identify(*jwt, pairs, identities, steps + 1);
        }
        let shown = self.shown.get(issuer)?;
        let before = shown.iter().find_map(|(_, shown)| match shown {
            Shown::Token(nth) if *nth != token => Some(*nth),
            _ => None,
        });
        if let Some(before) = before {
            return self.identify(before, pairs, identities, steps + 1);
        }
        let named = shown.iter().find_map(|(_, shown)| match shown {
            Shown::User(name) => Some(name.clone()),
            Shown::Token(_) => None,
        });
        let name =
            named.or_else(|| with_request(&pairs.get(issuer, Part::Request), user_in_body)?)?;
        Some(identities.intern(user_key(&name), || format!("user {name}")))
    }

    /// Stands for a request that tokens were issued to, if it alone says who logs in.
    fn login(&self, pairs: &Pairs, nth: usize) -> Option<u64> {
        let shown = self.shown.get(nth)?;
        if shown.iter().any(|(_, shown)| matches!(shown, Shown::Token(_))) {
            return None;
        }
        let pair = pairs.get(nth, Part::Request);
        let request = pair.request.as_ref()?;
        let user = shown.iter().find_map(|(_, shown)| match shown {
            Shown::User(name) => Some(name.as_str()),
            Shown::Token(_) => None,
        });
        let parts: [&[u8]; 5] = [
            request.method.as_bytes(),
            request.path.as_bytes(),
            request.query.as_bytes(),
            &request.body,
            user.unwrap_or_default().as_bytes(),
        ];
        let key = super::credential::key(b'l', &parts);
        key.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

fn told(names: &[String], tell: impl FnOnce() -> String) -> String {
    if names.is_empty() { "whoever presents a token".to_owned() } else { tell() }
}

fn digest(key: &Key) -> String {
    key.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// The user that a login names in its body.
fn user_in_body(request: &Request<'_>) -> Option<String> {
    let wanted = |name: &str| USER_FIELDS.iter().position(|field| name.eq_ignore_ascii_case(field));
    let mut best: Option<(usize, String)> = None;
    let mut offer = |name: &str, value: &str| {
        if let Some(rank) = wanted(name)
            && !value.is_empty()
            && best.as_ref().is_none_or(|best| rank < best.0)
        {
            best = Some((rank, value.chars().take(256).collect()));
        }
    };
    let body = body::unfolded(request.body);
    if body.len() > MAX_BODY {
        return None;
    }
    if matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
        let mut last = String::new();
        let visited = json::visit(&body, &mut |event| match event {
            json::Event::Name { name, .. } => name.clone_into(&mut last),
            json::Event::Scalar { kind: json::Kind::String | json::Kind::Number, span } => {
                let raw = body.get(span).unwrap_or_default();
                let text = String::from_utf8_lossy(raw);
                offer(&last, text.trim_matches('"'));
            }
            _ => {}
        });
        visited.ok()?;
    } else {
        for (name, value) in body::pairs(std::str::from_utf8(&body).ok()?.trim_ascii()) {
            offer(&name, &value);
        }
    }
    best.map(|best| best.1)
}

/// A recorded request as a live one would come in; `None` when the recording has none.
fn with_request<T>(pair: &RrPair, look: impl FnOnce(&Request<'_>) -> T) -> Option<T> {
    let recorded = pair.request.as_ref()?;
    let headers: HeaderMap = recorded
        .headers
        .iter()
        .filter_map(|Header { name, value }| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_maybe_shared(value.clone()).ok()?))
        })
        .collect();
    Some(look(&Request {
        method: &recorded.method,
        host: &recorded.host,
        path: &recorded.path,
        query: &recorded.query,
        headers: &headers,
        body: &recorded.body,
        ..Request::default()
    }))
}
