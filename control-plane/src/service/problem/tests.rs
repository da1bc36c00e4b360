//! Problems as clients get them.

use super::*;

#[test]
fn every_finding_becomes_a_violation_with_path_message_and_hint() {
    let findings = vec![
        Diagnostic::warning("w", "responder[1]", "odd"),
        Diagnostic::error("unknown_transform", "responder[0].type", "there is no `x`")
            .hint("did you mean `y`?"),
    ];
    let status = Status::from(Problem::Document {
        what: "the template",
        reason: "INVALID_TEMPLATE",
        findings,
    });
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().domain, DOMAIN);
    let violations = &details.bad_request().unwrap().field_violations;
    assert_eq!(violations.len(), 2);
    assert_eq!(
        (violations[0].field.as_str(), violations[0].reason.as_str()),
        ("responder[0].type", "UNKNOWN_TRANSFORM")
    );
    assert_eq!(violations[0].description, "there is no `x`; did you mean `y`?");
}

#[test]
fn details_fit_in_a_header() {
    let findings: Vec<_> = (0..2000)
        .map(|n| Diagnostic::error("code", format!("responder[{n}]"), "m".repeat(40)))
        .collect();
    let status = Status::from(Problem::Document {
        what: "the template",
        reason: "INVALID_TEMPLATE",
        findings,
    });
    assert!(status.details().len() < 8 * 1024, "{}", status.details().len());
    let details = status.get_error_details();
    let last = details.bad_request().unwrap().field_violations.last().unwrap().description.clone();
    assert!(last.contains("more findings"), "{last}");
}

#[test]
fn a_full_disk_is_told_from_a_damaged_one() {
    let io = |kind| StoreError::Io {
        doing: "write",
        path: "x".into(),
        source: std::io::Error::from(kind),
    };
    assert_eq!(
        Status::from(Problem::from(io(std::io::ErrorKind::StorageFull))).code(),
        Code::ResourceExhausted
    );
    assert_eq!(
        Status::from(Problem::from(io(std::io::ErrorKind::PermissionDenied))).code(),
        Code::Internal
    );
    let damaged = StoreError::Damaged { path: "x".into(), what: "flipped".into() };
    assert_eq!(Status::from(Problem::from(damaged)).code(), Code::DataLoss);
}
