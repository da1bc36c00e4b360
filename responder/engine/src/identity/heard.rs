//! What tokens say of where they come from and whom they are meant for, so that a client's other token can be told from them.

use std::collections::{BTreeMap, BTreeSet};

use crate::jwt::Presented;

/// The claims that are heard.
const CLAIMS: [&str; 3] = ["iss", "aud", "sub"];
/// Claims with more values than these tell nothing.
const MAX_VALUES: usize = 16;

/// The values of some claims in a set of tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heard(BTreeMap<&'static str, BTreeSet<String>>);

impl Heard {
    /// Hears a token.
    pub(crate) fn token(&mut self, token: &[u8]) {
        if self.is_deaf() {
            return;
        }
        if let Some(read) = Presented::read(token) {
            for claim in CLAIMS {
                let heard = self.0.entry(claim).or_default();
                let room = (MAX_VALUES + 1).saturating_sub(heard.len());
                heard.extend(read.texts(claim).into_iter().take(room));
            }
        }
    }

    /// The values of a claim; `None` when there were none, or so many that one more would be no news.
    pub(crate) fn of(&self, claim: &str) -> Option<&BTreeSet<String>> {
        self.0.get(claim).filter(|heard| (1..=MAX_VALUES).contains(&heard.len()))
    }

    /// Whether any more tokens would change nothing.
    fn is_deaf(&self) -> bool {
        CLAIMS.iter().all(|claim| self.0.get(claim).is_some_and(|heard| heard.len() > MAX_VALUES))
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn many_values_tell_nothing() {
        let mut heard = Heard::default();
        for nth in 0..100 {
            let claims = format!(r#"{{"iss":"i","aud":["a","b"],"sub":"{nth}"}}"#);
            let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let token = format!("{}.{}.c2ln", part(r#"{"alg":"HS256"}"#), part(&claims));
            heard.token(token.as_bytes());
        }
        assert_eq!(heard.of("iss").unwrap().len(), 1);
        assert_eq!(heard.of("aud").unwrap().len(), 2);
        assert_eq!((heard.of("sub"), heard.of("jti")), (None, None));
    }
}
