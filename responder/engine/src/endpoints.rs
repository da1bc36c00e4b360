//! Endpoints: the methods and path templates that a snapshot consists of, so that requests can be counted by them. They are found out once, so that
//! counting an answer takes one look-up by a number.
//!
//! A segment of a path that looks like an id is `{id}`: two recorded orders are one endpoint.

use std::{borrow::Cow, collections::HashMap};

use crate::{answer::Origin, compile::CompiledSnapshot, request::keys, signature::entries_of};

/// So many endpoints have a row of their own: those with the most recorded pairs.
pub const MOST: usize = 256;

/// What is kept of a path.
const LONGEST: usize = 256;

/// The number of instances that belong to no row.
const NONE: u16 = u16::MAX;

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The method; of a stub, what it asks for in words.
    pub method: String,
    /// The host that was recorded; empty when there are several.
    pub host: String,
    /// The path, with ids as `{id}`.
    pub path: String,
    /// How many recorded pairs it has.
    pub pairs: u64,
}

/// The endpoints of a snapshot.
#[derive(Debug, Default)]
pub struct Endpoints {
    rows: Vec<Endpoint>,
    /// The row of each instance.
    of_instance: Vec<u16>,
    by_name: HashMap<(String, String), usize>,
}

impl Endpoints {
    /// Finds them. Takes time: each signature is looked at.
    pub(crate) fn of_snapshot(snapshot: &CompiledSnapshot) -> Self {
        let mut drafts = Drafts::default();
        for (signature, entry) in snapshot.index.entries() {
            drafts.add_signature(signature, entry.instances());
        }
        for (name, instance) in snapshot.stubs.names() {
            // What tells two stubs of the same words apart stands in brackets.
            let name = name.split(" (").next().unwrap_or_default();
            let (method, path) = name.split_once(' ').unwrap_or(("", name));
            drafts.add(method, "", path, &[instance]);
        }
        drafts.finish(snapshot.instances.len())
    }

    /// The rows, those with the most pairs first.
    #[must_use]
    pub fn rows(&self) -> &[Endpoint] {
        &self.rows
    }

    /// The row that an answer belongs to; `None` when it has none.
    #[must_use]
    #[inline]
    pub fn of(&self, origin: &Origin) -> Option<usize> {
        let row = *self.of_instance.get(origin.instance)?;
        (row != NONE).then_some(usize::from(row))
    }

    /// The row of a method and a path template.
    #[must_use]
    pub fn find(&self, method: &str, template: &str) -> Option<usize> {
        // A pair of borrowed texts is no key of the map; this is for misses, which take long anyway.
        self.by_name.get(&(method.to_owned(), template.to_owned())).copied()
    }
}

/// Endpoints, in the order in which they were found.
#[derive(Default)]
struct Drafts {
    drafts: Vec<(Endpoint, Vec<usize>)>,
    by_name: HashMap<(String, String), usize>,
    /// The last one, since neighbours are mostly alike.
    last: usize,
}

impl Drafts {
    fn add_signature(&mut self, signature: &[u8], instances: &[usize]) {
        let (mut method, mut host, mut path) = (&[][..], &[][..], &[][..]);
        for (key, value) in entries_of(signature) {
            match key {
                keys::METHOD => method = value,
                keys::HOST => host = value,
                keys::URL => path = value,
                _ => {}
            }
        }
        let text = String::from_utf8_lossy;
        self.add(&text(method), &text(host), &text(path), instances);
    }

    fn add(&mut self, method: &str, host: &str, path: &str, instances: &[usize]) {
        let template = template(path);
        let same = |(draft, _): &(Endpoint, _)| draft.method == method && draft.path == template;
        let nth = if self.drafts.get(self.last).is_some_and(same) {
            self.last
        } else {
            let key = (method.to_owned(), template.clone().into_owned());
            *self.by_name.entry(key).or_insert_with(|| {
                let (method, host, path) = (method.into(), host.into(), template.into_owned());
                self.drafts.push((Endpoint { method, host, path, pairs: 0 }, Vec::new()));
                self.drafts.len() - 1
            })
        };
        self.last = nth;
        let Some((draft, own)) = self.drafts.get_mut(nth) else { return };
        if draft.host != host {
            draft.host.clear();
        }
        draft.pairs += u64::try_from(instances.len()).unwrap_or_default();
        own.extend_from_slice(instances);
    }

    fn finish(mut self, instances: usize) -> Endpoints {
        // The sort is stable: among equals the first that was recorded comes first.
        self.drafts.sort_by_key(|(draft, _)| std::cmp::Reverse(draft.pairs));
        self.drafts.truncate(MOST);
        let mut found = Endpoints { of_instance: vec![NONE; instances], ..Endpoints::default() };
        for (row, (endpoint, own)) in self.drafts.into_iter().enumerate() {
            for instance in own {
                if let Some(of) = found.of_instance.get_mut(instance) {
                    *of = u16::try_from(row).unwrap_or(NONE);
                }
            }
            found.by_name.insert((endpoint.method.clone(), endpoint.path.clone()), row);
            found.rows.push(endpoint);
        }
        found
    }
}

