//! Logins: requests that say who asks without a token, and are answered with one.

use crate::{body, json, snapshot::HttpRequest};

/// Bodies that are larger name nobody.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// How a login names its user.
const USER_FIELDS: [&str; 9] = [
    "username",
    "user",
    "email",
    "login",
    "user_name",
    "userid",
    "account",
    "client_id",
    "clientid",
];

/// Stands for a request by which `user` logs in.
pub(super) fn key(request: &HttpRequest, user: &str) -> Option<u64> {
    let parts: [&[u8]; 5] = [
        request.method.as_bytes(),
        request.path.as_bytes(),
        request.query.as_bytes(),
        &request.body,
        user.as_bytes(),
    ];
    let key = super::credential::key(b'l', &parts);
    key.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The user that a login names in its body.
pub(super) fn user_in_body(body: &[u8]) -> Option<String> {
    let wanted = |name: &str| USER_FIELDS.iter().position(|field| name.eq_ignore_ascii_case(field));
    let mut best: Option<(usize, String)> = None;
    let mut offer = |name: &str, value: &str| {
        if let Some(rank) = wanted(name)
            && !value.is_empty()
            && best.as_ref().is_none_or(|best| rank < best.0)
        {
            best = Some((rank, value.chars().take(256).collect()));
        }
    };
    let body = body::unfolded(body);
    if body.len() > MAX_BODY {
        return None;
    }
    if matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
        let mut last = String::new();
        let visited = json::visit(&body, &mut |event| match event {
            json::Event::Name { name, .. } => name.clone_into(&mut last),
            json::Event::Scalar { kind: json::Kind::String | json::Kind::Number, span } => {
                let raw = body.get(span).unwrap_or_default();
                let text = String::from_utf8_lossy(raw);
                offer(&last, text.trim_matches('"'));
            }
            _ => {}
        });
        visited.ok()?;
    } else {
        for (name, value) in body::pairs(std::str::from_utf8(&body).ok()?.trim_ascii()) {
            offer(&name, &value);
        }
    }
    best.map(|best| best.1)
}
