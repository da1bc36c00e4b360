//! Finding tokens in a message: header fields, cookies, query, path, forms, and bodies of JSON, text and binary form.
//!
//! A value is looked into through JSON in strings, and through one layer of percent-encoding or base64. The number of finds in one message
//! is bounded.

mod wrap;

use crate::{
    body, grpc, json,
    snapshot::{Header, RrPair, header},
};

use super::{
    place::{Hop, Message, Part, Place, json_path},
    token::{self, Summary, Verdict, is_token_byte},
    walk,
};

/// So many finds of one message are kept.
const MAX_HITS: usize = 512;
/// So many layers are looked through.
const MAX_LAYERS: usize = 6;

/// Something found.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) place: Place,
    pub(super) seen: Seen,
}

/// What was found.
#[derive(Debug)]
pub(super) enum Seen {
    Token(Box<Summary>),
    FalseFriend { shown: String, why: &'static str },
}

/// What a message holds.
#[derive(Debug)]
pub(super) struct Finder {
    message: Message,
    hits: Vec<Hit>,
    left_out: u64,
}

/// Where the finder is.
#[derive(Debug, Clone)]
struct At {
    part: Part,
    hops: Vec<Hop>,
    /// The name of the member or field.
    name: String,
    /// It is behind percent-encoding or base64 already.
    wrapped: bool,
}

impl At {
    fn new(part: Part, name: &str) -> Self {
        Self { part, hops: Vec::new(), name: name.to_owned(), wrapped: false }
    }

    fn through(&self, hop: Hop) -> Self {
        let wrapped =
            self.wrapped || matches!(hop, Hop::Base64 { .. } | Hop::UrlSafeBase64 | Hop::Percent);
        let mut hops = self.hops.clone();
        hops.push(hop);
        Self { part: self.part.clone(), hops, name: self.name.clone(), wrapped }
    }
}

/// What the request of a pair holds, and how many finds were left out.
pub(super) fn in_request(pair: &RrPair) -> (Vec<Hit>, u64) {
    let mut finder = Finder::new(Message::Request);
    if let Some(request) = &pair.request {
        finder.headers(&request.headers);
        for (name, value) in body::pairs(&request.query) {
            finder.value(&At::new(Part::Query(name.clone()), &name), value.as_bytes());
        }
        for segment in request.path.split('/') {
            if let Verdict::Token(token) = token::judge(segment.as_bytes()) {
                finder.hit(&At::new(Part::Path, ""), Seen::Token(token));
            }
        }
        finder.body(&request.headers, &request.body);
    }
    (finder.hits, finder.left_out)
}

/// What the response of a pair holds, and how many finds were left out.
pub(super) fn in_response(pair: &RrPair) -> (Vec<Hit>, u64) {
    let mut finder = Finder::new(Message::Response);
    finder.headers(&pair.response.headers);
    finder.body(&pair.response.headers, &pair.response.body);
    (finder.hits, finder.left_out)
}

impl Finder {
    fn new(message: Message) -> Self {
        Self { message, hits: Vec::new(), left_out: 0 }
    }

    fn hit(&mut self, at: &At, seen: Seen) {
        if self.hits.len() == MAX_HITS {
            self.left_out += 1;
            return;
        }
        let place = Place { message: self.message, part: at.part.clone(), hops: at.hops.clone() };
        self.hits.push(Hit { place, seen });
    }

    fn headers(&mut self, headers: &[Header]) {
        let mut seen: Vec<(String, usize)> = Vec::new();
        for header in headers {
            let name = header.name.to_ascii_lowercase();
            let nth = match seen.iter_mut().find(|known| known.0 == name) {
                Some(known) => {
                    known.1 += 1;
                    known.1
                }
                None => {
                    seen.push((name.clone(), 0));
                    0
                }
            };
            match (self.message, name.as_str()) {
                (Message::Request, "cookie") => {
                    for cookie in header.value.split(|byte| *byte == b';') {
                        self.cookie(cookie);
                    }
                }
                (Message::Response, "set-cookie") => {
                    self.cookie(
                        header.value.split(|byte| *byte == b';').next().unwrap_or_default(),
                    );
                }
                _ => self.value(
                    &At::new(Part::Header { name: name.clone(), nth }, &name),
                    &header.value,
                ),
            }
        }
    }

