//! Filters: which pairs a chain runs on.
//!
//! A recorded pair is asked about everything that was recorded. A live request does not know some of it (the status of its answer, the
//! direction, the upstream's address), so asking it has a third outcome, *unknown*; [`crate::compile`] resolves it.

use regex::bytes::Regex;

use super::{Node, did_you_mean, join};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    request::{Parts, without_port},
    snapshot::{Direction, RrPair},
    xml::XPath,
};

/// A tree of filters.
#[derive(Debug, Clone)]
pub(crate) enum Filters {
    /// All of them; none at all means every pair.
    All(Vec<Self>),
    /// At least one of them.
    Any(Vec<Self>),
    /// One filter.
    One(Filter),
}

/// One filter.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    include: bool,
    criterion: Criterion,
    test: Test,
}

#[derive(Debug, Clone)]
enum Criterion {
    Anything,
    Location,
    Command,
    Status,
    Host,
    NetworkAddress,
    Direction,
    Header(String),
    RequestXPath { path: XPath, soap: bool },
}

#[derive(Debug, Clone)]
enum Test {
    Equal(String),
    Contains(String),
    Matches(Regex),
}

/// What a filter says of a live request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Yes,
    No,
    Unknown,
}

/// The criteria that are known.
const CRITERIA: [&str; 9] = [
    "detectedLocation",
    "detectedCommand",
    "detectedStatus",
    "host",
    "network_address",
    "direction",
    "header",
    "httpReqXPath",
    "httpReqSoapXPath",
];
/// A regular expression may compile to this size at the most.
const REGEX_LIMIT: usize = 1024 * 1024;

impl Filters {
    /// Reads the `filters` member of a chain; absent means every pair.
    pub(super) fn parse(node: Option<&Node>, path: &str, found: &mut Diagnostics) -> Option<Self> {
        match node {
            None | Some(Node::Null) => Some(Self::All(Vec::new())),
            Some(Node::List(filters)) => Self::parse_list(filters, path, "AND", found),
            Some(node) if node.is_object() => Self::parse_set(node, path, found),
            Some(_) => {
                found.push(Diagnostic::error(
                    "wrong_type",
                    path,
                    "`filters` is an object or a list",
                ));
                None
            }
        }
    }

    /// A set with `filters`, `conditions` or both, or a bare filter object.
    fn parse_set(node: &Node, path: &str, found: &mut Diagnostics) -> Option<Self> {
        let operator = match node.get("operator").and_then(Node::as_str) {
            None | Some("") => "AND",
            Some(text) if text.eq_ignore_ascii_case("and") => "AND",
            Some(text) if text.eq_ignore_ascii_case("or") => "OR",
            Some(_) if node.get("filters").is_none() && node.get("conditions").is_none() => "AND",
            Some(other) => {
                found.push(Diagnostic::error(
                    "unknown_operator",
                    join(path, "operator"),
                    format!("`{other}` is neither AND nor OR"),
                ));
                return None;
            }
        };
        let mut parts = Vec::new();
        for member in ["filters", "conditions"] {
            match node.get(member) {
                None | Some(Node::Null) => {}
                Some(Node::List(list)) => {
                    parts.push(Self::parse_list(list, &join(path, member), operator, found)?);
                }
                Some(inner) if inner.is_object() => {
                    parts.push(Self::parse_set(inner, &join(path, member), found)?);
                }
                Some(_) => {
                    found.push(Diagnostic::error(
                        "wrong_type",
                        join(path, member),
                        format!("`{member}` is a list"),
                    ));
                    return None;
                }
            }
        }
        if node.get("filters").is_none() && node.get("conditions").is_none() {
            return Filter::parse(node, path, found);
        }
        Some(if operator == "OR" { Self::Any(parts) } else { Self::All(parts) })
    }

    fn parse_list(
        list: &[Node],
        path: &str,
        operator: &str,
        found: &mut Diagnostics,
    ) -> Option<Self> {
        let parts: Vec<Option<Self>> = list
            .iter()
            .enumerate()
            .map(|(nth, filter)| Self::parse_set(filter, &format!("{path}[{nth}]"), found))
            .collect();
        let parts: Vec<Self> = parts.into_iter().collect::<Option<_>>()?;
        Some(if operator == "OR" && !parts.is_empty() {
            Self::Any(parts)
        } else {
            Self::All(parts)
        })
    }

