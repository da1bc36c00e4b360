//! The survey of a recording: which credentials are presented where, who issued them, and so which identities there are.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use super::{
    Heard, Identities, IdentityId,
    claims::Table,
    credential::{Credential, Key, claims_of, opaque_key, user_key},
    fields::Telling,
    issue::Looks,
    lists::Lists,
    login,
    mark::{may_hold_token, runs},
    place::{self, Place},
    walk::{First, Walk, in_order},
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
/// Who is behind a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// Whose credential the request presents.
    pub(crate) identity: IdentityId,
    /// Whose token the response issues.
    pub(crate) issued: Option<IdentityId>,
}

/// Looks at all pairs; what is seen of each comes back in their order. `also` looks at what tells who asks of each, in any order.
/// `configured` are an operator's candidate claims, `set` the claims that a template sets.
pub(crate) fn survey(
    pairs: &Pairs,
    configured: Option<&[String]>,
    set: &HashSet<String>,
    mut also: impl FnMut(&RrPair),
) -> (Identities, Vec<Seen>) {
    let mut walk = Walk { pairs, as_they_lie: true };
    // More places than can be told apart are counted from the first that was recorded.
    let mut survey = Survey::of(walk, &mut also).unwrap_or_else(|| {
        walk.as_they_lie = false;
        Survey::of(walk, &mut also).unwrap_or_default()
    });
    if survey.places.is_empty() && survey.tokens.is_empty() {
        return (Identities::default(), vec![Seen::default(); pairs.len()]);
    }
    survey.settle();
    if !survey.tokens.is_empty() {
        survey.responses(walk);
    }
    survey.finish(walk, configured, set)
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
    first: First,
    /// The first pair whose response holds it, by its step.
    issuer: Option<usize>,
}

/// What is seen step by step.
#[derive(Debug, Default)]
struct Survey {
    /// Places, whether JWTs are presented there, and the first time that somebody presents anything.
    places: Vec<(Place, bool, First)>,
    tokens: Vec<Token>,
    by_text: HashMap<Box<[u8]>, usize, rapidhash::fast::RandomState>,
    /// What each pair's request presents, and where.
    shown: Lists<(usize, Shown)>,
    /// So many places are told apart.
    room: usize,
    /// Somebody names himself.
    users: bool,
    /// Whether each pair's response may hold a JWT, or is not what it looks like.
    suspects: Vec<bool>,
    /// The tokens that each pair's response holds.
    issued: Lists<usize>,
}

impl Survey {
    /// Looks at all requests; `None` when there are too many places, unless they are come to in recorded order.
    fn of(walk: Walk<'_>, also: &mut dyn FnMut(&RrPair)) -> Option<Self> {
        // One more shows that there are too many.
        let room = MAX_PLACES + usize::from(walk.as_they_lie);
        let (mut survey, mut telling) = (Self { room, ..Self::default() }, Telling::default());
        let mut room = RrPair::default();
        for step in 0..walk.len() {
            let pair = walk.get(step, Part::Messages, &mut room);
            survey.request(pair, walk.number(step), &mut telling);
            survey.suspects.push(may_issue(pair));
            also(pair);
            if survey.places.len() > MAX_PLACES && walk.as_they_lie {
                return None;
            }
        }
        Some(survey)
    }

    fn request(&mut self, pair: &RrPair, number: usize, telling: &mut Telling) {
        let mut first = (number, 0);
        if let Some(recorded) = &pair.request {
            let request = Request::recorded(recorded, telling.of(&recorded.headers));
            place::all(&request, &mut |place, credential| {
                let jwt = matches!(credential, Credential::Jwt(_));
                if let Some(place) = self.place(place, jwt, first) {
                    let shown = self.credential(credential, first);
                    self.shown.push((place, shown));
                    first.1 += 1;
                }
            });
            // Tokens inside longer text present nobody, but take part in signatures: their claims count, too.
            let body = grpc::text_of(&request);
            for text in [request.query.as_bytes(), &body] {
                if may_hold_token(text) {
                    for span in runs(text).take(MAX_RUNS) {
                        let token = text.get(span).unwrap_or_default();
                        self.credential(Credential::Jwt(token.into()), first);
                        first.1 += 1;
                    }
                }
            }
        }
        self.shown.end();
    }

    fn place(&mut self, place: Place, jwt: bool, first: First) -> Option<usize> {
        let known = self.places.iter().position(|known| known.0 == place);
        let nth = known.unwrap_or(self.places.len());
        match self.places.get_mut(nth) {
            Some(known) => {
                known.1 |= jwt;
                known.2 = known.2.min(first);
            }
            None if nth < self.room => self.places.push((place, jwt, first)),
            None => return None,
        }
        Some(nth)
    }

