//! What a believed token claims: of whom, for whom, until when, and which role where.
//!
//! A claim that is not what it should be is an error, never taken for absent.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Settings;
use crate::auth::{
    rights::{Level, Means, Principal},
    users::{self, LineError},
};

/// How far clocks may differ, in seconds.
const LEEWAY: i64 = 60;
/// The longest subject that is shown.
const MAX_SUBJECT: usize = 200;

/// Why claims are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error("its iss is another one")]
    Issuer,
    #[error("its aud does not name this control plane")]
    Audience,
    #[error("its {0} is missing or no number")]
    Time(&'static str),
    #[error("it has expired")]
    Expired,
    #[error("it is not good yet")]
    Early,
    #[error("its sub is missing or no text")]
    Subject,
    #[error("its claim `{0}` names no role")]
    Role(String),
    #[error("its claim `{0}` names no projects")]
    Projects(String),
    #[error("what it claims is no role in projects")]
    Rights(#[source] LineError),
}

/// Who has such a token.
pub(super) fn principal(
    settings: &Settings,
    claims: &Map<String, Value>,
    now: Timestamp,
) -> Result<Principal, ClaimError> {
    if claims.get("iss").and_then(Value::as_str) != Some(&settings.issuer) {
        return Err(ClaimError::Issuer);
    }
    let audiences = claims.get("aud").map(texts).unwrap_or_default();
    if !audiences.contains(&&*settings.audience) {
        return Err(ClaimError::Audience);
    }
    check_times(claims, now)?;
    let subject = claims.get("sub").and_then(Value::as_str).filter(|subject| !subject.is_empty());
    let subject = subject.ok_or(ClaimError::Subject)?;
    let shown: String = subject.chars().filter(|c| !c.is_control()).take(MAX_SUBJECT).collect();
    let role = role(&claim(claims, &settings.role_claim))
        .ok_or_else(|| ClaimError::Role(settings.role_claim.clone()))?;
    let projects = claim(claims, &settings.project_claim).join(",");
    if projects.is_empty() {
        return Err(ClaimError::Projects(settings.project_claim.clone()));
    }
    let rights = users::rights(role, &projects).map_err(ClaimError::Rights)?;
    Ok(Principal { name: format!("oidc:{shown}").into(), means: Means::Oidc, rights })
}

fn check_times(claims: &Map<String, Value>, now: Timestamp) -> Result<(), ClaimError> {
    let now = now.as_second();
    let seconds = |name: &'static str, value: &Value| {
        let whole = value.as_i64();
        // Fractions are allowed (RFC 7519, section 2: NumericDate) and do not matter.
        let fraction = || {
            let seconds: f64 = value.as_f64()?;
            Timestamp::from_duration(jiff::SignedDuration::try_from_secs_f64(seconds).ok()?)
                .ok()
                .map(Timestamp::as_second)
        };
        whole.or_else(fraction).ok_or(ClaimError::Time(name))
    };
    let end = seconds("exp", claims.get("exp").ok_or(ClaimError::Time("exp"))?)?;
    if now >= end.saturating_add(LEEWAY) {
        return Err(ClaimError::Expired);
    }
    for name in ["nbf", "iat"] {
        if let Some(value) = claims.get(name)
            && seconds(name, value)? > now.saturating_add(LEEWAY)
        {
            return Err(ClaimError::Early);
        }
    }
    Ok(())
}

/// The texts of a claim, whose name may lead into objects.
fn claim<'c>(claims: &'c Map<String, Value>, name: &str) -> Vec<&'c str> {
    if let Some(found) = claims.get(name) {
        return texts(found);
    }
    let mut parts = name.split('.');
    let first = parts.next().and_then(|part| claims.get(part));
    let found = parts.fold(first, |value, part| value?.get(part));
    found.map(texts).unwrap_or_default()
}

