//! Which secret signs which tokens: one per issuer, type of key and key id, under a name that can be guessed.

use std::{collections::BTreeMap, fmt};

use super::Issue;
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    jwt::key::SecretRef,
    lineage::{keys::target, token::Kind},
};

/// What a user may choose.
#[derive(Debug, Clone)]
pub struct Options {
    id: String,
    secret: Option<(String, Option<String>)>,
}

/// Why options are not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// The id is empty.
    #[error("a template needs an id")]
    Id,
    /// The secret is none.
    #[error("`{given}` names no secret: write <secret>/<key>, or <secret> alone")]
    Secret {
        /// What was given.
        given: String,
    },
}

/// A secret of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUse {
    /// Its name.
    pub secret: SecretRef,
    /// What its key has to be, for people.
    pub key: &'static str,
    /// The issuer of the tokens; empty when they name none.
    pub iss: String,
    /// The key id in the tokens; empty when they name none.
    pub kid: String,
    /// How many tokens it signs.
    pub tokens: u64,
}

/// The type of key that an algorithm needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum KeyType {
    Hmac,
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

type Group = (String, KeyType, String);

/// The secrets of a template.
#[derive(Debug)]
pub(super) struct Secrets {
    names: BTreeMap<Group, SecretRef>,
    list: Vec<SecretUse>,
}

impl Options {
    /// A template id, and the secret to sign with: `<secret>/<key>` for all tokens, `<secret>` for all with the usual name of each type of
    /// key, or nothing for a name made from the issuer.
    ///
    /// # Errors
    /// When the id is empty or the secret is not a name.
    pub fn new(id: &str, secret: &str) -> Result<Self, OptionsError> {
        if id.is_empty() {
            return Err(OptionsError::Id);
        }
        let refused = |_| OptionsError::Secret { given: secret.to_owned() };
        let secret = if secret.is_empty() {
            None
        } else if secret.contains('/') {
            let given = SecretRef::parse(secret).map_err(refused)?;
            Some((given.secret, Some(given.key)))
        } else {
            let given = SecretRef::parse(&format!("{secret}/key")).map_err(refused)?;
            Some((given.secret, None))
        };
        Ok(Self { id: id.to_owned(), secret })
    }

    /// The template's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl KeyType {
    fn of(alg: &str) -> Self {
        match alg {
            "ES256" => Self::P256,
            "ES384" => Self::P384,
            "ES512" => Self::P521,
            "EdDSA" | "Ed25519" => Self::Ed25519,
            alg if alg.starts_with("HS") => Self::Hmac,
            _ => Self::Rsa,
        }
    }

    /// The usual name of the file.
    fn file(self) -> &'static str {
        if self == Self::Hmac { "hmac.key" } else { "tls.key" }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Hmac => "the HMAC secret",
            Self::Rsa => "an RSA private key",
            Self::P256 => "an EC private key on P-256",
            Self::P384 => "an EC private key on P-384",
            Self::P521 => "an EC private key on P-521",
            Self::Ed25519 => "an Ed25519 private key",
        }
    }

    fn short(self) -> &'static str {
        match self {
            Self::Hmac => "hmac",
            Self::Rsa => "rsa",
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::P521 => "p521",
            Self::Ed25519 => "ed25519",
        }
    }
}

