//! The config of `jwt_resign`, as an operator wrote it.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    alg::Alg,
    claims::kind_of,
    key::{SecretRef, SigningKey},
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    json::Kind,
    transform::{Nature, Required, Scope, Text, split_outside},
};

/// Where the signing key comes from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// From a mounted secret.
    Secret(SecretRef),
    /// It stands in the template.
    Inline(Arc<SigningKey>),
}

/// What becomes of time claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeClaims {
    /// `iat` becomes now; `exp`, `nbf` and `auth_time` keep their recorded distance to it.
    Shift,
    /// As the incumbent does: `iat` is now, `exp` two days later, `nbf` in 2015; only those that are there.
    Fixed,
    /// They stay.
    Keep,
}

/// How tokens are re-signed.
#[derive(Debug, Clone)]
pub struct ResignConfig {
    /// The key.
    pub secret: KeySource,
    /// Claims to set, in the order of precedence: later ones win.
    pub claims: Vec<(String, String)>,
    /// The `kid` of the JOSE header.
    pub kid: Option<String>,
    /// What may stand before a token, for example `Bearer `.
    pub prefixes: Vec<String>,
    /// Only tokens of this `alg` are re-signed.
    pub match_alg: Option<Alg>,
    /// What becomes of time claims.
    pub time: TimeClaims,
    /// The new lifetime in seconds.
    pub expires_in: Option<i64>,
    /// The `alg` to sign with instead of the recorded one.
    pub alg: Option<Alg>,
    /// Ignores a line feed at the end of an HMAC secret.
    pub trim_newline: bool,
    /// Signs with an HMAC secret that is shorter than its hash, since who verifies has such a one.
    pub allow_weak_keys: bool,
    /// The texts among them that hold placeholders, by what is written.
    pub(crate) texts: BTreeMap<String, Text>,
}

/// Claims whose values are points in time (RFC 7519, section 4.1; OpenID Connect Core, section 2).
pub(super) const NUMERIC_DATES: [&str; 4] = ["iat", "exp", "nbf", "auth_time"];

const KNOWN: [&str; 15] = [
    "secretPath",
    "key",
    "iss",
    "aud",
    "sub",
    "kid",
    "claims",
    "prefixes",
    "matchAlg",
    "timeClaims",
    "expiresIn",
    "alg",
    "trim",
    "allowWeakKeys",
    "secret",
];

impl ResignConfig {
    /// Reads the config. Keys are lower-cased; `path` is where the config stands, for findings.
    pub fn parse(
        config: &BTreeMap<String, String>,
        path: &str,
        found: &mut Diagnostics,
    ) -> Option<Self> {
        let reader = Reader { config, path };
        for key in config.keys() {
            if !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(key)) {
                let at = format!("{path}.{key}");
                let message = format!("`jwt_resign` has no setting `{key}`; it is ignored");
                found.push(
                    Diagnostic::warning("unknown_field", at, message).unknown_name(key, &KNOWN),
                );
            }
        }
        // Every part is read before any verdict, so that one answer holds all findings.
        let secret = reader.key_source(found);
        let alg = reader.alg("alg", found);
        let match_alg = reader.alg("matchAlg", found);
        let trim_newline = reader.trim(found);
        let allow_weak_keys = reader.allow_weak_keys(found);
        let time = reader.time(found);
        let expires_in = reader.expires_in(found);
        let claims = reader.claims(found);
        let (kid, prefixes) = (reader.get("kid"), reader.get("prefixes"));
        let texts = reader.texts(found);
        if let (Some(KeySource::Inline(key)), Some(Some(alg))) = (&secret, alg)
            && let Err(why) = key.can_sign(alg)
        {
            found.push(Diagnostic::error(why.code(), reader.at("alg"), why.to_string()));
            return None;
        }
        Some(Self {
            secret: secret?,
            claims: claims?,
            kid: kid.map(str::to_owned),
            prefixes: split_outside(prefixes.unwrap_or("Bearer ,JWTBearer "), ',')
                .into_iter()
                .filter(|prefix| !prefix.is_empty())
                .map(str::to_owned)
                .collect(),
            match_alg: match_alg?,
            time: time?,
            expires_in: expires_in?,
            alg: alg?,
            trim_newline: trim_newline?,
            allow_weak_keys: allow_weak_keys?,
            texts: texts?,
        })
    }

    /// The config with its placeholders resolved; `None` when it has none.
    pub(crate) fn resolved(&self, scope: &mut Scope) -> Option<Self> {
        if self.texts.is_empty() {
            return None;
        }
        let mut resolve = |written: &mut String| {
            if let Some(text) = self.texts.get(written) {
                *written = text.resolve_string(scope);
            }
        };
        let mut config = self.clone();
        config.claims.iter_mut().for_each(|claim| resolve(&mut claim.1));
        config.kid.iter_mut().for_each(&mut resolve);
        config.prefixes.iter_mut().for_each(&mut resolve);
        config.texts.clear();
        Some(config)
    }

    /// What its placeholders depend on.
    pub(crate) fn nature(&self) -> Nature {
        self.texts.values().map(Text::nature).max().unwrap_or(Nature::Static)
    }

    /// What its placeholders need from a node.
    pub(crate) fn require(&self, required: &mut Required, secrets: &mut Vec<SecretRef>) {
        self.texts.values().for_each(|text| text.require(required, secrets));
    }
}

