//! Near misses, grouped by what they differ in. Only explained misses come here, and those are few; see [`crate::explanations`].

use std::collections::HashMap;

use countersign_engine::near_miss::Difference;

/// So many groups are kept.
pub(super) const MOST: usize = 50;
/// So many differences are kept of a group.
const DIFFERENCES: usize = 12;

/// Misses of an endpoint that differ in the same keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) method: String,
    /// The path template.
    pub(super) path: String,
    /// What differed in the last of them; credentials are marks already.
    pub(super) differing: Vec<Difference>,
    pub(super) count: u64,
    /// When the first came, in nanoseconds since the epoch.
    pub(super) first: i64,
    /// When the last came, in nanoseconds since the epoch.
    pub(super) last: i64,
}

/// What groups are told apart by.
type Key = (String, String, Vec<String>);

/// The groups of a run.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: HashMap<Key, Group>,
    /// Misses whose group did not fit.
    beyond: u64,
}

impl Groups {
    /// Adds a miss that came then, in nanoseconds since the epoch, and what it differs in from what is nearest.
    pub(super) fn add(&mut self, method: &str, template: &str, nearest: &[Difference], at: i64) {
        let differing: Vec<Difference> = nearest.iter().take(DIFFERENCES).cloned().collect();
        let mut keys: Vec<String> = differing.iter().map(|it| it.key.clone()).collect();
        keys.sort_unstable();
        let key = (method.to_owned(), template.to_owned(), keys);
        if let Some(group) = self.groups.get_mut(&key) {
            group.count += 1;
            if at >= group.last {
                group.last = at;
                group.differing = differing;
            }
        } else if self.groups.len() < MOST {
            let (method, path) = (method.to_owned(), template.to_owned());
            let group = Group { method, path, differing, count: 1, first: at, last: at };
            self.groups.insert(key, group);
        } else {
            self.beyond += 1;
        }
    }

    /// The groups, the most frequent first, and how many misses are in none.
    pub(super) fn told(&self) -> (Vec<Group>, u64) {
        let mut all: Vec<Group> = self.groups.values().cloned().collect();
        all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.first.cmp(&b.first)));
        (all, self.beyond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn miss(differing: &[(&str, &str)]) -> Vec<Difference> {
        let difference = |(key, value): &(&str, &str)| Difference {
            key: (*key).to_owned(),
            recorded: Some("recorded".to_owned()),
            presented: Some((*value).to_owned()),
        };
        differing.iter().map(difference).collect()
    }

    #[test]
    fn misses_that_differ_in_the_same_keys_are_one_group() {
        let mut groups = Groups::default();
        groups.add("GET", "/a", &miss(&[("http:url", "/1"), ("q", "x")]), 5);
        groups.add("GET", "/a", &miss(&[("q", "y"), ("http:url", "/2")]), 7);
        groups.add("GET", "/a", &miss(&[("q", "z")]), 6);
        groups.add("POST", "/a", &miss(&[("q", "z")]), 6);
        let (told, beyond) = groups.told();
        assert_eq!((told.len(), beyond), (3, 0));
        assert_eq!((told[0].count, told[0].first, told[0].last), (2, 5, 7));
        assert_eq!(told[0].differing[0].presented.as_deref(), Some("y"));
    }

    #[test]
    fn groups_are_bounded_and_what_is_beyond_is_counted() {
        let mut groups = Groups::default();
        for nth in 0..MOST + 5 {
            groups.add("GET", &format!("/{nth}"), &miss(&[]), 0);
        }
        let (told, beyond) = groups.told();
        assert_eq!((told.len(), beyond), (MOST, 5));
    }
}
