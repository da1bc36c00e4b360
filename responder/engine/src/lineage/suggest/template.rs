//! The template as a document: members in the order that people write them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Location, refusal, sites::Site};
use crate::{
    jwt::key::SecretRef,
    lineage::place::{Hop, Part, holds_token},
};

/// A token in text, as a pattern.
const TOKEN: &str = r"e[yw][A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+";
/// The prefixes that `jwt_resign` knows without being told.
const KNOWN_PREFIXES: [&str; 2] = ["Bearer ", "JWTBearer "];

/// A template.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    id: String,
    responder: Vec<ChainDocument>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ChainDocument {
    filters: Filters,
    extractor: Step,
    transforms: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Filters {
    filters: Vec<Filter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Filter {
    include: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<&'static str>,
    #[serde(flatten)]
    criterion: BTreeMap<&'static str, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Step {
    r#type: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    config: BTreeMap<&'static str, String>,
}

impl Document {
    pub(super) fn new(id: &str, responder: Vec<ChainDocument>) -> Self {
        Self { id: id.to_owned(), responder }
    }

    pub(super) fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).unwrap_or_default();
        json.push('\n');
        json
    }
}

impl ChainDocument {
    /// The chain for a site; the error says why there can be none.
    pub(super) fn new(
        site: &Site<'_>,
        secret: &SecretRef,
        match_alg: Option<&str>,
    ) -> Result<Self, String> {
        let (extractor, mut transforms) = extractor(&site.place.part)?;
        let mut resign = BTreeMap::from([("secretPath", format!("${{{{secret:{secret}}}}}"))]);
        if let Some(alg) = match_alg {
            resign.insert("matchAlg", alg.to_owned());
        }
        let mut behind = Vec::new();
        for hop in &site.place.hops {
            match hop {
                Hop::Json(path) if holds_token(path) => {
                    return Err("a name on the way to it is a token itself".to_owned());
                }
                Hop::Json(path) => {
                    transforms.push(Step::new("json_path", [("path", path.clone())]));
                }
                Hop::Base64 { padded: true } => {
                    transforms.push(Step::new("base64", [("pad", "false".to_owned())]));
                }
                Hop::Base64 { padded: false } => transforms.push(Step::new("base64", [])),
                Hop::UrlSafeBase64 => {
                    return Err("the step `base64` knows the standard alphabet only".to_owned());
                }
                Hop::Percent => {
                    transforms.push(Step::new("url_decode", []));
                    behind.push(Step::new("url_encode", []));
                }
                Hop::Prefix(prefix) => {
                    if prefix.contains(',') || prefix.contains("${{") {
                        return Err("the prefix cannot be written down in `prefixes`".to_owned());
                    }
                    if !KNOWN_PREFIXES.contains(&prefix.as_str()) {
                        resign.insert("prefixes", prefix.clone());
                    }
                }
                Hop::Parameter(name) => {
                    let pattern = format!("[?&#]{}=([^&#]*)", regex::escape(name));
                    transforms.push(group(pattern));
                }
                Hop::Text(label) if label.is_empty() => {
                    transforms.push(Step::new("regex", [("pattern", TOKEN.to_owned())]));
                }
                Hop::Text(label) => {
                    transforms.push(group(format!("{}({TOKEN})", regex::escape(label))));
                }
            }
        }
        transforms.push(Step { r#type: "jwt_resign", config: resign });
        transforms.extend(behind);
        Ok(Self { filters: filters(site), extractor, transforms })
    }

    /// Whether the engine runs it.
    pub(super) fn is_sound(&self) -> Result<(), String> {
        let document = Document::new("check", vec![self.clone()]);
        match refusal(&document.to_json()) {
            None => Ok(()),
            Some(why) => Err(format!("{} [{}]", why.message, why.code)),
        }
    }
}

impl Step {
    fn new<const N: usize>(r#type: &'static str, config: [(&'static str, String); N]) -> Self {
        Self { r#type, config: BTreeMap::from(config) }
    }
}

/// A pattern whose first group is the value.
fn group(pattern: String) -> Step {
    Step::new("regex", [("pattern", pattern), ("captureGroup", "1".to_owned())])
}

fn filters(site: &Site<'_>) -> Filters {
    let filter = |operator, name, value: &str| Filter {
        include: true,
        operator,
        criterion: BTreeMap::from([(name, value.to_owned())]),
    };
    let mut filters = vec![filter(None, "detectedCommand", site.method)];
    filters.push(match &site.location {
        Location::Is(path) => filter(None, "detectedLocation", path),
        Location::Matches(pattern) => filter(Some("REGEX"), "detectedLocation", pattern),
    });
    if let Some(host) = site.host {
        filters.push(filter(None, "host", host));
    }
    Filters { filters }
}

/// What reads the part of a response, and the steps that belong to it.
fn extractor(part: &Part) -> Result<(Step, Vec<Step>), String> {
    Ok(match part {
        Part::Body => (Step::new("http_res_body", []), Vec::new()),
        Part::Form(name) => {
            let pattern = format!("(?:^|&){}=([^&]*)", regex::escape(name));
            (Step::new("http_res_body", []), vec![group(pattern)])
        }
        Part::Header { name, nth: 0 } => {
            (Step::new("http_res_header", [("name", name.clone())]), Vec::new())
        }
        Part::Header { name, nth } => {
            let config = [("name", name.clone()), ("index", nth.to_string())];
            (Step::new("http_res_header", config), Vec::new())
        }
        Part::Cookie(name) => (Step::new("http_res_cookie", [("name", name.clone())]), Vec::new()),
        Part::BinaryBody => {
            return Err(
                "the body is binary, and a token of another length would break its form".to_owned()
            );
        }
        Part::Query(_) | Part::Path => {
            return Err("requests are not re-signed".to_owned());
        }
    })
}
