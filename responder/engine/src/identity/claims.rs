//! Which claims tell users apart, found out from the tokens of a recording.
//!
//! A claim is chosen only when it splits the tokens further than those before it: the fewer are compared, the less can come between a token
//! and its user. A claim that changes between two tokens that the same request was answered with tells moments apart, not users.

use std::collections::{HashMap, HashSet};

use jiter::Peek;

use super::credential::{self, Chosen, plain};

/// Claims that name who a token is about, in the order in which they are tried.
const PERSON: [&str; 12] = [
    "sub",
    "uid",
    "user_id",
    "userId",
    "oid",
    "email",
    "preferred_username",
    "username",
    "upn",
    "unique_name",
    "login",
    "name",
];
/// Claims that tell clients, tenants and sessions apart.
const OTHERS: [&str; 11] = [
    "client_id",
    "clientId",
    "azp",
    "appid",
    "cid",
    "tenant",
    "tid",
    "org_id",
    "sid",
    "session_state",
    "iss",
];
/// Claims that are new in each token by their nature.
const VOLATILE: [&str; 13] = [
    "jti",
    "iat",
    "exp",
    "nbf",
    "auth_time",
    "nonce",
    "at_hash",
    "c_hash",
    "s_hash",
    "uti",
    "rat",
    "updated_at",
    "rh",
];
/// So many claims are chosen at the most, for each purpose.
const MAX_CHOSEN: usize = 8;
/// So many claims of a token, and so many names in all, are looked at.
const MAX_CLAIMS: usize = 200;

/// The tokens of a recording, as far as it matters which claims they share.
#[derive(Debug, Default)]
pub(super) struct Table {
    names: Vec<String>,
    by_name: HashMap<String, usize>,
    rows: Vec<Row>,
    /// Claims with a point in time in them.
    times: HashSet<usize>,
}

#[derive(Debug)]
struct Row {
    /// A claim and the digest of its value.
    cells: Vec<(usize, u64)>,
    /// The request that was answered with the token.
    issuer: Option<u64>,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Choice {
    /// The claims that tell users apart.
    pub(super) identity: Chosen,
    /// The claims that tell tokens of one user apart, besides.
    pub(super) kind: Chosen,
}

impl Table {
    /// Adds a token by its claims. `issuer` stands for the request that it was issued to.
    pub(super) fn add(&mut self, claims: &[u8], issuer: Option<u64>) {
        let mut cells = Vec::new();
        let (names, by_name, times) = (&mut self.names, &mut self.by_name, &mut self.times);
        let wanted = |name: &str| {
            if let Some(known) = by_name.get(name) {
                return Some(*known);
            }
            if names.len() == MAX_CLAIMS {
                return None;
            }
            by_name.insert(name.to_owned(), names.len());
            names.push(name.to_owned());
            Some(names.len() - 1)
        };
        let read = credential::walk(claims, wanted, |name, peek, span| {
            let raw = claims.get(span).unwrap_or_default();
            if is_moment(peek, raw) {
                times.insert(name);
            }
            if cells.len() < MAX_CLAIMS {
                cells.push((name, rapidhash::v3::rapidhash_v3(&plain(raw))));
            }
        });
        if read.is_some() {
            self.rows.push(Row { cells, issuer });
        }
    }

    /// Chooses among the default candidates, or among an operator's. Claims that a template sets are never chosen.
    pub(super) fn choose(&self, configured: Option<&[String]>, set: &HashSet<String>) -> Choice {
        let mut groups = Groups { of: vec![0; self.rows.len()], count: 1 };
        let mut identity = Vec::new();
        let usable = |name: &str| !set.contains(name);
        if let Some(names) = configured {
            self.take(names.iter().map(String::as_str), &mut groups, &mut identity);
        } else {
            let person = PERSON.into_iter().filter(|name| usable(name));
            self.take(person, &mut groups, &mut identity);
            let others = OTHERS.into_iter().filter(|name| usable(name) && self.is_stable(name));
            self.take(others, &mut groups, &mut identity);
            if groups.count <= 1 {
                self.take(self.remaining(set), &mut groups, &mut identity);
            }
        }
        let mut kind = Vec::new();
        self.take(self.remaining(set), &mut groups, &mut kind);
        Choice { identity: Chosen(identity), kind: Chosen(kind) }
    }

    /// Every claim that stays with its user, by name.
    fn remaining(&self, set: &HashSet<String>) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> = self
            .names
            .iter()
            .map(String::as_str)
            .filter(|name| !VOLATILE.contains(name) && !set.contains(*name))
            .filter(|name| !self.by_name.get(*name).is_some_and(|nth| self.times.contains(nth)))
            .filter(|name| self.is_stable(name))
            .collect();
        names.sort_unstable();
        names.into_iter()
    }

