//! Rules as text: `(location IS "/pay"): latency=2s@50, status=500|503, percent=20, sticky`.
//!
//! A filter may stand first, in parentheses or as `*`, with a colon behind it. Effects and settings follow, with commas or semicolons
//! between them; a value in double quotes may hold anything. `@` and a percentage behind an effect say how often it comes.

use super::{
    effect::{self, Wrong},
    roll::Share,
    rule::Rule,
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    transform::PairFilter,
};

/// The longest rule.
const MAX_LENGTH: usize = 16 * 1024;

/// Reads a rule; `None` when something is wrong with it.
pub(super) fn rule(
    text: &str,
    id: String,
    path: &str,
    found: &mut Vec<Diagnostic>,
) -> Option<Rule> {
    if text.len() > MAX_LENGTH {
        found.push(Diagnostic::error("too_large", path, "a rule has 16 KiB at the most"));
        return None;
    }
    let mut rule = Rule::new(id);
    let text = text.trim();
    let (filter, effects) = match scope_end(text) {
        Some(end) => text.split_at_checked(end).unwrap_or((text, "")),
        None if text.starts_with(['(', '*']) => {
            let message = "a colon and the effects are missing behind the filter";
            found.push(Diagnostic::error("bad_rule", path, message).hint(EXAMPLE));
            return None;
        }
        None => ("", text),
    };
    let mut sound = true;
    let filter = filter.trim();
    if !matches!(filter, "" | "*" | "()") {
        let (read, wrong) = PairFilter::parse_query(filter);
        found.extend(wrong.into_vec().into_iter().map(|d| Diagnostic { path: path.into(), ..d }));
        sound = read.is_some();
        rule.filters = read.map(PairFilter::into_filters);
    }
    sound &= effects_of(&mut rule, effects.strip_prefix(':').unwrap_or(effects), path, found);
    sound.then_some(rule)
}

const EXAMPLE: &str = "write (location IS \"/pay\"): status=503, percent=10";

/// Reads a fault in the form `PATTERN:name=value`: a regular expression of the path, or of host and path, and what follows.
pub(super) fn fault(
    text: &str,
    id: String,
    path: &str,
    found: &mut Vec<Diagnostic>,
) -> Option<Rule> {
    let mut rule = Rule::new(id);
    // A pattern may have colons of its own: the first one that an effect stands behind ends it.
    let end = text.len() < MAX_LENGTH;
    let end = text.char_indices().filter(|_| end).find(|(at, c)| {
        let name = text.get(at + 1..).unwrap_or_default();
        let name = name.split(['=', ',', ';', '@']).next().unwrap_or_default().trim();
        *c == ':' && (effect::is_name(name) || effect::plain(name) == "rate")
    });
    let Some((pattern, effects)) = end.and_then(|(at, _)| text.split_at_checked(at)) else {
        let message = "a fault is a pattern, a colon and an effect";
        let hint = "write /pay:status=503, or /v1/.*:latency=2s,rate=1/3";
        found.push(Diagnostic::error("bad_rule", path, message).hint(hint));
        return None;
    };
    let mut wrong = Diagnostics::default();
    let mut sound = pattern.trim().is_empty() || rule.pattern(pattern.trim(), path, &mut wrong);
    found.extend(wrong.into_vec());
    sound &= effects_of(&mut rule, effects.strip_prefix(':').unwrap_or(effects), path, found);
    sound.then_some(rule)
}

/// Reads effects and settings into a rule; tells whether all of them are sound.
pub(super) fn effects_of(
    rule: &mut Rule,
    text: &str,
    path: &str,
    found: &mut Vec<Diagnostic>,
) -> bool {
    let mut sound = true;
    for item in items(text) {
        let read = item.and_then(|item| rule.set(&item.name, &item.value, item.toxicity));
        if let Err(wrong) = read {
            sound = false;
            found.push(Diagnostic::error(wrong.code, path, wrong.message).hint(wrong.hint));
        }
    }
    sound
}

/// Where the filter ends: at the first colon outside of quotes, parentheses and brackets, when the text begins like a filter.
fn scope_end(text: &str) -> Option<usize> {
    if !text.starts_with(['(', '*', ':']) {
        return None;
    }
    let mut outside = Outside::default();
    text.char_indices().find(|(_, c)| outside.take(*c) && *c == ':').map(|(at, _)| at)
}

/// Follows quotes, parentheses and brackets.
#[derive(Default)]
struct Outside {
    quote: Option<char>,
    escaped: bool,
    depth: usize,
}

impl Outside {
    /// Takes a character; tells whether it stands outside.
    fn take(&mut self, c: char) -> bool {
        if self.quote.is_some() {
            if std::mem::take(&mut self.escaped) {
                return false;
            }
            self.escaped = c == '\\';
            if Some(c) == self.quote {
                self.quote = None;
            }
            return false;
        }
        match c {
            '"' | '\'' => self.quote = Some(c),
            '(' | '[' => self.depth += 1,
            ')' | ']' => self.depth = self.depth.saturating_sub(1),
            _ => return self.depth == 0,
        }
        false
    }
}

/// An effect or a setting.
#[derive(Debug, PartialEq)]
struct Item {
    name: String,
    value: String,
    toxicity: Option<Share>,
}

/// The effects and settings of a text.
fn items(text: &str) -> impl Iterator<Item = Result<Item, Wrong>> {
    split(text).into_iter().filter(|part| !part.trim().is_empty()).map(|part| item(part.trim()))
}

/// Cuts at commas and semicolons outside of double quotes.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut from, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' | ';' if !quoted => {
                parts.push(text.get(from..at).unwrap_or_default());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(from..).unwrap_or_default());
    parts
}

fn item(text: &str) -> Result<Item, Wrong> {
    // `header Name: value` is written without an equals sign, too.
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_')));
    let (name, rest) = text.split_at_checked(end.unwrap_or(text.len())).unwrap_or((text, ""));
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim();
    let (value, dose) = match rest.strip_prefix('"') {
        Some(quoted) => unquoted(quoted)?,
        None => match rest.rsplit_once('@') {
            Some((value, dose)) if Share::parse(dose).is_some() => {
                (value.trim_end().to_owned(), Some(dose))
            }
            _ => (rest.to_owned(), None),
        },
    };
    let toxicity = match dose {
        Some(dose) => Some(Share::parse(dose).ok_or_else(|| {
            Wrong::value(format!("`{dose}` behind `{name}` is no percentage"), "write @50")
        })?),
        None => None,
    };
    Ok(Item { name: name.to_owned(), value, toxicity })
}

/// The inside of a quoted text, and the toxicity behind it.
fn unquoted(text: &str) -> Result<(String, Option<&str>), Wrong> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '"' => {
                let rest = text.get(at + 1..).unwrap_or_default().trim();
                return match rest.strip_prefix('@') {
                    Some(dose) => Ok((value, Some(dose))),
                    None if rest.is_empty() => Ok((value, None)),
                    None => Err(Wrong::value(format!("`{rest}` stands behind a quoted text"), "")),
                };
            }
            c => value.push(c),
        }
    }
    Err(Wrong::value("a quoted text has no end", ""))
}

#[cfg(test)]
mod tests;