    fn credential(&mut self, credential: Credential<'_>, first: First) -> Shown {
        let (text, jwt) = match credential {
            Credential::User(name) => {
                self.users = true;
                return Shown::User(name);
            }
            Credential::Jwt(text) => (text, true),
            Credential::Opaque(text) => (text, false),
        };
        if let Some(known) = self.by_text.get(&*text) {
            if let Some(token) = self.tokens.get_mut(*known) {
                token.first = token.first.min(first);
            }
            return Shown::Token(*known);
        }
        let text: Box<[u8]> = text.into();
        self.by_text.insert(text.clone(), self.tokens.len());
        self.tokens.push(Token { text, jwt, first, issuer: None });
        Shown::Token(self.tokens.len() - 1)
    }

    /// Numbers places and tokens in recorded order.
    fn settle(&mut self) {
        let places = in_order(&mut self.places, |place| place.2);
        let tokens = in_order(&mut self.tokens, |token| token.first);
        let new = |numbers: &[usize], old: usize| numbers.get(old).copied().unwrap_or(old);
        for nth in self.by_text.values_mut() {
            *nth = new(&tokens, *nth);
        }
        for (place, shown) in self.shown.items_mut() {
            *place = new(&places, *place);
            if let Shown::Token(nth) = shown {
                *nth = new(&tokens, *nth);
            }
        }
    }

    /// Finds presented tokens in all responses that may hold one.
    fn responses(&mut self, walk: Walk<'_>) {
        let looks = Looks::of(self.tokens.iter().map(|token| (&*token.text, token.jwt)));
        let mut room = RrPair::default();
        for step in 0..walk.len() {
            if !looks.are_jwts() || self.suspects.get(step).is_none_or(|suspect| *suspect) {
                self.response(step, walk, walk.get(step, Part::Response, &mut room), &looks);
            }
            self.issued.end();
        }
    }