    /// Whether a recorded pair passes.
    pub(crate) fn admits(&self, pair: &RrPair, parts: &Parts) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.admits(pair, parts)),
            Self::Any(filters) => filters.iter().any(|filter| filter.admits(pair, parts)),
            Self::One(filter) => filter.recorded(pair, parts) == filter.include,
        }
    }

    /// Whether a live request passes, as far as it can tell.
    pub(crate) fn admits_live(&self, live: &Parts) -> Verdict {
        match self {
            Self::All(parts) => {
                fold(parts.iter().map(|part| part.admits_live(live)), Verdict::No, Verdict::Yes)
            }
            Self::Any(parts) => {
                fold(parts.iter().map(|part| part.admits_live(live)), Verdict::Yes, Verdict::No)
            }
            Self::One(filter) => match filter.live(live) {
                None => Verdict::Unknown,
                Some(passes) if passes == filter.include => Verdict::Yes,
                Some(_) => Verdict::No,
            },
        }
    }
}

/// Three-valued AND (`decisive` = No) and OR (`decisive` = Yes).
fn fold(verdicts: impl Iterator<Item = Verdict>, decisive: Verdict, otherwise: Verdict) -> Verdict {
    let mut result = otherwise;
    for verdict in verdicts {
        if verdict == decisive {
            return decisive;
        }
        if verdict == Verdict::Unknown {
            result = Verdict::Unknown;
        }
    }
    result
}

impl Filter {
    /// Reads a filter object. Several criteria in one object, the legacy form, all have to hold.
    fn parse(node: &Node, path: &str, found: &mut Diagnostics) -> Option<Filters> {
        let Node::Object(members) = node else {
            found.push(Diagnostic::error("wrong_type", path, "a filter is an object"));
            return None;
        };
        let include = match node.get("include") {
            None | Some(Node::Null) => true,
            Some(Node::Bool(include)) => *include,
            Some(Node::Text(text)) if text == "true" || text == "false" => text == "true",
            Some(_) => {
                found.push(Diagnostic::error(
                    "wrong_type",
                    join(path, "include"),
                    "`include` is true or false",
                ));
                return None;
            }
        };
        let operator =
            node.get("operator").and_then(Node::as_str).unwrap_or("EQUAL").to_ascii_uppercase();
        let mut filters = Vec::new();
        for (name, value) in members {
            if ["include", "operator", "id"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
                continue;
            }
            let at = join(path, name);
            let (criterion, value) = Self::criterion(name, value, &at, found)?;
            let test = Test::parse(&operator, &value, &at, &join(path, "operator"), found)?;
            filters.push(Filters::One(Self { include, criterion, test }));
        }
        Some(match filters.len() {
            0 => Filters::One(Self {
                include,
                criterion: Criterion::Anything,
                test: Test::Contains(String::new()),
            }),
            _ => Filters::All(filters),
        })
    }

    fn criterion(
        name: &str,
        value: &Node,
        at: &str,
        found: &mut Diagnostics,
    ) -> Option<(Criterion, String)> {
        let known = CRITERIA.iter().find(|known| {
            known.eq_ignore_ascii_case(name) || known.replace('_', "").eq_ignore_ascii_case(name)
        });
        let criterion = match known.copied() {
            Some("detectedLocation") => Criterion::Location,
            Some("detectedCommand") => Criterion::Command,
            Some("detectedStatus") => Criterion::Status,
            Some("host") => Criterion::Host,
            Some("network_address") => Criterion::NetworkAddress,
            Some("direction") => Criterion::Direction,
            Some(keyed) => {
                let (Some(key), Some(value)) = (
                    value.get("key").and_then(Node::as_str),
                    value.get("value").and_then(Node::to_text),
                ) else {
                    found.push(Diagnostic::error(
                        "wrong_type",
                        at,
                        format!("`{keyed}` is an object with `key` and `value`"),
                    ));
                    return None;
                };
                let criterion = match keyed {
                    "header" => Criterion::Header(key.to_owned()),
                    _ => Self::xpath(key, keyed == "httpReqSoapXPath", &join(at, "key"), found)?,
                };
                return Some((criterion, value));
            }
            None => {
                found.push(
                    Diagnostic::error(
                        "unknown_filter",
                        at,
                        format!("there is no filter criterion `{name}`"),
                    )
                    .hint(did_you_mean(name, &CRITERIA)),
                );
                return None;
            }
        };
        match value.to_text() {
            Some(text) => Some((criterion, text)),
            None => {
                found.push(Diagnostic::error(
                    "wrong_type",
                    at,
                    "the criterion's value is a string",
                ));
                None
            }
        }
    }

    fn xpath(key: &str, soap: bool, at: &str, found: &mut Diagnostics) -> Option<Criterion> {
        match XPath::parse(key) {
            Ok(path) => Some(Criterion::RequestXPath { path, soap }),
            Err(why) => {
                found.push(Diagnostic::error("bad_path", at, format!("`{key}`: {why}")));
                None
            }
        }
    }

