//! Names that are made: of objects, volumes and replays. They are short enough, the same each time, and differ where what they are made from differs.

use aws_lc_rs::digest::{SHA256, digest};

/// The longest name of a Service, and of a label's value.
const LABEL: usize = 63;
/// How many digits of a hash tell names apart.
const DIGITS: usize = 8;

/// What tells these texts from others: eight hexadecimal digits.
#[must_use]
pub fn hash(parts: &[&str]) -> String {
    let mut bytes = Vec::new();
    for part in parts {
        // The length first, so that no two lists are the same bytes.
        bytes.extend_from_slice(&part.len().to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    let mut text = String::new();
    for byte in digest(&SHA256, &bytes).as_ref().iter().take(DIGITS / 2) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A DNS label `prefix-name`; shortened, with a hash, where the name is too long or no label.
#[must_use]
pub fn label(prefix: &str, name: &str) -> String {
    let room = LABEL.saturating_sub(prefix.len() + 1);
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.len() <= room && !name.is_empty() && name.chars().all(is_label) && !name.ends_with('-')
    {
        return format!("{prefix}-{name}");
    }
    let stem: String = name
        .chars()
        .map(|c| if is_label(c) { c } else { '-' })
        .take(room.saturating_sub(DIGITS + 1))
        .collect();
    format!("{prefix}-{stem}-{}", hash(&[name]))
}

/// What the responders of a replay, and all that belongs to them, are called.
#[must_use]
pub fn responder(replay: &str) -> String {
    label("responder", replay)
}

/// What the secret is called whose keys are made for a replay, in the place of one that a chain names.
#[must_use]
pub fn keys(replay: &str, secret: &str) -> String {
    label(&format!("keys-{}", hash(&[secret])), replay)
}

/// What the job that generates requests is called. A job runs once, so that another start needs another one.
#[must_use]
pub fn generator(replay: &str, start: &str, url: &str) -> String {
    label(&format!("generator-{}", hash(&[start, url])), replay)
}

/// What ids of all of a resource's replays at the control plane begin with.
#[must_use]
pub fn replay_prefix(namespace: &str, name: &str) -> String {
    let cut = |text: &str, length: usize| {
        let text: String = text.chars().take(length).collect();
        text.trim_end_matches(['-', '.']).to_owned()
    };
    // No namespace or name has an underscore.
    format!("{}.{}_{}_", cut(namespace, 20), cut(name, 24), hash(&[namespace, name]))
}

/// The id of a replay at the control plane. What it is made of is fixed there, so that other parts are another replay: it begins beside the one
/// before, and no request is left without an answer.
#[must_use]
pub fn replay_id(namespace: &str, name: &str, parts: &[&str]) -> String {
    format!("{}{}", replay_prefix(namespace, name), hash(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_stay_and_long_ones_differ() {
        assert_eq!(responder("replay-jwt-resign"), "responder-replay-jwt-resign");
        let (one, other) = (format!("{}1", "a".repeat(252)), format!("{}2", "a".repeat(252)));
        for name in [one.as_str(), other.as_str(), "a.b", "0.1.2"] {
            let made = responder(name);
            assert!(
                made.len() <= 63 && !made.contains('.') && made.starts_with("responder-"),
                "{made}"
            );
        }
        assert_ne!(responder(&one), responder(&other));
        assert_ne!(responder("a.b"), responder("a-b"));
        assert_ne!(generator("r", "s", "u"), generator("r", "s", "v"));
        assert!(generator(&one, "s", "u").len() <= 63);
    }

    #[test]
    fn ids_of_replays_are_ids_and_belong_to_one_resource() {
        let (namespace, name) = ("n".repeat(63), format!("{}.x", "r".repeat(250)));
        let id = replay_id(&namespace, &name, &["a", "b"]);
        assert!(id.len() <= 63, "{id}");
        assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "{id}");
        assert!(id.starts_with(&replay_prefix(&namespace, &name)));
        assert!(!replay_id("shop", "a.b", &["x"]).starts_with(&replay_prefix("shop", "a")));
        assert_ne!(replay_id("a", "b", &["x", "y"]), replay_id("a", "b", &["xy", ""]));
        assert_ne!(replay_prefix("a-b", "c"), replay_prefix("a", "b-c"));
    }
}
