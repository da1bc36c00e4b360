//! Another issuer: tokens, discovery documents and introspection answers name it instead of the recorded one, all of them or none.

use serde_json::Value;

use super::{Discovery, signer::same_issuer};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    json,
    jwt::TokenSlot,
};

const PATH: &str = "responder.issuer";

/// What a test config says of issuers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Setting {
    /// They stay.
    #[default]
    Recorded,
    /// The only one that was recorded becomes this one.
    Only(String),
    /// Each of these becomes the one beside it.
    Each(Vec<(String, String)>),
}

/// Recorded issuers and what they are called instead.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Issuers(Vec<(String, String)>);

impl Setting {
    /// Reads `responder.issuer`: a URL, or an object of recorded issuers and the URLs that they become.
    pub(super) fn parse(value: Option<&Value>, found: &mut Vec<Diagnostic>) -> Self {
        let mut wrong = |path: String, message: &str| {
            let hint = "write a URL such as http://localhost:4140";
            found.push(Diagnostic::error("invalid_value", path, message).hint(hint));
        };
        match value {
            None | Some(Value::Null) => Self::Recorded,
            Some(Value::String(url)) if origin(url).is_some() => Self::Only(url.clone()),
            Some(Value::Object(members)) => {
                let mut each = Vec::new();
                for (recorded, url) in members {
                    match url.as_str().filter(|url| origin(url).is_some()) {
                        Some(url) => each.push((recorded.clone(), url.to_owned())),
                        None => wrong(format!("{PATH}.{recorded}"), "the issuer is no URL"),
                    }
                }
                Self::Each(each)
            }
            Some(_) => {
                wrong(PATH.to_owned(), "`issuer` is a URL, or an object of recorded issuers");
                Self::Recorded
            }
        }
    }

    /// Whether any issuer is to be another one.
    pub(crate) fn is_any(&self) -> bool {
        *self != Self::Recorded
    }
}

