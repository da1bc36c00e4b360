//! The request matchers of a pair: the conditions of a stub, and what they say exactly.

use super::matcher;
use crate::{
    formats::{
        node::Node,
        target::form_escape,
        verdict::{self, Left},
    },
    request::without_port,
    snapshot::stub::{Condition, Part, Test},
};

/// Under these names a mock is reached where its host does not lead to it.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// What a pair asks for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) conditions: Vec<Condition>,
    /// Hoverfly's own measure of how much is asked for.
    pub(super) score: usize,
    pub(super) method: Option<String>,
    pub(super) scheme: String,
    pub(super) host: Option<String>,
    pub(super) path: Option<String>,
    /// The exact query, as far as there is one.
    pub(super) query: String,
    pub(super) body: Option<String>,
    /// Something is asked for that a recorded request cannot say.
    fuzzy: bool,
}

impl Asked {
    /// Whether a recorded request says the same: exactly one request is asked for.
    pub(super) fn is_plain(&self) -> bool {
        let known = self.method.is_some() && self.host.is_some() && self.path.is_some();
        // Other bodies take part in a signature by their content type, which no matcher names.
        let body = match &self.body {
            Some(body) => body.is_empty() || body.trim_start().starts_with(['{', '[']),
            None => matches!(self.method.as_deref(), Some("GET" | "HEAD" | "OPTIONS")),
        };
        known && body && !self.fuzzy
    }

    fn add(&mut self, part: &Part, tests: Vec<Test>) {
        self.conditions
            .extend(tests.into_iter().map(|test| Condition { part: part.clone(), test }));
    }
}

/// Reads the matchers of a request.
pub(super) fn read(request: &Node) -> Result<Asked, Left> {
    if !request.is_map() {
        return Err(verdict::missing("request"));
    }
    let mut asked = Asked::default();
    asked.method = field(&mut asked, request, "method", &Part::Method)?;
    asked.path = field(&mut asked, request, "path", &Part::Path)?;
    // Over which scheme a mock is asked is no difference here.
    let scheme = request.get("scheme").items().first().map(|matcher| matcher.get("value").word());
    asked.scheme = scheme.unwrap_or_default().to_ascii_lowercase();
    destination(&mut asked, request)?;
    query(&mut asked, request)?;
    for (name, matchers) in request.get("headers").members() {
        asked.fuzzy = true;
        several(
            &mut asked,
            matchers,
            &format!("request.headers.{name}"),
            &Part::Header(name.clone()),
        )?;
    }
    body(&mut asked, request)?;
    Ok(asked)
}

/// The matchers of one field as conditions, and its exact value where they say one.
fn field(
    asked: &mut Asked,
    request: &Node,
    name: &str,
    part: &Part,
) -> Result<Option<String>, Left> {
    several(asked, request.get(name), &format!("request.{name}"), part)
}

fn several(
    asked: &mut Asked,
    matchers: &Node,
    place: &str,
    part: &Part,
) -> Result<Option<String>, Left> {
    let before = asked.conditions.len();
    for (nth, one) in matchers.items().iter().enumerate() {
        let (tests, score) = matcher::read(one, &format!("{place}[{nth}]"))?;
        asked.score = asked.score.saturating_add(score);
        asked.add(part, tests);
    }
    Ok(match asked.conditions.get(before..) {
        Some([Condition { test: Test::Equals { value, .. }, .. }]) => Some(value.clone()),
        None | Some([]) => None,
        Some(_) => {
            asked.fuzzy = true;
            None
        }
    })
}

/// The host. A mock that is asked under a local name stands for every host.
fn destination(asked: &mut Asked, request: &Node) -> Result<(), Left> {
    let mut hosts = Asked::default();
    asked.host = field(&mut hosts, request, "destination", &Part::Host)?;
    asked.score = asked.score.saturating_add(hosts.score);
    asked.fuzzy |= hosts.fuzzy;
    let mut tests: Vec<Test> =
        hosts.conditions.into_iter().map(|condition| condition.test).collect();
    if let [Test::Equals { value, .. }] = tests.as_mut_slice() {
        *value = without_port(value).to_ascii_lowercase();
    }
    if !tests.is_empty() {
        let mut any = vec![Test::All(tests)];
        any.extend(LOCAL.map(Test::equals));
        asked.add(&Part::Host, vec![Test::Any(any)]);
    }
    Ok(())
}

/// Query parameters by name; an empty map asks for a request without any.
fn query(asked: &mut Asked, request: &Node) -> Result<(), Left> {
    let deprecated = request.get("deprecatedQuery").items();
    if let [one] = deprecated
        && matches!(one.get("matcher").word().as_ref(), "" | "exact")
    {
        let text = one.get("value").word().into_owned();
        for (name, value) in crate::body::pairs(&text) {
            asked.add(&Part::Query(name), vec![Test::equals(value)]);
        }
        asked.score = asked.score.saturating_add(2);
        asked.query = text;
    } else if !deprecated.is_empty() {
        return Err(Left::skipped(
            "matcher_unsupported",
            "request.deprecatedQuery",
            "the query as a whole can only be matched exactly",
        ));
    } else if !request.get("query").is_map() {
        // Any query passes.
        asked.fuzzy = true;
    }
    let members = request.get("query").members();
    if members.is_empty() && request.get("query").is_map() && deprecated.is_empty() {
        asked.add(&Part::Url, vec![Test::Matches(r"[^?]*\??".to_owned())]);
        asked.score = asked.score.saturating_add(1);
    }
    let mut exact = Vec::new();
    for (name, matchers) in members {
        let place = format!("request.query.{name}");
        match several(asked, matchers, &place, &Part::Query(name.clone()))? {
            Some(value) => exact.push(format!("{}={}", form_escape(name), form_escape(&value))),
            None => asked.fuzzy = true,
        }
    }
    if !exact.is_empty() {
        asked.query = exact.join("&");
    }
    Ok(())
}

/// The body, or the fields of a form.
fn body(asked: &mut Asked, request: &Node) -> Result<(), Left> {
    let matchers = request.get("body");
    let forms: Vec<_> = matchers
        .items()
        .iter()
        .enumerate()
        .filter(|(_, one)| one.get("matcher").word().eq_ignore_ascii_case("form"))
        .collect();
    if forms.is_empty() {
        asked.body = field(asked, request, "body", &Part::Body)?;
        return Ok(());
    }
    asked.fuzzy = true;
    for (nth, form) in forms {
        for (name, matchers) in form.get("value").members() {
            let place = format!("request.body[{nth}].value.{name}");
            several(asked, matchers, &place, &Part::Form(name.clone()))?;
        }
    }
    Ok(())
}
