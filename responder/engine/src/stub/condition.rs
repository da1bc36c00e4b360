//! Conditions, compiled: everything that can be found wrong with one is found when a snapshot is compiled, and asking costs no parsing.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use regex::Regex;
use serde_json::Value;

use super::{
    json_equal::{Expected, ExpectedError},
    pattern::{self, PatternError, Template},
    view::{Given, View},
};
use crate::{
    json_query::{Query, QueryError},
    request::normal_path,
    snapshot::stub::{Condition, DateOrder, Part, Stub, Test},
};

/// Why a condition cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConditionError {
    /// A regular expression or template.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A JSONPath.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A document to compare with.
    #[error(transparent)]
    Expected(#[from] ExpectedError),
    /// A date.
    #[error("not a date and time with offset in RFC 3339")]
    Date,
    /// A path variable.
    #[error("the path has no variable `{0}`")]
    Variable(String),
}

/// A condition that can be asked.
#[derive(Debug)]
pub(super) struct Compiled {
    /// As its author wrote it.
    pub(super) source: Condition,
    check: Check,
    /// The template that a path variable belongs to.
    template: Option<Arc<Template>>,
}

#[derive(Debug)]
enum Check {
    Equals(String),
    /// In lower case.
    EqualsFolded(String),
    EqualsBytes(Bytes),
    /// A path, or path and query, with escapes resolved in the path.
    EqualsTarget(String),
    Contains(String),
    Matches(Regex),
    Template(Template),
    Absent,
    Json(Box<Expected>),
    JsonPath {
        query: Query,
        found: Option<Box<Self>>,
    },
    Date {
        order: DateOrder,
        at: Timestamp,
    },
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Exactly(Vec<Self>),
}

/// What is wrong with the conditions of a stub, and with which of them. Nothing of what was compiled is kept.
pub(crate) fn check(stub: &Stub) -> Vec<(usize, ConditionError)> {
    let template = template_of(stub);
    let compiled = stub.conditions.iter().map(|c| Compiled::new(c, template.as_ref()));
    compiled.enumerate().filter_map(|(nth, compiled)| Some((nth, compiled.err()?))).collect()
}

/// The template of a stub's path.
pub(super) fn template_of(stub: &Stub) -> Option<Arc<Template>> {
    let template = stub.conditions.iter().find_map(|condition| match &condition.test {
        Test::Template(template) if condition.part == Part::Path => Some(template),
        _ => None,
    })?;
    Template::parse(template).ok().map(Arc::new)
}

/// The path that a condition wants to be literally this, in normal form.
pub(super) fn literal_path(condition: &Condition) -> Option<String> {
    match (&condition.part, &condition.test) {
        (Part::Path, Test::Equals { value, ignore_case: false }) => {
            Some(normal_path(value).into_owned())
        }
        (Part::Url, Test::Equals { value, ignore_case: false }) => {
            let path = value.split_once('?').map_or(value.as_str(), |(path, _)| path);
            Some(normal_path(path).into_owned())
        }
        _ => None,
    }
}

impl Compiled {
    /// Compiles a condition.
    pub(super) fn new(
        source: &Condition,
        template: Option<&Arc<Template>>,
    ) -> Result<Self, ConditionError> {
        let template = match &source.part {
            Part::PathVariable(name) => Some(
                template
                    .filter(|template| template.has(name))
                    .ok_or_else(|| ConditionError::Variable(name.clone()))?,
            ),
            _ => None,
        };
        let check = match (&source.part, &source.test) {
            (Part::Path | Part::Url, Test::Equals { value, ignore_case: false }) => {
                Check::EqualsTarget(normal_target(value))
            }
            // Letter case is no difference between hosts.
            (Part::Host, Test::Equals { value, .. }) => Check::EqualsFolded(value.to_lowercase()),
            (_, test) => Check::new(test)?,
        };
        Ok(Self { source: source.clone(), check, template: template.map(Arc::clone) })
    }

    /// Whether a request fulfils it.
    pub(super) fn holds(&self, view: &View<'_>) -> bool {
        match &self.source.part {
            Part::Body => self.check.of_one(view.body()),
            Part::PathVariable(name) => {
                let template = self.template.as_ref();
                let value = template.and_then(|template| template.variable(view.path(), name));
                self.check.of_one(value.map(Given::text_of).as_ref())
            }
            // WireMock asks a cookie that is not there nothing but whether it is absent.
            part @ Part::Cookie(_) => match view.values(part) {
                none if none.is_empty() => matches!(self.check, Check::Absent),
                cookies => self.check.of_many(&cookies),
            },
            part => self.check.of_many(&view.values(part)),
        }
    }

    /// What a request has in the place that is looked at.
    pub(super) fn presented(&self, view: &View<'_>) -> Option<String> {
        match &self.source.part {
            Part::Body => view.body().map(|body| body.text().into_owned()),
            Part::PathVariable(name) => {
                let template = self.template.as_ref()?;
                template.variable(view.path(), name).map(str::to_owned)
            }
            part => {
                let values = view.values(part);
                let texts: Vec<_> = values.iter().map(|value| value.text().into_owned()).collect();
                (!texts.is_empty()).then(|| texts.join(", "))
            }
        }
    }
}