impl Issuers {
    /// Which recorded issuers become which.
    pub(super) fn settle(
        setting: &Setting,
        discoveries: &[Discovery],
        slots: &[TokenSlot],
        found: &mut Diagnostics,
    ) -> Self {
        let pairs = match setting {
            Setting::Recorded => return Self::default(),
            Setting::Each(each) => each.clone(),
            Setting::Only(url) => match only(discoveries, slots) {
                Ok(recorded) => vec![(recorded, url.clone())],
                Err(recorded) => {
                    let message = if recorded.is_empty() {
                        "no issuer was recorded; none is replaced".to_owned()
                    } else {
                        format!(
                            "several issuers were recorded, none is replaced: {}",
                            recorded.join(", ")
                        )
                    };
                    found.push(
                        Diagnostic::warning("issuer_not_known", PATH, message)
                            .hint("write an object of recorded issuers and what they become"),
                    );
                    return Self::default();
                }
            },
        };
        let named = pairs.into_iter().map(|(recorded, url)| {
            let new = on(&url, &recorded);
            if path(&new).trim_end_matches('/') != path(&recorded).trim_end_matches('/') {
                let message = format!(
                    "{new} has another path than {recorded}; what was recorded is not found below it"
                );
                found.push(
                    Diagnostic::warning("issuer_path", PATH, message)
                        .hint("leave the path out; the recorded one is kept then"),
                );
            }
            (recorded, new)
        });
        Self(named.collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What an issuer is called instead; `None` when it stays.
    pub(crate) fn of(&self, recorded: &str) -> Option<&str> {
        let known = self.0.iter().find(|(known, _)| same_issuer(known, recorded));
        known.map(|(_, new)| new.as_str())
    }

    /// A document of an issuer with its own name and its URLs replaced; `None` when nothing in it is.
    pub(super) fn rewrite(&self, document: &[u8], recorded: &str) -> Option<Vec<u8>> {
        let new = self.of(recorded)?;
        let (old_origin, new_origin) = (origin(recorded)?, origin(new)?);
        let bare = |url: &str| url.trim_end_matches('/').to_owned();
        let mut edits = Vec::new();
        for (from, to) in [(bare(recorded), bare(new)), (old_origin.into(), new_origin.into())] {
            for escaped in [false, true] {
                let written = |url: &str| {
                    if escaped { url.replace('/', "\\/") } else { url.to_owned() }
                };
                let (from, to) = (format!("\"{}", written(&from)), written(&to));
                find(document, from.as_bytes(), |span| {
                    let span = span.start + 1..span.end;
                    let taken =
                        |edit: &(std::ops::Range<usize>, Vec<u8>)| edit.0.start == span.start;
                    // Part of a longer name is another name.
                    let ends =
                        matches!(document.get(span.end), Some(b'"' | b'/' | b'\\' | b'?' | b'#'));
                    if ends && !edits.iter().any(taken) {
                        edits.push((span, to.clone().into_bytes()));
                    }
                });
            }
        }
        edits.sort_by_key(|edit| edit.0.start);
        (!edits.is_empty()).then(|| json::replace(document, &edits))
    }
}

fn find(document: &[u8], text: &[u8], mut on: impl FnMut(std::ops::Range<usize>)) {
    for (at, window) in document.windows(text.len()).enumerate() {
        if window == text {
            on(at..at + text.len());
        }
    }
}

/// The issuer that was recorded, if there is one; else all of them.
fn only(discoveries: &[Discovery], slots: &[TokenSlot]) -> Result<String, Vec<String>> {
    let mut known: Vec<String> = Vec::new();
    let mut add = |issuer: String| {
        if !known.iter().any(|known| same_issuer(known, &issuer)) {
            known.push(issuer);
        }
    };
    discoveries.iter().for_each(|discovery| add(discovery.issuer.clone()));
    if discoveries.is_empty() {
        slots.iter().filter_map(TokenSlot::recorded_issuer).for_each(add);
    }
    match known.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(known),
    }
}

/// Scheme and authority of a URL.
fn origin(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let web =
        ["http", "https"].contains(&scheme) && end > 0 && !url.contains(['?', '#', '"', '\\']);
    web.then(|| url.get(..scheme.len() + 3 + end)).flatten()
}

fn path(url: &str) -> &str {
    origin(url).and_then(|origin| url.strip_prefix(origin)).unwrap_or_default()
}

/// A URL with the path of another one unless it has one itself, and a slash at its end if the other one has.
fn on(url: &str, recorded: &str) -> String {
    let bare = url.trim_end_matches('/');
    match path(bare) {
        "" => format!("{bare}{}", path(recorded)),
        _ if recorded.ends_with('/') => format!("{bare}/"),
        _ => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn urls_of_an_issuer_become_those_of_another() {
        let issuers = Issuers(vec![
            ("https://kc.example/realms/a".into(), "http://localhost:4140/realms/a".into()),
            ("https://t.auth.example/".into(), "http://mock".into()),
        ]);
        let document = r#"{ "issuer" : "https://kc.example/realms/a","jwks_uri":"https://kc.example/realms/a/certs", "other":"https://kc.example/x?y",
            "far":"https://kc.example.org/a", "escaped":"https:\/\/kc.example\/realms\/a\/token", "more": {"t": "https://kc.example"}, "n": 1.50}"#;
        let new = issuers.rewrite(document.as_bytes(), "https://kc.example/realms/a").unwrap();
        assert_eq!(
            String::from_utf8(new).unwrap(),
            r#"{ "issuer" : "http://localhost:4140/realms/a","jwks_uri":"http://localhost:4140/realms/a/certs", "other":"http://localhost:4140/x?y",
            "far":"https://kc.example.org/a", "escaped":"http:\/\/localhost:4140\/realms\/a\/token", "more": {"t": "http://localhost:4140"}, "n": 1.50}"#
        );
        assert_eq!(issuers.of("https://t.auth.example"), Some("http://mock"));
        let slash =
            issuers.rewrite(br#"{"issuer":"https://t.auth.example/"}"#, "https://t.auth.example/");
        assert_eq!(slash.unwrap(), br#"{"issuer":"http://mock/"}"#);
        assert_eq!(issuers.rewrite(b"{}", "https://else"), None);
    }

    #[test]
    fn settings_are_urls() {
        let read = |value: Value| {
            let mut found = Vec::new();
            let setting = Setting::parse(Some(&value), &mut found);
            (setting, found.into_iter().map(|d| d.path).collect::<Vec<_>>())
        };
        assert_eq!(read(json!("http://mock:80")), (Setting::Only("http://mock:80".into()), vec![]));
        let each = Setting::Each(vec![("a".into(), "https://b/c".into())]);
        assert_eq!(read(json!({"a": "https://b/c"})), (each, vec![]));
        for (value, path) in [
            (json!("mock"), PATH),
            (json!("ftp://mock"), PATH),
            (json!("http://mock/?a"), PATH),
            (json!(5), PATH),
            (json!({"a": "b"}), "responder.issuer.a"),
        ] {
            assert_eq!(read(value.clone()).1, [path], "{value}");
        }
        assert_eq!(on("http://mock", "https://a/b/"), "http://mock/b/");
        assert_eq!(on("http://mock/", "https://a/b"), "http://mock/b");
        assert_eq!(on("http://mock/c", "https://a/b/"), "http://mock/c/");
        assert_eq!(on("http://mock/c/", "https://a/b"), "http://mock/c");
    }
}