/// A path with `{id}` in the place of each segment that looks like an id, without query, and cut where it is very long.
#[must_use]
pub fn template(path: &str) -> Cow<'_, str> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = shortened(path);
    if !path.split('/').any(is_id) {
        return Cow::Borrowed(path);
    }
    let segments: Vec<&str> =
        path.split('/').map(|segment| if is_id(segment) { "{id}" } else { segment }).collect();
    Cow::Owned(segments.join("/"))
}

fn shortened(path: &str) -> &str {
    if path.len() <= LONGEST {
        return path;
    }
    let end = (0..=LONGEST).rev().find(|end| path.is_char_boundary(*end)).unwrap_or_default();
    path.get(..end).unwrap_or_default()
}

/// Whether a segment looks like an id: a number, a UUID, a long word of hexadecimal digits, or a long word in which letters and digits are mixed, such as
/// a token, which must stand nowhere.
fn is_id(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        // A token may do without digits, but not a word without its length.
        return bytes.len() > 40;
    }
    let hex = bytes.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    let word = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~=%:".contains(byte));
    digits == bytes.len()
        || (hex && bytes.len() >= 8)
        || (word && bytes.len() >= 16 && digits >= 3)
        || bytes.len() > 40
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        answer::Answer,
        compile::compile,
        jwt::key::KeyRing,
        request::Request,
        serving::Serving,
        snapshot::{HttpRequest, HttpResponse, RrPair, Serve},
        test_config::TestConfig,
        transform::Template,
    };

    fn pair(ordinal: u64, method: &str, host: &str, path: &str) -> RrPair {
        let request = HttpRequest {
            method: method.into(),
            host: host.into(),
            path: path.into(),
            ..HttpRequest::default()
        };
        let response = HttpResponse { status: 200, ..HttpResponse::default() };
        RrPair { ordinal, request: Some(request), response, ..RrPair::default() }
    }

    fn compiled(pairs: Vec<RrPair>) -> CompiledSnapshot {
        let template = Template::parse(br#"{"id":"t"}"#).0;
        let config = TestConfig::parse(TestConfig::STANDARD.as_bytes()).unwrap();
        compile(pairs, &template, &config, Serve::All).0
    }

    #[test]
    fn ids_in_paths_are_one_endpoint() {
        for (path, expected) in [
            ("/", "/"),
            ("", ""),
            ("/v1/orders/17", "/v1/orders/{id}"),
            ("/v1/orders/17/items/3?x=1", "/v1/orders/{id}/items/{id}"),
            ("/u/0b2c3d4e-5f60-7180-92a3-b4c5d6e7f809", "/u/{id}"),
            ("/b/deadbeef01", "/b/{id}"),
            ("/oauth2/token", "/oauth2/token"),
            ("/api/v2.1/me", "/api/v2.1/me"),
            ("/t/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "/t/{id}"),
            ("/articles/how-to-cook-in-2024", "/articles/{id}"),
            ("/articles/a-word-in-2-parts", "/articles/a-word-in-2-parts"),
        ] {
            assert_eq!(template(path), expected, "{path}");
        }
        assert!(template(&format!("/ä{}", "b/".repeat(1000))).len() <= LONGEST);
    }

    #[test]
    fn an_answer_tells_its_endpoint() {
        let snapshot = compiled(vec![
            pair(0, "GET", "a.example", "/orders/1"),
            pair(1, "GET", "a.example", "/me"),
            pair(2, "GET", "b.example", "/orders/2"),
        ]);
        let rows: Vec<_> = snapshot.endpoints().rows().to_vec();
        let row = |method: &str, host: &str, path: &str, pairs| Endpoint {
            method: method.into(),
            host: host.into(),
            path: path.into(),
            pairs,
        };
        assert_eq!(rows, [row("GET", "", "/orders/{id}", 2), row("GET", "a.example", "/me", 1)]);
        let snapshot = std::sync::Arc::new(snapshot);
        let serving = Serving::new(std::sync::Arc::clone(&snapshot), &KeyRing::default());
        let of = |path: &str| {
            let request = Request { method: "GET", host: "a.example", path, ..Request::default() };
            match serving.answer_or_owe(&request, 0) {
                Ok(Answer::Hit(hit)) => snapshot.endpoints().of(&hit.origin.unwrap()),
                _ => panic!("no answer"),
            }
        };
        assert_eq!((of("/orders/1"), of("/me")), (Some(0), Some(1)));
        assert_eq!(snapshot.endpoints().find("GET", "/orders/{id}"), Some(0));
        assert_eq!(snapshot.endpoints().find("PUT", "/orders/{id}"), None);
    }

    #[test]
    fn what_does_not_fit_has_no_row() {
        let many = |nth: usize| {
            let (a, b) = (
                char::from(b'a' + u8::try_from(nth / 26).unwrap()),
                char::from(b'a' + u8::try_from(nth % 26).unwrap()),
            );
            pair(u64::try_from(nth).unwrap(), "GET", "a.example", &format!("/{a}{b}"))
        };
        let endpoints =
            std::sync::Arc::clone(compiled((0..MOST + 10).map(many).collect()).endpoints());
        assert_eq!(endpoints.rows().len(), MOST);
        assert_eq!(endpoints.of_instance.iter().filter(|row| **row == NONE).count(), 10);
    }
}