impl Check {
    fn new(test: &Test) -> Result<Self, ConditionError> {
        let all = |tests: &[Test]| tests.iter().map(Self::new).collect::<Result<Vec<_>, _>>();
        Ok(match test {
            Test::Equals { value, ignore_case: false } => Self::Equals(value.clone()),
            Test::Equals { value, ignore_case: true } => Self::EqualsFolded(value.to_lowercase()),
            Test::EqualsBytes(bytes) => Self::EqualsBytes(bytes.clone()),
            Test::Contains(text) => Self::Contains(text.clone()),
            Test::Matches(pattern) => Self::Matches(pattern::whole(pattern)?),
            Test::Template(template) => Self::Template(Template::parse(template)?),
            Test::Absent => Self::Absent,
            Test::EqualsJson { expected, ignore_array_order, ignore_extra } => {
                Self::Json(Box::new(Expected::parse(expected, *ignore_array_order, *ignore_extra)?))
            }
            Test::MatchesJsonPath { expression, found } => Self::JsonPath {
                query: Query::parse_either(expression)?,
                found: found.as_ref().map(|found| Self::new(found)).transpose()?.map(Box::new),
            },
            Test::Date { order, at } => {
                Self::Date { order: *order, at: at.parse().map_err(|_| ConditionError::Date)? }
            }
            Test::All(tests) => Self::All(all(tests)?),
            Test::Any(tests) => Self::Any(all(tests)?),
            Test::Not(test) => Self::Not(Box::new(Self::new(test)?)),
            Test::Exactly(tests) => Self::Exactly(all(tests)?),
        })
    }

    /// Of several values one has to pass; where there is none, nothing is asked to.
    fn of_many(&self, values: &[Given<'_>]) -> bool {
        match self {
            Self::Exactly(checks) => {
                checks.len() == values.len()
                    && checks.iter().all(|check| values.iter().any(|v| check.of_one(Some(v))))
            }
            check if values.is_empty() => check.of_one(None),
            check => values.iter().any(|value| check.of_one(Some(value))),
        }
    }

    fn of_one(&self, value: Option<&Given<'_>>) -> bool {
        match self {
            Self::Absent => return value.is_none(),
            Self::All(checks) => return checks.iter().all(|check| check.of_one(value)),
            Self::Any(checks) => return checks.iter().any(|check| check.of_one(value)),
            Self::Not(check) => return !check.of_one(value),
            _ => {}
        }
        let Some(value) = value else { return false };
        match self {
            Self::Equals(text) => value.bytes() == text.as_bytes(),
            Self::EqualsFolded(text) => value.text().to_lowercase() == *text,
            Self::EqualsBytes(bytes) => value.bytes() == bytes,
            Self::EqualsTarget(target) => normal_target(&value.text()) == *target,
            Self::Contains(text) => value.text().contains(text.as_str()),
            Self::Matches(pattern) => pattern.is_match(&value.text()),
            Self::Template(template) => template.is_match(&value.text()),
            Self::Json(expected) => value.json().is_some_and(|json| expected.equals(json)),
            Self::JsonPath { query, found } => {
                value.json().is_some_and(|json| finds(query, found.as_deref(), json))
            }
            Self::Date { order, at } => {
                let Ok(presented) = value.text().trim().parse::<Timestamp>() else { return false };
                match order {
                    DateOrder::Before => presented < *at,
                    DateOrder::After => presented > *at,
                    DateOrder::Same => presented == *at,
                }
            }
            Self::Exactly(checks) => {
                matches!(checks.as_slice(), [only] if only.of_one(Some(value)))
            }
            // Answered above.
            Self::Absent | Self::All(_) | Self::Any(_) | Self::Not(_) => false,
        }
    }
}

/// Whether a query finds something in a document, and something that passes. A path of names and indexes finds one value; when this is an
/// array each of its elements is asked. Empty arrays and objects are as good as nothing.
fn finds(query: &Query, check: Option<&Check>, document: &Value) -> bool {
    let values = query.values(document);
    let single = query.is_single();
    let Some(check) = check else {
        return match (values.first(), single) {
            (Some(Value::Array(elements)), true) => !elements.is_empty(),
            (Some(Value::Object(members)), true) => !members.is_empty(),
            (Some(Value::Null), true) | (None, _) => false,
            (Some(_), _) => true,
        };
    };
    let whole = matches!(check, Check::Json(_));
    let values: Vec<Given<'_>> = match (values.first(), single) {
        (Some(only), true) if whole => vec![Given::text_of(only.to_string())],
        (_, false) if whole => {
            vec![Given::text_of(Value::Array(values.into_iter().cloned().collect()).to_string())]
        }
        (Some(Value::Array(elements)), true) => elements.iter().filter_map(as_text).collect(),
        _ => values.into_iter().filter_map(as_text).collect(),
    };
    if values.is_empty() {
        return matches!(check, Check::Absent);
    }
    values.iter().any(|value| check.of_one(Some(value)))
}

/// A found value as text: a string is its content, null is nothing.
fn as_text(value: &Value) -> Option<Given<'_>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Given::text_of(text.as_str())),
        other => Some(Given::text_of(other.to_string())),
    }
}

/// A path, or a path and its query, with the path in normal form.
fn normal_target(target: &str) -> String {
    match target.split_once('?') {
        Some((path, query)) => format!("{}?{query}", normal_path(path)),
        None => normal_path(target).into_owned(),
    }
}

#[cfg(test)]
mod tests;
