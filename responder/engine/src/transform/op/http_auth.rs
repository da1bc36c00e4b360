//! `http_auth`: a recorded `Authorization: Basic` gets other credentials. The recorded ones are remembered as variables, so that a table
//! can tell which ones take their place; a part for which there is nothing stays as recorded.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::{Effects, Nature, Op, StepError, Transform, apply};
use crate::{
    diagnostic::Diagnostics,
    jwt::key::SecretRef,
    transform::{Scope, Step, materials::Required, text::Text, world::Learned},
};

#[derive(Debug)]
struct HttpAuth {
    user: Part,
    password: Part,
    /// Whether later answers follow.
    smart_replace: bool,
}

/// One half of the credentials.
#[derive(Debug)]
struct Part {
    /// The variable that receives the recorded value.
    variable: Option<String>,
    new: Option<Text>,
}

pub(super) fn parse(step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Op> {
    let user = Part::parse("user", step, path, found);
    let password = Part::parse("password", step, path, found);
    let smart_replace =
        step.optional("smart_replace").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    Some(Arc::new(HttpAuth { user: user?, password: password?, smart_replace }))
}

impl Part {
    fn parse(name: &str, step: &mut Step<'_>, path: &str, found: &mut Diagnostics) -> Option<Self> {
        let variable = step.optional(name).filter(|variable| !variable.is_empty());
        let at = format!("{path}.config.{name}_value");
        let new = match step.optional(&format!("{name}_value")) {
            Some(text) => Some(Text::parse(&text, &at, found)?),
            None => None,
        };
        Some(Self { variable, new })
    }

    fn remember(&self, recorded: &[u8], scope: &mut Scope) {
        if let Some(variable) = &self.variable {
            scope.store(variable, Bytes::copy_from_slice(recorded));
        }
    }

    /// What takes the recorded value's place.
    fn renewed(&self, recorded: &[u8], scope: &mut Scope) -> Vec<u8> {
        let Some(text) = &self.new else { return recorded.to_vec() };
        let new = text.resolve(scope);
        let unresolved = text.plain().is_none() && new == text.written().as_bytes();
        if new.trim_ascii().is_empty() || unresolved { recorded.to_vec() } else { new }
    }
}

impl Transform for HttpAuth {
    fn apply(
        &self,
        value: &[u8],
        rest: &[Op],
        effects: &mut dyn Effects,
    ) -> Result<Vec<u8>, StepError> {
        let (scheme, user, password) = credentials(value).ok_or_else(|| {
            StepError::new("not_basic_auth", "http_auth: the value is no Basic authorization")
        })?;
        let scope = effects.scope();
        self.user.remember(&user, scope);
        self.password.remember(&password, scope);
        let pairs = [
            (self.user.renewed(&user, scope), user),
            (self.password.renewed(&password, scope), password),
        ];
        if self.smart_replace {
            for (new, recorded) in pairs.iter().filter(|(new, recorded)| new != recorded) {
                scope.learn(Learned {
                    original: recorded.clone(),
                    replacement: new.clone(),
                    overwrite: false,
                });
            }
        }
        if pairs.iter().all(|(new, recorded)| new == recorded) {
            return apply(rest, value, effects);
        }
        let [(user, _), (password, _)] = pairs;
        let encoded = STANDARD.encode([user.as_slice(), b":", &password].concat());
        apply(rest, &[scheme, encoded.as_bytes()].concat(), effects)
    }

    fn nature(&self) -> Nature {
        Nature::PerRequest
    }

    fn learns(&self) -> bool {
        self.smart_replace
    }

    fn require(&self, required: &mut Required, secrets: &mut Vec<SecretRef>) {
        for text in [&self.user.new, &self.password.new].into_iter().flatten() {
            text.require(required, secrets);
        }
    }
}

/// `Basic `, the user and the password.
fn credentials(value: &[u8]) -> Option<(&[u8], Vec<u8>, Vec<u8>)> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let plain = STANDARD.decode(encoded.trim_ascii()).ok()?;
    let colon = plain.iter().position(|byte| *byte == b':')?;
    let (user, password) = plain.split_at(colon);
    Some((scheme, user.to_vec(), password.get(1..)?.to_vec()))
}
