//! What is told beside a suggested template.

use crate::{
    diagnostic::{Diagnostic, Diagnostics},
    lineage::{
        report::{Family, Origin, Report},
        token::Form,
    },
};

use super::SecretUse;

/// What the report says that a user of the template should know.
pub(super) fn about(report: &Report, secrets: &[SecretUse], found: &mut Diagnostics) {
    for secret in secrets {
        let mut finding = Diagnostic::info(
            "secret_needed",
            "",
            format!("mount {}, which signs {} tokens", secret, secret.tokens),
        );
        if secret.key.contains("HMAC") {
            finding = finding
                .hint("the file holds the very bytes that verifiers know, without a line feed");
        }
        found.push(finding);
    }
    for family in &report.families {
        of_family(family, found);
    }
    if report.left_out.sightings > 0 || report.left_out.families > 0 {
        let mut finding = Diagnostic::warning(
            "lineage_incomplete",
            "",
            "the recording holds more tokens, endpoints or places than are told apart; the template may miss some",
        );
        finding.count = report.left_out.sightings.max(1);
        found.push(finding);
    }
}

fn of_family(family: &Family, found: &mut Diagnostics) {
    let what = describe(family);
    let seen = if family.origin == Origin::Issued { &family.issued } else { &family.used };
    let place = seen
        .first()
        .map(|sighting| format!("{} {}", sighting.endpoint, sighting.place))
        .unwrap_or_default();
    let mut push = |finding: Diagnostic| {
        let mut finding = finding.subject(place.clone());
        finding.count = family.tokens;
        found.push(finding);
    };
    match (family.origin, family.kind.form) {
        (Origin::Orphan, form) => push(
            Diagnostic::info(
                "token_never_issued",
                "",
                format!("{what} are presented, but no response of the recording issues them"),
            )
            .hint(if form == Form::Opaque {
                "an API key, perhaps; nothing has to be done for it"
            } else {
                "clients get such a token elsewhere or sign it themselves"
            }),
        ),
        (Origin::Issued, Form::Opaque) => push(Diagnostic::info(
            "token_opaque",
            "",
            format!("{what} are no JWT and are served as recorded"),
        )),
        (Origin::Issued, Form::Jwe) => push(Diagnostic::warning(
            "token_encrypted",
            "",
            format!("{what} are encrypted and are served as recorded"),
        )),
        (Origin::Issued, Form::Jws) => {
            if let Some((code, why)) = &family.refusal {
                push(Diagnostic::warning(
                    "token_not_covered",
                    "",
                    format!("{what} are served as recorded: {why} [{code}]"),
                ));
            }
        }
    }
    if let Some(jwks) = family.jwks.as_ref().filter(|_| family.origin == Origin::Issued) {
        push(
            Diagnostic::info(
                "jwks_recorded",
                "",
                format!(
                    "{what} are verified with the key set of {}, which publishes the key that re-signs them when it is served",
                    jwks.endpoint
                ),
            )
            .hint("verifiers that have the recorded key from elsewhere need the public half of the new one"),
        );
    }
}

/// A family for people.
fn describe(family: &Family) -> String {
    let kind = &family.kind;
    let mut text = match kind.form {
        Form::Opaque => "opaque tokens".to_owned(),
        Form::Jwe => format!("JWE ({})", kind.alg),
        Form::Jws => format!("{} tokens", if kind.alg.is_empty() { "JWS" } else { &kind.alg }),
    };
    if !kind.iss.is_empty() {
        text.push_str(&format!(" of {}", kind.iss));
    }
    text
}