    fn recorded(&self, pair: &RrPair, parts: &Parts) -> bool {
        let value = match &self.criterion {
            Criterion::Anything => return true,
            Criterion::Location => or(&pair.location, &parts.path),
            Criterion::Command => or(&pair.command, &parts.method),
            Criterion::Status if pair.status.is_empty() => {
                return self.test.holds(pair.response.status.to_string().as_bytes());
            }
            Criterion::Status => &pair.status,
            Criterion::Host => return self.host(&parts.host),
            Criterion::NetworkAddress => &pair.network_address,
            Criterion::Direction => {
                let direction = match pair.direction {
                    Direction::In => "IN",
                    Direction::Out => "OUT",
                };
                return self.test.holds(direction.as_bytes());
            }
            Criterion::Header(name) => return self.header(parts, name),
            Criterion::RequestXPath { path, soap } => return self.in_xml(parts, path, *soap),
        };
        self.test.holds(value.as_bytes())
    }

    fn live(&self, live: &Parts) -> Option<bool> {
        match &self.criterion {
            Criterion::Anything => Some(true),
            Criterion::Location => Some(self.test.holds(live.path.as_bytes())),
            Criterion::Command => Some(self.test.holds(live.method.as_bytes())),
            Criterion::Header(name) => Some(self.header(live, name)),
            Criterion::RequestXPath { path, soap } => Some(self.in_xml(live, path, *soap)),
            // A mock may be reached under another name than the recorded one, so the host proves nothing when it does not fit.
            Criterion::Host => self.host(&live.host).then_some(true),
            Criterion::Status | Criterion::NetworkAddress | Criterion::Direction => None,
        }
    }

    fn host(&self, host: &str) -> bool {
        self.test.holds(host.as_bytes()) || self.test.holds(without_port(host).as_bytes())
    }

    /// Whether the request's body is XML with a fitting value there.
    fn in_xml(&self, parts: &Parts, path: &XPath, soap: bool) -> bool {
        let found = if soap { path.locate_soap(&parts.body) } else { path.locate(&parts.body) };
        found.is_ok_and(|found| found.is_some_and(|found| self.test.holds(found.text.as_bytes())))
    }

    fn header(&self, parts: &Parts, name: &str) -> bool {
        parts
            .headers
            .iter()
            .any(|header| header.0.eq_ignore_ascii_case(name) && self.test.holds(&header.1))
    }
}

fn or<'a>(first: &'a str, second: &'a str) -> &'a str {
    if first.is_empty() { second } else { first }
}

impl Test {
    fn parse(
        operator: &str,
        value: &str,
        at: &str,
        operator_at: &str,
        found: &mut Diagnostics,
    ) -> Option<Self> {
        match operator {
            "EQUAL" | "EQUALS" | "IS" | "" => Some(Self::Equal(value.to_owned())),
            "CONTAINS" => Some(Self::Contains(value.to_owned())),
            "REGEX" => compile_regex(value, at, found).map(Self::Matches),
            other => {
                found.push(
                    Diagnostic::error(
                        "unknown_operator",
                        operator_at,
                        format!("there is no filter operator `{other}`"),
                    )
                    .hint("known are: EQUAL, CONTAINS, REGEX"),
                );
                None
            }
        }
    }

    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Equal(expected) => expected.as_bytes() == value,
            Self::Contains(part) => {
                part.is_empty() || value.windows(part.len()).any(|window| window == part.as_bytes())
            }
            Self::Matches(regex) => regex.is_match(value),
        }
    }
}

/// Compiles a user's regular expression within bounds.
pub(crate) fn compile_regex(pattern: &str, at: &str, found: &mut Diagnostics) -> Option<Regex> {
    // A bounded repetition can blow up before the size limit is noticed, so the pattern's length is bounded too.
    if pattern.len() > 4096 {
        found.push(Diagnostic::error(
            "regex_too_large",
            at,
            "the regular expression is longer than 4096 bytes",
        ));
        return None;
    }
    match regex::bytes::RegexBuilder::new(pattern).size_limit(REGEX_LIMIT).nest_limit(64).build() {
        Ok(regex) => Some(regex),
        Err(regex::Error::CompiledTooBig(_)) => {
            found.push(
                Diagnostic::error("regex_too_large", at, "the regular expression is too large")
                    .hint("use smaller repetitions"),
            );
            None
        }
        Err(error) => {
            let why = error.to_string();
            let why = why
                .lines()
                .last()
                .unwrap_or("it does not parse")
                .trim_start_matches("error: ")
                .to_owned();
            found.push(Diagnostic::error(
                "bad_regex",
                at,
                format!("`{pattern}` is no regular expression: {why}"),
            ));
            None
        }
    }
}