    /// Finds presented tokens in a response: strings of a JSON body, cookies, header fields.
    fn response(&mut self, step: usize, walk: Walk<'_>, pair: &RrPair, looks: &Looks) {
        let (by_text, tokens, issued) = (&self.by_text, &mut self.tokens, &mut self.issued);
        let known = |text: &[u8]| {
            let bare = text.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
            if text.len() < MIN_TOKEN || !looks.fit(bare) {
                return None;
            }
            by_text.get(bare).copied()
        };
        let mut look = |text: &[u8]| {
            if let Some(token) = known(text) {
                if let Some(token) = tokens.get_mut(token)
                    && token.issuer.is_none_or(|first| walk.number(step) < walk.number(first))
                {
                    token.issuer = Some(step);
                }
                issued.push(token);
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
        if doc.len() > MAX_BODY
            || !matches!(doc.trim_ascii_start().first(), Some(b'{' | b'['))
            || !looks.may_be_in(&doc, |text| known(text).is_some())
        {
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
        walk: Walk<'_>,
        configured: Option<&[String]>,
        set: &HashSet<String>,
    ) -> (Identities, Vec<Seen>) {
        let mut table = Table::default();
        let mut heard = Heard::default();
        for token in self.tokens.iter().filter(|token| token.jwt) {
            heard.token(&token.text);
            if let Some(claims) = claims_of(&token.text) {
                table.add(&claims, token.issuer.and_then(|nth| self.login(walk, nth)));
            }
        }
        let mut identities =
            Identities { choice: table.choose(configured, set), heard, ..Identities::default() };
        let mut ids: Vec<Option<IdentityId>> = vec![None; self.tokens.len()];
        for nth in 0..self.tokens.len() {
            let id = self.identify(nth, walk, &mut identities, 0);
            if let Some(place) = ids.get_mut(nth) {
                *place = id;
            }
        }
        let token = |nth: usize| ids.get(nth).copied().flatten().unwrap_or_default();
        if self.users {
            // Who is named first has the lower number.
            let mut steps: Vec<usize> = (0..walk.len()).collect();
            steps.sort_unstable_by_key(|step| walk.number(*step));
            for (_, shown) in steps.iter().flat_map(|step| self.shown.get(*step)) {
                if let Shown::User(name) = shown {
                    identities.intern(user_key(name), || format!("user {name}"));
                }
            }
        }
        let shown = self.shown.map(|(place, shown)| {
            let identity = match shown {
                Shown::Token(nth) => token(*nth),
                Shown::User(name) => identities.intern(user_key(name), || format!("user {name}")),
            };
            (*place, identity)
        });
        let order = self.order(&shown);
        let rank = |place: usize| order.iter().position(|known| *known == place);
        let mut seen = vec![Seen::default(); walk.len()];
        for (step, shown) in shown.iter().enumerate() {
            if let Some(seen) = seen.get_mut(walk.number(step)) {
                *seen = Seen {
                    identity: shown
                        .iter()
                        .min_by_key(|shown| rank(shown.0))
                        .map_or(IdentityId::NOBODY, |shown| shown.1),
                    issued: self.issued.get(step).first().map(|nth| token(*nth)),
                };
            }
        }
        let mut places: Vec<Place> =
            order.iter().filter_map(|nth| Some(self.places.get(*nth)?.0.clone())).collect();
        // A client may present in the usual place what the recorded one presented elsewhere.
        if !places.contains(&Place::authorization()) {
            places.push(Place::authorization());
        }
        identities.places = places;
        (identities, seen)
    }

    /// Stands for a request that tokens were issued to, if it alone says who logs in.
    fn login(&self, walk: Walk<'_>, step: usize) -> Option<u64> {
        let shown = self.shown.get(step);
        if shown.iter().any(|(_, shown)| matches!(shown, Shown::Token(_))) {
            return None;
        }
        let mut room = RrPair::default();
        let request = walk.get(step, Part::Messages, &mut room).request.as_ref()?;
        let user = shown.iter().find_map(|(_, shown)| match shown {
            Shown::User(name) => Some(name.as_str()),
            Shown::Token(_) => None,
        });
        login::key(request, user.unwrap_or_default())
    }

    /// The places in the order in which they are asked: those where everybody presents the same tell nobody apart and come last.
    fn order(&self, shown: &Lists<(usize, IdentityId)>) -> Vec<usize> {
        let mut first: Vec<Option<IdentityId>> = vec![None; self.places.len()];
        let mut telling = vec![false; self.places.len()];
        for (place, identity) in shown.items() {
            if let (Some(first), Some(telling)) = (first.get_mut(*place), telling.get_mut(*place)) {
                *telling |= *first.get_or_insert(*identity) != *identity;
            }
        }
        let class = |nth: usize| match self.places.get(nth) {
            Some((place, ..)) if *place == Place::authorization() => 0,
            Some((Place::Header(_), true, _)) => 1,
            Some((Place::Cookie(_), true, _)) => 2,
            Some((Place::Header(_), false, _)) => 3,
            Some((Place::Cookie(_), false, _)) => 4,
            Some((Place::Query(_), ..)) => 5,
            Some((Place::Form(_) | Place::Json(_), ..)) | None => 6,
        };
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_by_key(|nth| (!telling.get(*nth).copied().unwrap_or_default(), class(*nth)));
        order
    }

    /// The identity behind a token: the claims of a JWT; of an opaque token, that of the JWT issued beside it, or of who it was issued to.
    fn identify(
        &self,
        nth: usize,
        walk: Walk<'_>,
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
            issuer.and_then(|issuer| self.issued_to(issuer, nth, walk, identities, steps));
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
        walk: Walk<'_>,
        identities: &mut Identities,
        steps: usize,
    ) -> Option<IdentityId> {
        let jwt = self
            .issued
            .get(issuer)
            .iter()
            .find(|nth| self.tokens.get(**nth).is_some_and(|other| other.jwt));
        if let Some(jwt) = jwt {
            return self.identify(*jwt, walk, identities, steps + 1);
        }
        let shown = self.shown.get(issuer);
        let before = shown.iter().find_map(|(_, shown)| match shown {
            Shown::Token(nth) if *nth != token => Some(*nth),
            _ => None,
        });
        if let Some(before) = before {
            return self.identify(before, walk, identities, steps + 1);
        }
        let named = shown.iter().find_map(|(_, shown)| match shown {
            Shown::User(name) => Some(name.clone()),
            Shown::Token(_) => None,
        });
        let mut room = RrPair::default();
        let in_body = || {
            let recorded = walk.get(issuer, Part::Messages, &mut room).request.as_ref()?;
            login::user_in_body(&recorded.body)
        };
        let name = named.or_else(in_body)?;
        Some(identities.intern(user_key(&name), || format!("user {name}")))
    }
}

fn told(names: &[String], tell: impl FnOnce() -> String) -> String {
    if names.is_empty() { "whoever presents a token".to_owned() } else { tell() }
}

fn digest(key: &Key) -> String {
    key.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a response may hold a JWT, or has a body that does not show.
fn may_issue(pair: &RrPair) -> bool {
    let response = &pair.response;
    may_hold_token(&response.body)
        || body::is_gzip(&response.body)
        || grpc::is_call(pair)
        || response.headers.iter().any(|field| may_hold_token(&field.value))
}