/// A text, or the texts of an array.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The highest role of these; `responder` only where no user's role is among them. Providers put roles of others into the same claim.
fn role<'r>(roles: &[&'r str]) -> Option<&'r str> {
    let level = |role: &&&str| role.parse::<Level>().ok();
    let highest = roles.iter().filter(|role| level(role).is_some()).max_by_key(level);
    highest.copied().or_else(|| roles.iter().find(|role| **role == "responder").copied())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::rights::Rights;

    fn settings(role: &str, project: &str) -> Settings {
        Settings {
            issuer: "https://id.example".into(),
            audience: "countersign".into(),
            role_claim: role.into(),
            project_claim: project.into(),
            authorities: None,
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://id.example", "aud": "countersign", "sub": "anna", "exp": 2_000, "nbf": 1_000,
            "role": "editor", "projects": ["shop", "web"],
            "realm_access": {"roles": ["offline_access", "viewer", "operator"]},
            "workload": "responder", "own": "shop",
        })
    }

    fn judge(settings: &Settings, claims: &Value, now: i64) -> Result<Principal, ClaimError> {
        principal(settings, claims.as_object().unwrap(), Timestamp::from_second(now).unwrap())
    }

    #[test]
    fn claims_become_a_role_in_projects() {
        let plain = settings("role", "projects");
        let anna = judge(&plain, &claims(), 1_500).unwrap();
        assert_eq!((&*anna.name, anna.means), ("oidc:anna", Means::Oidc));
        assert_eq!(anna.rights.level("web"), Some(Level::Editor));
        assert_eq!(anna.rights.level("other"), None);
        let nested = judge(&settings("realm_access.roles", "own"), &claims(), 1_500).unwrap();
        assert_eq!(nested.rights.level("shop"), Some(Level::Operator));
        let responder = judge(&settings("workload", "own"), &claims(), 1_500).unwrap();
        let expected = Rights::Responder { project: "shop".into(), name: None };
        assert_eq!(responder.rights, expected);
        let several = judge(&settings("workload", "projects"), &claims(), 1_500);
        assert_eq!(several, Err(ClaimError::Rights(LineError::Responder)));
    }

    #[test]
    fn what_is_wrong_is_refused_and_never_taken_for_absent() {
        let with = |name: &str, value: Value| {
            let mut changed = claims();
            changed[name] = value;
            judge(&settings("role", "projects"), &changed, 1_500)
        };
        assert!(with("aud", json!(["x", "countersign"])).is_ok());
        assert!(with("exp", json!(1_999.5)).is_ok());
        let projects = || ClaimError::Projects("projects".into());
        let role = || ClaimError::Role("role".into());
        for (name, value, expected) in [
            ("iss", json!("https://id.example/"), ClaimError::Issuer),
            ("iss", json!(null), ClaimError::Issuer),
            ("aud", json!("countersign2"), ClaimError::Audience),
            ("aud", json!([]), ClaimError::Audience),
            ("exp", json!(null), ClaimError::Time("exp")),
            ("exp", json!("2000"), ClaimError::Time("exp")),
            ("exp", json!(1_440), ClaimError::Expired),
            ("exp", json!(-1), ClaimError::Expired),
            ("nbf", json!(1_561), ClaimError::Early),
            ("nbf", json!("1000"), ClaimError::Time("nbf")),
            ("iat", json!(9_999_999), ClaimError::Early),
            ("sub", json!(5), ClaimError::Subject),
            ("sub", json!(""), ClaimError::Subject),
            ("role", json!("root"), role()),
            ("role", json!(["Admin"]), role()),
            ("role", json!({"editor": true}), role()),
            ("projects", json!([]), projects()),
            ("projects", json!(1), projects()),
        ] {
            assert_eq!(with(name, value.clone()), Err(expected), "{name} {value}");
        }
        assert!(matches!(with("projects", json!("a b")), Err(ClaimError::Rights(_))));
        assert!(matches!(with("projects", json!(["a", "*"])), Err(ClaimError::Rights(_))));
    }
}
