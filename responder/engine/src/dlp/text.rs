//! Redacting what is written as fields: queries, forms, cookies, paths. A value is decoded for the rules and encoded again only when it
//! is replaced.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::{config::normal, value::Pass};

/// What stays readable in a value (RFC 3986, section 2.3).
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Which rules hold for named fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fields {
    Query,
    Form,
}

impl Pass<'_> {
    /// The rule for a field, or `None` when nobody looks into it.
    pub(super) fn field_rule(&self, fields: Fields, name: &str) -> Option<Option<usize>> {
        let config = self.config();
        let known = normal(name);
        let named = match fields {
            Fields::Query => config.query.get(&known).copied(),
            // A form is a flat document, so that a path of one step names a field.
            Fields::Form => config.paths.iter().find_map(|(path, rule)| {
                (path.segments.len() == 1 && path.leaf() == name).then_some(*rule)
            }),
        };
        match named.or_else(|| config.keys.get(&known).copied()) {
            Some(rule) => Some(Some(rule)),
            None => (!config.ignore.contains(&known)).then_some(None),
        }
    }

    /// A decoded field.
    pub(super) fn field(&mut self, fields: Fields, name: &str, value: &[u8]) -> Option<Vec<u8>> {
        let rule = self.field_rule(fields, name)?;
        let from = self.enter(name);
        let new = self.value(rule, value);
        self.leave(from);
        new
    }

    /// Fields with `&` between them, urlencoded. `None` when nothing changes.
    pub(super) fn urlencoded(&mut self, fields: Fields, text: &str) -> Option<String> {
        let mut changed = false;
        let parts: Vec<Cow<'_, str>> = text
            .split('&')
            .map(|part| {
                let Some((name, value)) = part.split_once('=') else { return Cow::Borrowed(part) };
                match self.field(fields, &decoded(name), decoded(value).as_bytes()) {
                    Some(new) => {
                        changed = true;
                        Cow::Owned(format!("{name}={}", percent_encode(&new, KEPT)))
                    }
                    None => Cow::Borrowed(part),
                }
            })
            .collect();
        changed.then(|| parts.join("&"))
    }

    /// A path: the segments are looked through for patterns.
    pub(super) fn path(&mut self, path: &str) -> Option<String> {
        let mut changed = false;
        let segments: Vec<Cow<'_, str>> = path
            .split('/')
            .map(|segment| match self.escaped(segment) {
                Some(new) => {
                    changed = true;
                    Cow::Owned(new)
                }
                None => Cow::Borrowed(segment),
            })
            .collect();
        changed.then(|| segments.join("/"))
    }

    /// A reference as in `Location`: path, query and fragment, the authority left alone.
    pub(super) fn reference(&mut self, text: &str) -> Option<String> {
        let (target, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (authority, path) = match path.split_once("://") {
            Some((scheme, rest)) => {
                let host = rest.find('/').unwrap_or(rest.len());
                path.split_at_checked(scheme.len() + 3 + host).unwrap_or((path, ""))
            }
            None => ("", path),
        };
        let new_path = self.path(path);
        let new_query = self.urlencoded(Fields::Query, query);
        let new_fragment = self.urlencoded(Fields::Query, fragment);
        if new_path.is_none() && new_query.is_none() && new_fragment.is_none() {
            return None;
        }
        let mut out = format!("{authority}{}", new_path.as_deref().unwrap_or(path));
        for (sign, old, new) in [('?', query, new_query), ('#', fragment, new_fragment)] {
            if text.contains(sign) {
                out.push(sign);
                out.push_str(new.as_deref().unwrap_or(old));
            }
        }
        Some(out)
    }

    /// `Cookie` (all of its pairs) or `Set-Cookie` (the first pair; the others are attributes).
    pub(super) fn cookies(&mut self, text: &str, only_first: bool) -> Option<String> {
        let mut changed = false;
        let parts: Vec<Cow<'_, str>> = text
            .split(';')
            .enumerate()
            .map(|(nth, part)| {
                let Some((name, value)) = part.split_once('=').filter(|_| nth == 0 || !only_first)
                else {
                    return Cow::Borrowed(part);
                };
                match self.cookie(name.trim(), value) {
                    Some(new) => {
                        changed = true;
                        Cow::Owned(format!("{name}={new}"))
                    }
                    None => Cow::Borrowed(part),
                }
            })
            .collect();
        changed.then(|| parts.join(";"))
    }

    fn cookie(&mut self, name: &str, value: &str) -> Option<String> {
        let known = normal(name);
        let from = self.enter(name);
        let new = match self.config().cookies.get(&known).copied() {
            Some(rule) => {
                self.value(Some(rule), value.as_bytes()).and_then(|new| String::from_utf8(new).ok())
            }
            None if self.config().ignore.contains(&known) => None,
            None => self.escaped(value),
        };
        self.leave(from);
        new
    }

    /// A percent-encoded text that no rule names.
    fn escaped(&mut self, text: &str) -> Option<String> {
        let plain: Cow<'_, [u8]> = percent_decode_str(text).into();
        let new = self.value(None, &plain)?;
        Some(percent_encode(&new, KEPT).to_string())
    }
}

fn decoded(text: &str) -> String {
    let spaced =
        if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}
