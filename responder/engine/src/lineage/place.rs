//! Where in a message a token stands, and what leads to it.

use std::{borrow::Cow, fmt};

/// The message of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Message {
    /// The request.
    Request,
    /// The response.
    Response,
}

/// Where in a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) message: Message,
    pub(super) part: Part,
    /// What leads from the part to the token, outermost first.
    pub(super) hops: Vec<Hop>,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// The nth field of this name.
    Header {
        name: String,
        nth: usize,
    },
    /// `Cookie` or `Set-Cookie`.
    Cookie(String),
    Query(String),
    Path,
    /// A field of an urlencoded form.
    Form(String),
    Body,
    /// A body of another form than text, in which lengths are written down.
    BinaryBody,
}

/// One step from an outer value to an inner one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Hop {
    /// A path into JSON.
    Json(String),
    /// With `=` at the end where the length asks for it, or without.
    Base64 {
        padded: bool,
    },
    UrlSafeBase64,
    Percent,
    /// What stands before the token, for example `Bearer `.
    Prefix(String),
    /// A parameter of a link, in its query or fragment.
    Parameter(String),
    /// Text, with what stands just before the token in it.
    Text(String),
}

impl Place {
    /// Whether it is in a response, where tokens are issued.
    pub(super) fn is_response(&self) -> bool {
        self.message == Message::Response
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Part::Header { name, nth: 0 } => write!(f, "header {}", shown(name))?,
            Part::Header { name, nth } => write!(f, "header {} #{}", shown(name), nth + 1)?,
            Part::Cookie(name) => write!(f, "cookie {}", shown(name))?,
            Part::Query(name) => write!(f, "query {}", shown(name))?,
            Part::Path => f.write_str("path")?,
            Part::Form(name) => write!(f, "form {}", shown(name))?,
            Part::Body => f.write_str("body")?,
            Part::BinaryBody => f.write_str("binary body")?,
        }
        for (nth, hop) in self.hops.iter().enumerate() {
            match hop {
                Hop::Json(path) if nth == 0 => write!(f, " {}", shown(path))?,
                Hop::Json(path) => write!(f, " → json {}", shown(path))?,
                Hop::Base64 { .. } => f.write_str(" → base64")?,
                Hop::UrlSafeBase64 => f.write_str(" → base64url")?,
                Hop::Percent => f.write_str(" → percent-encoded")?,
                Hop::Prefix(prefix) => write!(f, " {}", shown(prefix.trim_end()))?,
                Hop::Parameter(name) => write!(f, " → parameter {}", shown(name))?,
                Hop::Text(label) if label.is_empty() => f.write_str(" → text")?,
                Hop::Text(label) => write!(f, " → text after {}", shown(label))?,
            }
        }
        Ok(())
    }
}

/// Whether a name has a token in it, as in an object whose members are named by tokens.
pub(super) fn holds_token(name: &str) -> bool {
    ["eyJ", "eyA", "ewo", "ew0", "ewk"].iter().any(|start| name.contains(start))
        && name.contains('.')
}

/// The longest name that is shown.
const MAX_NAME: usize = 200;

/// A name as it may be shown.
fn shown(name: &str) -> Cow<'_, str> {
    if holds_token(name) || name.len() > MAX_NAME {
        Cow::Owned(format!("({} characters)", name.chars().count()))
    } else {
        Cow::Borrowed(name)
    }
}

/// A step of a path into JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    Name(String),
    Index(usize),
}

/// A path in the notation of `json_path`; with `each`, indexes become `#`.
pub(super) fn json_path(steps: &[Step], each: bool) -> String {
    let steps = steps.iter().map(|step| match step {
        Step::Index(_) if each => "#".to_owned(),
        Step::Index(nth) => nth.to_string(),
        Step::Name(name) => {
            let mut escaped = String::with_capacity(name.len());
            for c in name.chars() {
                if matches!(c, '.' | '\\' | '|' | '@' | '*' | '?' | '(' | '#') {
                    escaped.push('\\');
                }
                escaped.push(c);
            }
            escaped
        }
    });
    steps.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Path, Segment};

    #[test]
    fn paths_mean_what_was_walked() {
        let name = |text: &str| Step::Name(text.into());
        let steps = [name("a.b"), Step::Index(2), name("#"), name("@x|y")];
        assert_eq!(json_path(&steps, false), r"a\.b.2.\#.\@x\|y");
        assert_eq!(json_path(&steps, true), r"a\.b.#.\#.\@x\|y");
        let names = ["a.b", "2", "#", "@x|y"].map(|text| Segment::Name(text.into()));
        assert_eq!(Path::parse(&json_path(&steps, false)).unwrap().segments, names);
    }

    #[test]
    fn places_read_as_people_say_them() {
        let place = |part, hops| Place { message: Message::Response, part, hops }.to_string();
        assert_eq!(place(Part::Body, vec![Hop::Json("a.b".into())]), "body a.b");
        assert_eq!(
            place(
                Part::Header { name: "authorization".into(), nth: 1 },
                vec![Hop::Prefix("Bearer ".into())]
            ),
            "header authorization #2 Bearer"
        );
        assert_eq!(
            place(
                Part::Cookie("s".into()),
                vec![Hop::Base64 { padded: true }, Hop::Json("t".into())]
            ),
            "cookie s → base64 → json t"
        );
    }
}