    /// Takes each claim that splits the groups further.
    fn take<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        groups: &mut Groups,
        taken: &mut Vec<String>,
    ) {
        for name in names {
            if taken.len() == MAX_CHOSEN {
                return;
            }
            let Some(claim) = self.by_name.get(name) else { continue };
            let split = self.split(groups, *claim);
            if split.count > groups.count {
                taken.push(name.to_owned());
                *groups = split;
            }
        }
    }

    fn split(&self, groups: &Groups, claim: usize) -> Groups {
        let mut known: HashMap<(usize, Option<u64>), usize> = HashMap::new();
        let of = self
            .rows
            .iter()
            .zip(&groups.of)
            .map(|(row, group)| {
                let next = known.len();
                *known.entry((*group, row.value(claim))).or_insert(next)
            })
            .collect();
        Groups { of, count: known.len().max(1) }
    }

    /// Whether no two tokens that answered the same request differ in a claim.
    fn is_stable(&self, name: &str) -> bool {
        let Some(claim) = self.by_name.get(name) else { return true };
        let mut seen: HashMap<u64, Option<u64>> = HashMap::new();
        self.rows.iter().all(|row| {
            let value = row.value(*claim);
            row.issuer.is_none_or(|issuer| *seen.entry(issuer).or_insert(value) == value)
        })
    }
}

struct Groups {
    of: Vec<usize>,
    count: usize,
}

impl Row {
    fn value(&self, claim: usize) -> Option<u64> {
        self.cells.iter().find(|cell| cell.0 == claim).map(|cell| cell.1)
    }
}

/// A number of the size that seconds or milliseconds since the epoch have.
fn is_moment(peek: Peek, raw: &[u8]) -> bool {
    let digits = raw.iter().take_while(|byte| byte.is_ascii_digit()).count();
    !matches!(peek, Peek::String | Peek::Object | Peek::Array) && (10..=13).contains(&digits)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn table(tokens: &[(Value, Option<u64>)]) -> Table {
        let mut table = Table::default();
        for (claims, issuer) in tokens {
            table.add(claims.to_string().as_bytes(), *issuer);
        }
        table
    }

    fn chosen(tokens: &[(Value, Option<u64>)]) -> (Vec<String>, Vec<String>) {
        let choice = table(tokens).choose(None, &HashSet::new());
        (choice.identity.0, choice.kind.0)
    }

    #[test]
    fn takes_the_fewest_claims_that_tell_users_apart() {
        let token = |sub: &str, jti: &str| {
            (json!({"iss": "x", "sub": sub, "uid": sub, "jti": jti, "iat": 1_700_000_000}), None)
        };
        assert_eq!(
            chosen(&[token("a", "1"), token("b", "2"), token("a", "3")]),
            (vec!["sub".to_owned()], vec![])
        );
    }

    #[test]
    fn a_session_counts_unless_the_same_login_gives_another() {
        let token =
            |sub: &str, sid: &str, login: u64| (json!({"sub": sub, "sid": sid}), Some(login));
        let phones = [token("a", "1", 1), token("a", "2", 2), token("b", "3", 3)];
        assert_eq!(chosen(&phones).0, ["sub", "sid"]);
        let again = [token("a", "1", 1), token("a", "2", 1), token("b", "3", 3)];
        assert_eq!(chosen(&again), (vec!["sub".to_owned()], vec![]));
    }

    #[test]
    fn other_claims_count_where_the_usual_ones_tell_nobody_apart() {
        let token = |user: i64| (json!({"sub": "app", "https://x/user": {"id": user}}), None);
        assert_eq!(chosen(&[token(1), token(2)]).0, ["https://x/user"]);
    }

    #[test]
    fn kinds_of_tokens_are_told_apart_beside_their_users() {
        let token = |sub: &str, kind: &str| (json!({"sub": sub, "typ": kind}), None);
        assert_eq!(
            chosen(&[token("a", "Bearer"), token("a", "Refresh"), token("b", "Bearer")]),
            (vec!["sub".to_owned()], vec!["typ".to_owned()])
        );
    }

    #[test]
    fn what_a_template_sets_is_never_chosen() {
        let token = |sub: &str| (json!({"sub": sub, "uid": sub}), None);
        let choice =
            table(&[token("a"), token("b")]).choose(None, &HashSet::from(["sub".to_owned()]));
        assert_eq!(choice.identity.0, ["uid"]);
    }
}
