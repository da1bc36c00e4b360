//! The recorded and the re-signed token side by side, and what was checked.

use serde_json::{Value, json};

use super::{
    key::DemoKey,
    token::{Token, is_time},
};
use crate::output::{Output, Style};

/// Longer values are cut, so that both tokens fit beside each other.
const WIDTH: usize = 38;

/// Something that has to hold.
#[derive(Debug)]
pub(super) struct Check {
    /// What.
    pub(super) what: &'static str,
    /// Whether it does.
    pub(super) holds: bool,
}

/// Writes both tokens.
pub(super) fn side_by_side(
    recorded: &Token,
    served: &Token,
    key: &DemoKey,
    now: i64,
    out: &Output,
) {
    out.text("");
    row("", "recorded", "re-signed", Style::Strong, Style::Strong, out);
    let (left, right) = (recorded.text(), served.text());
    row("token", &middle(left), &middle(right), Style::Faint, Style::Faint, out);
    let headers = [recorded, served].map(|token| token.header().to_owned());
    for name in ["alg", "kid"] {
        let [left, right] = headers.each_ref().map(|header| member(header, name));
        row(name, &left, &right, Style::Faint, differing(&left, &right), out);
    }
    for (name, value) in served.claims() {
        let left = recorded.claim(name).map(|value| text(name, value)).unwrap_or_default();
        let right = text(name, value);
        row(name, &left, &right, Style::Faint, differing(&left, &right), out);
    }
    let judged = |expired| if expired { Style::Bad } else { Style::Good };
    row(
        "life",
        &recorded.life(now),
        &served.life(now),
        judged(recorded.is_expired(now)),
        judged(served.is_expired(now)),
        out,
    );
    let [left, right] = [recorded, served].map(|token| key.verifies(token));
    let signature =
        |ours| if ours { "verifies with the new key" } else { "not made by the new key" };
    row("signature", signature(left), signature(right), judged(!left), judged(!right), out);
}

/// Writes what was checked.
pub(super) fn checks(checks: &[Check], out: &Output) {
    out.text("");
    for check in checks {
        let (mark, style) = if check.holds { ("ok  ", Style::Good) } else { ("FAIL", Style::Bad) };
        out.text(&format!("  {}  {}", out.paint(style, mark), check.what));
    }
}

/// The same for programs, without the tokens.
pub(super) fn json(recorded: &Token, served: &Token, checks: &[Check]) -> Value {
    let claims = |token: &Token| -> Value {
        token.claims().iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let checks: Vec<_> =
        checks.iter().map(|check| json!({ "check": check.what, "holds": check.holds })).collect();
    json!({ "recorded": claims(recorded), "resigned": claims(served), "checks": checks })
}

fn row(name: &str, left: &str, right: &str, left_style: Style, right_style: Style, out: &Output) {
    // Colours are put on after padding, which would count them.
    let left = format!("{:<WIDTH$}", cut(left));
    let name = format!("{name:<9}");
    out.text(
        format!(
            "  {name}  {}  {}",
            out.paint(left_style, &left),
            out.paint(right_style, &cut(right))
        )
        .trim_end(),
    );
}

fn differing(left: &str, right: &str) -> Style {
    if left == right { Style::Faint } else { Style::Good }
}

fn text(name: &str, value: &Value) -> String {
    match (value, value.as_i64()) {
        (_, Some(seconds)) if is_time(name) => {
            jiff::Timestamp::new(seconds, 0).map_or_else(|_| value.to_string(), |at| at.to_string())
        }
        (Value::String(text), _) => text.clone(),
        _ => value.to_string(),
    }
}

fn member(header: &str, name: &str) -> String {
    let header: Value = serde_json::from_str(header).unwrap_or_default();
    header.get(name).map(|value| text(name, value)).unwrap_or_default()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    let head: String = text.chars().take(WIDTH - 1).collect();
    format!("{head}…")
}

/// The beginning and the end of a token: the beginning is the header, the end tells signatures apart.
fn middle(token: &str) -> String {
    let count = token.chars().count();
    let head: String = token.chars().take(20).collect();
    let tail: String = token.chars().skip(count.saturating_sub(12)).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_people_read_them() {
        assert_eq!(text("iat", &json!(1_709_629_200)), "2024-03-05T09:00:00Z");
        assert_eq!(text("level", &json!(3)), "3");
        assert_eq!(text("sub", &json!("alice")), "alice");
        assert_eq!(cut(&"ä".repeat(60)).chars().count(), WIDTH);
        assert_eq!(
            middle(&format!("{}{}", "h".repeat(50), "tail-of-token")),
            format!("{}…{}", "h".repeat(20), "ail-of-token")
        );
    }
}
