//! What a filter asks, and the answer of a recorded pair or of a live request.
//!
//! The answer `None` means that the one who is asked cannot know: a live request its session, any pair the snapshot that it is from.

use std::borrow::Cow;

use super::{
    Part, Sample, Subject, Wrong,
    names::{Place, Plain},
    subject::Recorded,
    test::{Operator, Test},
    value::{self, TimeRange},
};
use crate::{
    body::{self, BodyKey},
    json,
    request::{Parts, joined, without_port},
    snapshot::Direction,
    xml::XPath,
};

/// What recordings write when they do not know a service, cluster or namespace.
const UNDEFINED: &str = "undefined";
/// What the vendor's names of sources begin with.
const SOURCE_PREFIX: &str = "rrpair_source_";

/// What a filter asks.
#[derive(Debug, Clone)]
pub(super) enum Criterion {
    Plain(Plain, Test),
    Keyed { place: Place, key: String, lead: Lead, test: Test },
    Time(TimeRange),
    Sample(Sample),
}

/// Where a key leads.
#[derive(Debug, Clone)]
pub(super) enum Lead {
    Name,
    Json(json::Path),
    Xml(Box<XPath>),
}

impl Criterion {
    pub(super) fn plain(of: Plain, operator: Operator, value: &str) -> Result<Self, Wrong> {
        let exact = operator == Operator::Equal;
        let value: Cow<'_, str> = match of {
            Plain::Direction if exact => match value.to_ascii_uppercase().as_str() {
                // Enumerations may be written as their numbers.
                "IN" | "1" => "IN".into(),
                "OUT" | "2" => "OUT".into(),
                _ => {
                    return Err(Wrong::new(
                        "bad_filter_value",
                        Part::Value,
                        format!("there is no direction `{value}`"),
                    )
                    .hint("the directions are IN and OUT"));
                }
            },
            Plain::Protocol if operator != Operator::Matches => value.to_ascii_lowercase().into(),
            Plain::Source if operator != Operator::Matches => {
                let lower = value.to_ascii_lowercase();
                lower.strip_prefix(SOURCE_PREFIX).map(str::to_owned).unwrap_or(lower).into()
            }
            Plain::Uuid if exact => value::uuid(value)?.into(),
            Plain::BodyHash if exact => value::hash(value)?.into(),
            Plain::BodyHash => {
                return Err(Wrong::new(
                    "operator_not_applicable",
                    Part::Operator,
                    "a hash can only be equal",
                ));
            }
            _ => value.into(),
        };
        Test::new(operator, &value).map(|test| Self::Plain(of, test))
    }

    /// A criterion with a key. Without a value it asks whether there is anything in that place.
    pub(super) fn keyed(
        place: Place,
        key: &str,
        operator: Operator,
        value: Option<&str>,
    ) -> Result<Self, Wrong> {
        if key.is_empty() {
            return Err(Wrong::new("missing_field", Part::Key, "the key is empty"));
        }
        let bad = |why: &dyn std::fmt::Display| {
            Wrong::new("bad_path", Part::Key, format!("`{key}`: {why}"))
        };
        let lead = match place {
            Place::Tag | Place::Header => Lead::Name,
            Place::Json => Lead::Json(json::Path::parse(key).map_err(|why| bad(&why))?),
            Place::XPath | Place::SoapXPath => {
                Lead::Xml(Box::new(XPath::parse(key).map_err(|why| bad(&why))?))
            }
            Place::Xml => {
                Lead::Xml(Box::new(XPath::parse(&elements(key)).map_err(|why| bad(&why))?))
            }
        };
        let test = match value {
            Some(value) => Test::new(operator, value)?,
            None => Test::present(),
        };
        Ok(Self::Keyed { place, key: key.to_owned(), lead, test })
    }

    /// Whether it holds, as far as the one who is asked can know.
    pub(super) fn holds(&self, subject: &Subject<'_>) -> Option<bool> {
        match self {
            Self::Plain(of, test) => match subject {
                Subject::Recorded(recorded) => of_recorded(*of, test, recorded),
                Subject::Live(live) => of_live(*of, test, live),
            },
            Self::Keyed { place: Place::Tag, key, test, .. } => {
                subject.pair().map(|pair| pair.tags.get(key).is_some_and(|value| test.holds(value)))
            }
            Self::Keyed { place, key, lead, test } => {
                let parts = subject.parts();
                Some(match lead {
                    Lead::Name => parts
                        .headers
                        .iter()
                        .any(|header| header.0.eq_ignore_ascii_case(key) && test.holds(&header.1)),
                    Lead::Json(path) => in_json(parts, path, test),
                    Lead::Xml(path) => in_xml(parts, path, *place != Place::XPath, test),
                })
            }
            Self::Time(range) => subject.pair().map(|pair| range.holds(pair.ts)),
            Self::Sample(sample) => subject.pair().map(|pair| sample.holds(pair)),
        }
    }
}