impl Secrets {
    /// Names the secrets for all tokens.
    pub(super) fn new(issues: &[Issue<'_>], options: &Options) -> Self {
        let mut groups: BTreeMap<Group, u64> = BTreeMap::new();
        for issue in issues {
            *groups.entry(group(issue.kind)).or_default() += issue.tokens;
        }
        let names = match &options.secret {
            Some((secret, key)) => groups
                .keys()
                .map(|group| {
                    let key = key.clone().unwrap_or_else(|| group.1.file().to_owned());
                    (group.clone(), SecretRef { secret: secret.clone(), key })
                })
                .collect(),
            None => named(&groups.keys()),
        };
        let list = groups
            .iter()
            .filter_map(|(group, tokens)| {
                Some(SecretUse {
                    secret: names.get(group)?.clone(),
                    key: group.1.title(),
                    iss: group.0.clone(),
                    kid: group.2.clone(),
                    tokens: *tokens,
                })
            })
            .collect();
        Self { names, list }
    }

    /// The secret for most of these tokens, which one chain signs. That the others get it too is told.
    pub(super) fn of_most(
        &self,
        issues: &[&Issue<'_>],
        site: &str,
        found: &mut Diagnostics,
    ) -> Option<SecretRef> {
        let mut counted: BTreeMap<&SecretRef, u64> = BTreeMap::new();
        for issue in issues {
            *counted.entry(self.names.get(&group(issue.kind))?).or_default() += issue.tokens;
        }
        let most =
            counted.iter().max_by_key(|(secret, count)| (**count, std::cmp::Reverse(**secret)));
        let chosen = (*most?.0).clone();
        if counted.len() > 1 {
            let others: Vec<String> = counted
                .keys()
                .filter(|other| ***other != chosen)
                .map(ToString::to_string)
                .collect();
            found.push(
                Diagnostic::warning(
                    "keys_share_place",
                    "",
                    format!(
                        "tokens of several issuers or keys stand at one place, and one chain signs all of them with {chosen}, not with {}",
                        others.join(", ")
                    ),
                )
                .hint("filter the chain further, for example by a header field, or set `kid`")
                .subject(site),
            );
        }
        Some(chosen)
    }

    /// The secrets, sorted by issuer.
    pub(super) fn list(&self) -> &[SecretUse] {
        &self.list
    }
}

fn group(kind: &Kind) -> Group {
    (kind.iss.clone(), KeyType::of(&kind.alg), kind.kid.clone())
}

/// A name for each group: `jwt`, or `jwt-` and the issuer; key id and type of key are added where that is not enough.
fn named<'g>(groups: &(impl Iterator<Item = &'g Group> + Clone)) -> BTreeMap<Group, SecretRef> {
    let base = |group: &Group| {
        let (host, _) = target(&group.0);
        let slug = slug(if host.is_empty() { &group.0 } else { &host });
        if slug.is_empty() { "jwt".to_owned() } else { format!("jwt-{slug}") }
    };
    let longer = |group: &Group| match slug(&group.2) {
        kid if kid.is_empty() => base(group),
        kid => format!("{}-{kid}", base(group)),
    };
    let longest = |group: &Group| format!("{}-{}", longer(group), group.1.short());
    let ways: [&dyn Fn(&Group) -> String; 3] = [&base, &longer, &longest];
    let mut names: BTreeMap<Group, SecretRef> = BTreeMap::new();
    for group in groups.clone() {
        let unique = ways.iter().map(|way| way(group)).find(|name| {
            let alike = |way: &&dyn Fn(&Group) -> String| {
                groups.clone().filter(|other| way(other) == *name).count()
            };
            ways.iter().map(|way| alike(way)).max() <= Some(1)
        });
        let mut name = unique.unwrap_or_else(|| longest(group));
        let taken = |name: &str| names.values().any(|known| known.secret == name);
        for nth in 2.. {
            if !taken(&name) {
                break;
            }
            name = format!("{}-{nth}", longest(group));
        }
        let key = group.1.file().to_owned();
        names.insert(group.clone(), SecretRef { secret: name, key });
    }
    names
}

/// A text as a part of a Kubernetes name.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().take(48) {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

impl fmt::Display for SecretUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.secret, self.key)?;
        if !self.iss.is_empty() {
            write!(f, " of {}", self.iss)?;
        }
        if !self.kid.is_empty() {
            write!(f, ", kid {}", self.kid)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(groups: &[(&str, KeyType, &str)]) -> Vec<String> {
        let groups: Vec<Group> = groups
            .iter()
            .map(|(iss, key, kid)| ((*iss).to_owned(), *key, (*kid).to_owned()))
            .collect();
        let names = named(&groups.iter());
        groups.iter().map(|group| names[group].to_string()).collect()
    }

    #[test]
    fn names_are_as_short_as_they_are_clear() {
        assert_eq!(names(&[("", KeyType::Hmac, "")]), ["jwt/hmac.key"]);
        assert_eq!(
            names(&[("https://id.example:8443/x", KeyType::Rsa, "k1")]),
            ["jwt-id-example/tls.key"]
        );
        assert_eq!(
            names(&[
                ("https://id.example", KeyType::Rsa, "K 1"),
                ("https://id.example", KeyType::Rsa, "k2"),
                ("https://id.example", KeyType::P256, "k2"),
                ("me", KeyType::Hmac, ""),
            ]),
            [
                "jwt-id-example-k-1/tls.key",
                "jwt-id-example-k2-rsa/tls.key",
                "jwt-id-example-k2-p256/tls.key",
                "jwt-me/hmac.key"
            ]
        );
        assert_eq!(
            names(&[("a.b", KeyType::Rsa, "x"), ("a-b", KeyType::Rsa, "x")]),
            ["jwt-a-b-x-rsa/tls.key", "jwt-a-b-x-rsa-2/tls.key"]
        );
    }

    #[test]
    fn options_are_checked() {
        let given = |secret: &str| Options::new("t", secret).map(|options| options.secret.unwrap());
        assert_eq!(given("a/b").unwrap(), ("a".into(), Some("b".into())));
        assert_eq!(given("a").unwrap(), ("a".into(), None));
        assert!(Options::new("t", "").unwrap().secret.is_none());
        assert_eq!(Options::new("", "").unwrap_err(), OptionsError::Id);
        for bad in ["a/b/c", "../b", "a b", "a/"] {
            assert!(given(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_algorithm_has_a_type_of_key() {
        for alg in crate::jwt::alg::Alg::ALL {
            let rsa = alg.as_str().starts_with("RS") || alg.as_str().starts_with("PS");
            assert_eq!(KeyType::of(alg.as_str()) == KeyType::Rsa, rsa, "{alg:?}");
        }
    }
}
