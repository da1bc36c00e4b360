//! The `request` of a mapping: its conditions, and an example that fulfils the literal ones.

use bytes::Bytes;

use super::{
    Findings,
    matcher::{self, shown},
};
use crate::{
    formats::node::Node,
    snapshot::{
        Header, HttpRequest,
        stub::{Condition, Part, Test},
    },
};

/// The ways to write what the URL must be like; a mapping has one of them at the most.
const URLS: [&str; 5] = ["url", "urlPattern", "urlPath", "urlPathPattern", "urlPathTemplate"];

/// What a mapping asks for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Each condition and its place in the mapping.
    pub(super) conditions: Vec<(String, Condition)>,
    /// A request as the mapping describes it: patterns stand where nothing literal is known.
    pub(super) example: HttpRequest,
    /// The host, if it is literal.
    pub(super) host: String,
}

/// Reads a request; a mapping without one asks for nothing.
pub(super) fn read(node: &Node, found: &mut Findings) -> Asked {
    let mut asked = Asked::default();
    asked.example.method = "ANY".to_owned();
    asked.example.path = "/".to_owned();
    asked.example.version = "1.1".to_owned();
    if node.members().iter().filter(|(name, _)| URLS.contains(&name.as_str())).count() > 1 {
        found.problem(
            "invalid_field",
            "request",
            format!("only one of {} may be there", URLS.join(", ")),
        );
    }
    for (name, value) in node.members() {
        if !value.is_null() {
            asked.member(name, value, found);
        }
    }
    asked
}

impl Asked {
    fn member(&mut self, name: &str, value: &Node, found: &mut Findings) {
        let path = format!("request.{}", shown(name));
        match name {
            "method" => self.method(value, &path, found),
            "url" | "urlPattern" | "urlPath" | "urlPathPattern" | "urlPathTemplate" => {
                self.url(name, value, &path, found);
            }
            "pathParameters" => self.each(value, &path, Part::PathVariable, found),
            "queryParameters" => self.each(value, &path, Part::Query, found),
            "headers" => self.each(value, &path, Part::Header, found),
            "cookies" => self.each(value, &path, Part::Cookie, found),
            "formParameters" => self.each(value, &path, Part::Form, found),
            "host" => {
                if let Some(test) = matcher::of_one(value, &path, found) {
                    self.add(path, Part::Host, test);
                }
            }
            "port" => match value.integer().filter(|port| (1..=65_535).contains(port)) {
                Some(port) => self.add(path, Part::Port, Test::equals(port.to_string())),
                None => found.problem("invalid_field", path, "`port` is not a port"),
            },
            // Requests come to us in plain HTTP, so the one is always true and the other never.
            "scheme" if value.text() == Some("http") => {}
            "scheme" => found.problem(
                "matcher_unsupported",
                path,
                "a mock is reached over plain HTTP, so that the scheme cannot be asked for",
            ),
            "basicAuthCredentials" | "basicAuth" => self.basic_auth(value, path, found),
            "bodyPatterns" => {
                for (nth, item) in value.items().iter().enumerate() {
                    let path = format!("{path}[{nth}]");
                    if let Some(test) = matcher::of_one(item, &path, found) {
                        self.add(path, Part::Body, test);
                    }
                }
            }
            other => {
                let message = format!("`{}` is not supported", shown(other));
                found.problem("matcher_unsupported", path, message);
            }
        }
    }

    fn method(&mut self, value: &Node, path: &str, found: &mut Findings) {
        let test = match value.text() {
            Some("ANY") => return,
            Some("GET_OR_HEAD") => {
                "GET".clone_into(&mut self.example.method);
                Test::Any(vec![Test::equals("GET"), Test::equals("HEAD")])
            }
            Some(method) if http::Method::from_bytes(method.as_bytes()).is_ok() => {
                method.clone_into(&mut self.example.method);
                Test::equals(method)
            }
            _ => return found.problem("invalid_field", path, "`method` is not an HTTP method"),
        };
        self.add(path.to_owned(), Part::Method, test);
    }

    fn url(&mut self, name: &str, value: &Node, path: &str, found: &mut Findings) {
        let Some(text) = value.text().map(str::to_owned) else {
            return found.problem("invalid_field", path, format!("`{name}` is not a text"));
        };
        if !text.contains(|c: char| c.is_ascii_control()) && !text.is_empty() {
            match text.split_once('?').filter(|_| name == "url") {
                Some((path, query)) => {
                    path.clone_into(&mut self.example.path);
                    query.clone_into(&mut self.example.query);
                }
                None => self.example.path.clone_from(&text),
            }
        }
        let (part, test) = match name {
            "url" => (Part::Url, Test::equals(text)),
            "urlPattern" => (Part::Url, Test::Matches(text)),
            "urlPath" => (Part::Path, Test::equals(text)),
            "urlPathPattern" => (Part::Path, Test::Matches(text)),
            _ => (Part::Path, Test::Template(text)),
        };
        self.add(path.to_owned(), part, test);
    }

    fn basic_auth(&mut self, value: &Node, path: String, found: &mut Findings) {
        match (value.get("username").text(), value.get("password").text()) {
            (Some(user), Some(password)) => {
                self.add(path, Part::BasicAuth, Test::equals(format!("{user}:{password}")));
            }
            _ => found.problem("invalid_field", path, "credentials are `username` and `password`"),
        }
    }

    /// An object from names to matchers.
    fn each(&mut self, map: &Node, path: &str, part: fn(String) -> Part, found: &mut Findings) {
        if !map.is_map() {
            return found.problem("matcher_invalid", path, "not an object of matchers");
        }
        for (name, value) in map.members() {
            let path = format!("{path}.{}", shown(name));
            for test in matcher::of_many(value, &path, found) {
                self.add(path.clone(), part(name.clone()), test);
            }
        }
    }

    fn add(&mut self, path: String, part: Part, test: Test) {
        if let Some(text) = literal(&test) {
            self.exemplify(&part, text);
        }
        self.conditions.push((path, Condition { part, test }));
    }

    fn exemplify(&mut self, part: &Part, text: &str) {
        let example = &mut self.example;
        match part {
            Part::Host => {
                text.clone_into(&mut example.host);
                text.clone_into(&mut self.host);
            }
            Part::Query(name) => {
                let separator = if example.query.is_empty() { "" } else { "&" };
                let (name, value) = (escaped(name), escaped(text));
                example.query = format!("{}{separator}{name}={value}", example.query);
            }
            Part::Header(name) => {
                let value = Bytes::copy_from_slice(text.as_bytes());
                if http::HeaderName::from_bytes(name.as_bytes()).is_ok()
                    && http::HeaderValue::from_bytes(&value).is_ok()
                {
                    example.headers.push(Header { name: name.clone(), value });
                }
            }
            Part::Body if example.body.is_empty() => {
                example.body = Bytes::copy_from_slice(text.as_bytes());
            }
            _ => {}
        }
    }
}

/// The text that a value must be.
fn literal(test: &Test) -> Option<&str> {
    match test {
        Test::Equals { value, .. } => Some(value),
        Test::EqualsJson { expected, .. } => Some(expected),
        _ => None,
    }
}

fn escaped(text: &str) -> impl std::fmt::Display + '_ {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}