fn of_recorded(of: Plain, test: &Test, recorded: &Recorded<'_>) -> Option<bool> {
    let pair = recorded.pair;
    let or_undefined =
        |value: &str| test.holds(value) || (value.is_empty() && test.holds(UNDEFINED));
    Some(match of {
        Plain::Location if pair.location.is_empty() => test.holds(&recorded.parts().path),
        Plain::Location => test.holds(&pair.location),
        Plain::Command if pair.command.is_empty() => test.holds(&recorded.parts().method),
        Plain::Command => test.holds(&pair.command),
        Plain::Status if pair.status.is_empty() => test.holds(pair.response.status.to_string()),
        Plain::Status => test.holds(&pair.status),
        Plain::Host => host(test, &recorded.parts().host),
        Plain::Url => {
            let parts = recorded.parts();
            let scheme = if pair.l7protocol == "https" { "https" } else { "http" };
            let raw = pair.request.as_ref().map_or("", |request| request.query.as_str());
            url(test, &parts.path, raw)
                || url(test, &parts.path, &joined(&parts.query))
                || url(test, &format!("{scheme}://{}{}", parts.host, parts.path), raw)
        }
        Plain::NetworkAddress => test.holds(&pair.network_address),
        Plain::Direction => test.holds(match pair.direction {
            Direction::In => "IN",
            Direction::Out => "OUT",
        }),
        Plain::Tech => test.holds(&pair.tech),
        Plain::Protocol => test.holds(pair.l7protocol.to_ascii_lowercase()),
        Plain::Service => or_undefined(&pair.service),
        Plain::Cluster => or_undefined(&pair.cluster),
        Plain::Namespace => or_undefined(&pair.namespace),
        Plain::Session => test.holds(&pair.session),
        Plain::Source => {
            let source = pair.tags.get("source").map_or("", String::as_str).to_ascii_lowercase();
            test.holds(source.strip_prefix(SOURCE_PREFIX).unwrap_or(&source))
        }
        Plain::Uuid => {
            pair.uuid.is_some_and(|id| test.holds(uuid::Uuid::from_bytes(id).to_string()))
        }
        Plain::BodyHash => body_hash(test, recorded.parts()),
        Plain::SnapshotId => return None,
    })
}

fn of_live(of: Plain, test: &Test, live: &Parts) -> Option<bool> {
    match of {
        Plain::Location => Some(test.holds(&live.path)),
        Plain::Command => Some(test.holds(&live.method)),
        Plain::BodyHash => Some(body_hash(test, live)),
        // A mock may be reached under another name than the recorded one, so the host proves nothing when it does not fit.
        Plain::Host => host(test, &live.host).then_some(true),
        Plain::Url => {
            let query = joined(&live.query);
            (url(test, &live.path, "") || url(test, &live.path, &query)).then_some(true)
        }
        Plain::Direction
        | Plain::Tech
        | Plain::Protocol
        | Plain::NetworkAddress
        | Plain::Service
        | Plain::Cluster
        | Plain::Namespace
        | Plain::Status
        | Plain::Uuid
        | Plain::SnapshotId
        | Plain::Session
        | Plain::Source => None,
    }
}

fn host(test: &Test, host: &str) -> bool {
    test.holds(host) || test.holds(without_port(host))
}

fn url(test: &Test, path: &str, query: &str) -> bool {
    test.holds(path) || (!query.is_empty() && test.holds(format!("{path}?{query}")))
}

fn body_hash(test: &Test, parts: &Parts) -> bool {
    match &parts.body_hash {
        Some(hash) => test.holds(value::hex(hash)),
        None => !parts.body.is_empty() && test.holds(value::hex(&body::sha256(&parts.body))),
    }
}

/// Whether the body is JSON, or a form read as JSON, with a fitting value there.
fn in_json(parts: &Parts, path: &json::Path, test: &Test) -> bool {
    let holds = |doc: &[u8]| {
        json::locate(doc, path).map(|found| found.iter().any(|at| test.holds(json::text(doc, at))))
    };
    match holds(&parts.body) {
        Ok(holds) => holds,
        Err(_) => match parts.body_key() {
            BodyKey::Json(form) => holds(&form).unwrap_or_default(),
            BodyKey::Hash(_) | BodyKey::None => false,
        },
    }
}

/// Whether the body is XML with a fitting value there; the first node counts.
fn in_xml(parts: &Parts, path: &XPath, any_prefix: bool, test: &Test) -> bool {
    let found = if any_prefix { path.locate_soap(&parts.body) } else { path.locate(&parts.body) };
    found.is_ok_and(|found| found.is_some_and(|found| test.holds(&found.text)))
}

/// The XPath of a key like `query.items.0.-id`: names of elements anywhere in the document, indexes from 0, an attribute after `-` or `@`.
/// A key that begins with `/` is an XPath already.
fn elements(key: &str) -> String {
    if key.starts_with('/') {
        return key.to_owned();
    }
    let mut path = String::from("/");
    for segment in key.split('.') {
        if let Ok(index) = segment.parse::<u16>() {
            path.push_str(&format!("[{}]", u32::from(index) + 1));
            continue;
        }
        path.push('/');
        match segment.strip_prefix('-') {
            Some(attribute) => {
                path.push('@');
                path.push_str(attribute);
            }
            None if segment == "#text" => path.push_str("text()"),
            None => path.push_str(segment),
        }
    }
    path
}