    fn cookie(&mut self, pair: &[u8]) {
        let pair = String::from_utf8_lossy(pair);
        if let Some((name, value)) = pair.trim().split_once('=') {
            self.value(&At::new(Part::Cookie(name.to_owned()), name), value.as_bytes());
        }
    }

    fn body(&mut self, headers: &[Header], recorded: &[u8]) {
        let body = body::unfolded(recorded);
        let kind = header(headers, "content-type").map(|value| value.to_ascii_lowercase());
        let kind = kind.unwrap_or_default();
        let form = grpc::is_grpc(&kind).then(|| grpc::to_form(&body, false)).flatten();
        if let Some(form) = form {
            let at = At::new(Part::Body, "");
            if !self.json(&at, &form) {
                self.scan(&at, &form);
            }
            return;
        }
        if kind.starts_with(b"application/grpc") || std::str::from_utf8(&body).is_err() {
            self.scan(&At::new(Part::BinaryBody, ""), &body);
            return;
        }
        if body::is_form(&kind)
            && !matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
            && let Ok(form) = std::str::from_utf8(&body)
        {
            for (name, value) in body::pairs(form.trim_ascii()) {
                self.value(&At::new(Part::Form(name.clone()), &name), value.as_bytes());
            }
            return;
        }
        let at = At::new(Part::Body, "");
        if !self.json(&at, &body) {
            if let Verdict::Token(token) = token::judge(body.trim_ascii()) {
                let at = if body.trim_ascii() == &*body {
                    at
                } else {
                    at.through(Hop::Text(String::new()))
                };
                self.hit(&at, Seen::Token(token));
            } else {
                self.scan(&at, &body);
            }
        }
    }

    /// Looks at a value, and into it.
    fn value(&mut self, at: &At, value: &[u8]) {
        match token::judge(value) {
            Verdict::Token(token) => return self.hit(at, Seen::Token(token)),
            _ if wrap::names_token(&at.name) && wrap::is_opaque(value) => {
                return self.hit(at, Seen::Token(Box::new(token::opaque(value))));
            }
            Verdict::FalseFriend(why) => {
                let shown = token::shown(&String::from_utf8_lossy(value));
                return self.hit(at, Seen::FalseFriend { shown, why });
            }
            Verdict::Other => {}
        }
        if at.hops.len() >= MAX_LAYERS {
            return;
        }
        let found = self.hits.len();
        if self.json(at, value) || self.scheme(at, value) {
            return;
        }
        self.link(at, value);
        if self.hits.len() == found && !at.wrapped {
            for (hop, inner) in wrap::unwrapped(value) {
                if self.hits.len() == found {
                    self.value(&at.through(hop), &inner);
                }
            }
        }
        if self.hits.len() == found {
            self.scan(at, value);
        }
    }

    /// A value of the form `Bearer …`, as header fields have it.
    fn scheme(&mut self, at: &At, value: &[u8]) -> bool {
        let word = value.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let Some((scheme, rest)) = value.split_at_checked(word) else { return false };
        let rest = rest.trim_ascii_start();
        let Some(prefix) = value.get(..value.len() - rest.len()) else { return false };
        if word == 0 || prefix.len() == word || rest.is_empty() {
            return false;
        }
        let prefix = String::from_utf8_lossy(prefix).into_owned();
        if let Verdict::Token(token) = token::judge(rest) {
            self.hit(&at.through(Hop::Prefix(prefix)), Seen::Token(token));
            return true;
        }
        let authorization = at.name == "authorization" || at.name == "proxy-authorization";
        if authorization && scheme.eq_ignore_ascii_case(b"basic") {
            let at = at.through(Hop::Prefix(prefix));
            for (hop, inner) in wrap::unwrapped(rest) {
                self.scan(&at.through(hop), &inner);
            }
            return true;
        }
        if authorization && scheme.eq_ignore_ascii_case(b"bearer") && wrap::is_opaque(rest) {
            let token = Box::new(token::opaque(rest));
            self.hit(&at.through(Hop::Prefix(prefix)), Seen::Token(token));
            return true;
        }
        false
    }