struct Reader<'c> {
    config: &'c BTreeMap<String, String>,
    path: &'c str,
}

impl Reader<'_> {
    /// A value that is not empty.
    fn get(&self, name: &str) -> Option<&str> {
        self.config
            .get(&name.to_ascii_lowercase())
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    fn at(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    fn key_source(&self, found: &mut Diagnostics) -> Option<KeySource> {
        if let Some((name, path)) =
            ["secretPath", "secret"].iter().find_map(|name| Some((*name, self.get(name)?)))
        {
            return match SecretRef::parse(path) {
                Ok(secret) => Some(KeySource::Secret(secret)),
                Err(why) => {
                    found.push(
                        Diagnostic::error(why.code, self.at(name), format!("this path names no secret: {why}"))
                            .hint("write /home/speedscale/secret/<secret>/<key> or ${{secret:<secret>/<key>}}"),
                    );
                    None
                }
            };
        }
        let Some(key) = self.get("key") else {
            found.push(
                Diagnostic::error(
                    "missing_key",
                    self.at("secretPath"),
                    "a key or path to a key for re-signing jwts is required",
                )
                .hint("set `secretPath` to /home/speedscale/secret/<secret>/<key>"),
            );
            return None;
        };
        let secret = key.trim();
        if secret.starts_with("${{") {
            return match SecretRef::parse(secret) {
                Ok(secret) => Some(KeySource::Secret(secret)),
                Err(why) => {
                    found.push(Diagnostic::error(
                        why.code,
                        self.at("key"),
                        format!("this names no secret: {why}"),
                    ));
                    None
                }
            };
        }
        match SigningKey::parse(key.as_bytes()) {
            Ok(key) => {
                found.push(
                    Diagnostic::warning(
                        "key_in_template",
                        self.at("key"),
                        "the key stands in the template, which is stored and sent around",
                    )
                    .hint("mount it as a secret and use `secretPath`"),
                );
                Some(KeySource::Inline(Arc::new(key)))
            }
            Err(why) => {
                found.push(Diagnostic::error(
                    why.code(),
                    self.at("key"),
                    format!("the key cannot be used: {why}"),
                ));
                None
            }
        }
    }

    fn alg(&self, name: &str, found: &mut Diagnostics) -> Option<Option<Alg>> {
        let Some(text) = self.get(name) else { return Some(None) };
        let alg = Alg::parse(text);
        if alg.is_none() {
            found.push(
                Diagnostic::error(
                    "unknown_alg",
                    self.at(name),
                    format!("there is no algorithm `{text}` to sign with"),
                )
                .hint(format!("known are: {}", Alg::names())),
            );
        }
        alg.map(Some)
    }

    fn trim(&self, found: &mut Diagnostics) -> Option<bool> {
        match self.get("trim") {
            None | Some("none") => Some(false),
            Some("trailing_newline") => Some(true),
            Some(other) => {
                found.push(
                    Diagnostic::error(
                        "wrong_type",
                        self.at("trim"),
                        format!("there is no way `{other}` to trim a secret"),
                    )
                    .hint("known are: none, trailing_newline"),
                );
                None
            }
        }
    }

    fn allow_weak_keys(&self, found: &mut Diagnostics) -> Option<bool> {
        match self.get("allowWeakKeys") {
            None | Some("false") => Some(false),
            Some("true") => Some(true),
            Some(_) => {
                let message = "`allowWeakKeys` is true or false";
                found.push(Diagnostic::error("wrong_type", self.at("allowWeakKeys"), message));
                None
            }
        }
    }

    fn time(&self, found: &mut Diagnostics) -> Option<TimeClaims> {
        match self.get("timeClaims").unwrap_or("shift") {
            "shift" => Some(TimeClaims::Shift),
            "fixed" => Some(TimeClaims::Fixed),
            "keep" => Some(TimeClaims::Keep),
            other => {
                found.push(
                    Diagnostic::error(
                        "wrong_type",
                        self.at("timeClaims"),
                        format!("there is no way `{other}` to treat time claims"),
                    )
                    .hint("known are: shift, fixed, keep"),
                );
                None
            }
        }
    }

    fn expires_in(&self, found: &mut Diagnostics) -> Option<Option<i64>> {
        let Some(text) = self.get("expiresIn") else { return Some(None) };
        let seconds = duration(text.trim());
        if seconds.is_none() {
            found.push(
                Diagnostic::error(
                    "wrong_type",
                    self.at("expiresIn"),
                    format!("`{text}` is no duration"),
                )
                .hint("write seconds, or a number with s, m, h or d, for example 15m"),
            );
        }
        seconds.map(Some)
    }

    /// The texts that hold placeholders. A secret may be a claim as little as it may be a header: a client would read it.
    fn texts(&self, found: &mut Diagnostics) -> Option<BTreeMap<String, Text>> {
        let mut texts = BTreeMap::new();
        for name in ["iss", "aud", "sub", "kid", "claims", "prefixes"] {
            let separator = if matches!(name, "claims" | "prefixes") { ',' } else { '\0' };
            for entry in split_outside(self.get(name).unwrap_or_default(), separator) {
                let value = match split_outside(entry, '=').as_slice() {
                    [_, value] if name == "claims" => value,
                    _ => entry,
                };
                if value.contains("${{") {
                    let text = Text::parse(value, &self.at(name), found)?;
                    texts.insert(value.to_owned(), text);
                }
            }
        }
        Some(texts)
    }

    fn claims(&self, found: &mut Diagnostics) -> Option<Vec<(String, String)>> {
        let mut claims = Vec::new();
        let mut sound = true;
        for name in ["iss", "aud", "sub"] {
            claims.extend(self.get(name).map(|value| (name.to_owned(), value.to_owned())));
        }
        let listed = self.get("claims").map(|text| split_outside(text, ',')).unwrap_or_default();
        for (nth, entry) in listed.into_iter().enumerate() {
            match split_outside(entry, '=').as_slice() {
                [name, value] if !name.trim().is_empty() => {
                    let name = name.trim();
                    if NUMERIC_DATES.contains(&name)
                        && kind_of(value) != Some(Kind::Number)
                        && !value.contains("${{")
                    {
                        let message = format!(
                            "entry {nth}: `{name}` counts seconds since 1970, but the value is no number"
                        );
                        found.push(Diagnostic::warning(
                            "claim_not_numeric",
                            self.at("claims"),
                            message,
                        ));
                    }
                    claims.push((name.to_owned(), (*value).to_owned()));
                }
                _ => {
                    sound = false;
                    let message = format!(
                        "claims config entry malformed (must be key=value,...): entry {nth}"
                    );
                    found.push(
                        Diagnostic::error("claims_malformed", self.at("claims"), message)
                            .hint("write claims as name=value,name2=value2"),
                    );
                }
            }
        }
        sound.then_some(claims)
    }
}

/// Seconds, or a number with a unit.
fn duration(text: &str) -> Option<i64> {
    let (digits, unit) =
        text.split_at_checked(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len())?;
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    digits.parse::<i64>().ok().filter(|number| *number >= 0)?.checked_mul(unit)
}

#[cfg(test)]
mod tests;
