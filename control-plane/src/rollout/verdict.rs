//! Whether what was started last is served, in a word and in a sentence.

use super::{Announced, Node, Stage, Standing, listed};

/// How a started replay stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is served by all who have to.
    pub ready: bool,
    /// Why, as one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
    /// Some of the responders that are waited for.
    pub waiting_for: Vec<String>,
}

/// So many responders that are waited for are told.
const TOLD: usize = 20;

impl Announced {
    /// Judges by the connected responders, as they stand to what was started last.
    #[must_use]
    pub fn verdict(&self, nodes: &[Node]) -> Verdict {
        let Some(rollout) = &self.rollout else { return self.served(nodes) };
        let meanwhile = if self.active.is_some() { "; the version before goes on" } else { "" };
        let waiting = |message: String, waiting_for: Vec<&str>| {
            not_yet("Preparing", format!("{message}{meanwhile}"), waiting_for)
        };
        match &rollout.stage {
            Stage::Failed(failure) => {
                not_yet(&failure.reason, format!("{}{meanwhile}", failure.message), Vec::new())
            }
            _ if nodes.is_empty() => {
                let message = format!("no responder is connected that could prepare it{meanwhile}");
                not_yet("NoResponders", message, Vec::new())
            }
            Stage::Canary(canary) => waiting(format!("{canary} prepares it first"), vec![canary]),
            Stage::Everybody => {
                let prepared = nodes.iter().filter(|node| node.is_prepared()).count();
                let missing = nodes.iter().filter(|node| !node.is_prepared());
                let missing: Vec<&str> = missing.map(|node| node.name.as_str()).collect();
                let whom = match missing.as_slice() {
                    [] => String::new(),
                    missing => format!("; waiting for {}", listed(missing)),
                };
                let count = nodes.len();
                waiting(format!("{prepared} of {count} responders have prepared it{whom}"), missing)
            }
        }
    }

    fn served(&self, nodes: &[Node]) -> Verdict {
        if nodes.is_empty() {
            let message = "no responder is connected that wants this replay".to_owned();
            return not_yet("NoResponders", message, Vec::new());
        }
        let serves = |node: &&Node| node.standing == Standing::Active;
        let left_out = |node: &&Node| !serves(node) && self.excluded.contains(&node.name);
        let active = nodes.iter().filter(serves).count();
        let expected = nodes.iter().filter(|node| !left_out(node)).count();
        let refusals: Vec<String> = nodes
            .iter()
            .filter(|node| !left_out(node))
            .filter_map(|node| match &node.standing {
                Standing::Rejected(why) => Some(format!("{}: {why}", node.name)),
                _ => None,
            })
            .collect();
        let mut message = format!("{active} of {} responders serve it", nodes.len());
        let without: Vec<&str> =
            nodes.iter().filter(left_out).map(|node| node.name.as_str()).collect();
        if !without.is_empty() {
            message.push_str(&format!("; it went on without {}", listed(&without)));
        }
        if active > 0 && active >= self.policy.needed(expected) {
            let reason = "Serving".to_owned();
            return Verdict { ready: true, reason, message, waiting_for: Vec::new() };
        }
        if !refusals.is_empty() {
            return not_yet(super::REJECTED, listed(&refusals), Vec::new());
        }
        let missing = nodes.iter().filter(|node| !serves(node) && !left_out(node));
        not_yet("Fetching", message, missing.map(|node| node.name.as_str()).collect())
    }
}

fn not_yet(reason: &str, message: String, waiting_for: Vec<&str>) -> Verdict {
    let waiting_for = waiting_for.into_iter().take(TOLD).map(str::to_owned).collect();
    Verdict { ready: false, reason: reason.to_owned(), message, waiting_for }
}