    /// The parameters of a link, as redirects carry tokens in query and fragment.
    fn link(&mut self, at: &At, value: &[u8]) {
        let Ok(text) = std::str::from_utf8(value) else { return };
        let is_link = text.contains("://") || text.starts_with(['/', '?', '#']);
        let Some((_, parameters)) = text.split_once(['?', '#']).filter(|_| is_link) else { return };
        for (name, value) in parameters.split(['?', '#']).flat_map(body::pairs) {
            let inner = At { name: name.clone(), ..at.through(Hop::Parameter(name)) };
            self.value(&inner, value.as_bytes());
        }
    }

    /// Text with tokens somewhere in it.
    fn scan(&mut self, at: &At, text: &[u8]) {
        if !wrap::may_hold_token(text) {
            return;
        }
        let mut start = 0;
        for run in text.split(|byte| !is_token_byte(*byte)) {
            let from = start;
            start += run.len() + 1;
            let mut run = run;
            if at.part == Part::BinaryBody {
                run = wrap::by_length(text.get(..from).unwrap_or_default(), run);
            } else if run.iter().filter(|byte| **byte == b'.').count() == 3 {
                // The end of a sentence.
                run = run.strip_suffix(b".").unwrap_or(run);
            }
            if let Verdict::Token(token) = token::judge(run) {
                let label = wrap::label(text.get(..from).unwrap_or_default());
                self.hit(&at.through(Hop::Text(label)), Seen::Token(token));
            }
        }
    }

    /// Looks at every string of a document; false when it is none.
    fn json(&mut self, at: &At, document: &[u8]) -> bool {
        if !matches!(document.trim_ascii_start().first(), Some(b'{' | b'[')) {
            return false;
        }
        let begin = self.hits.len();
        let depth = at.hops.len();
        // For each find in an array, the path in which every index is a `#`.
        let mut general: Vec<(usize, String)> = Vec::new();
        let walked = walk::strings(document, &mut |steps, text| {
            let found = self.hits.len();
            let name = steps.iter().rev().find_map(|step| match step {
                super::place::Step::Name(name) => Some(name.as_str()),
                super::place::Step::Index(_) => None,
            });
            let name = name.unwrap_or_default();
            if !wrap::is_worth_a_look(name, text) {
                return;
            }
            let inner =
                At { name: name.to_owned(), ..at.through(Hop::Json(json_path(steps, false))) };
            self.value(&inner, text.as_bytes());
            if steps.iter().any(|step| matches!(step, super::place::Step::Index(_))) {
                let path = json_path(steps, true);
                general.extend((found..self.hits.len()).map(|nth| (nth, path.clone())));
            }
        });
        if walked.is_err() {
            self.hits.truncate(begin);
            return false;
        }
        self.generalise(document, depth, &general);
        true
    }

    /// Writes `items.#.token` for `items.0.token` and `items.1.token`, unless other elements hold something else, which a chain would stop at.
    fn generalise(&mut self, document: &[u8], depth: usize, general: &[(usize, String)]) {
        for (nth, path) in general {
            let Some(hit) = self.hits.get(*nth) else { continue };
            let rest = hit.place.hops.get(depth + 1..).unwrap_or_default();
            let is_token = matches!(hit.seen, Seen::Token(_));
            let alike = general
                .iter()
                .filter(|other| other.1 == *path)
                .filter_map(|other| self.hits.get(other.0))
                .filter(|other| {
                    matches!(other.seen, Seen::Token(_)) == is_token
                        && other.place.hops.get(depth + 1..).unwrap_or_default() == rest
                })
                .count();
            let places =
                json::Path::parse(path).ok().and_then(|path| json::locate(document, &path).ok());
            let whole = places.is_some_and(|places| places.len() == alike);
            if (whole || !is_token || self.message == Message::Request)
                && let Some(hit) = self.hits.get_mut(*nth)
                && let Some(hop) = hit.place.hops.get_mut(depth)
            {
                *hop = Hop::Json(path.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
