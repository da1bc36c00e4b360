//! What a test config says about tokens.

use serde_json::Value;

use super::issuer::Setting;
use crate::diagnostic::Diagnostic;

/// What is served about tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenSettings {
    /// Serves `/.well-known/jwks.json` even where no key set was recorded.
    pub serve_jwks: bool,
    /// What recorded issuers become.
    pub(crate) issuer: Setting,
}

impl TokenSettings {
    /// Reads the section `responder` of a test config.
    pub(crate) fn parse(responder: Option<&Value>, found: &mut Vec<Diagnostic>) -> Self {
        let mut settings = Self::default();
        let get = |name: &str| responder.and_then(|responder| responder.get(name));
        match get("serveJwks") {
            None | Some(Value::Null) => {}
            Some(Value::Bool(serve)) => settings.serve_jwks = *serve,
            Some(_) => found.push(Diagnostic::error(
                "wrong_type",
                "responder.serveJwks",
                "`serveJwks` is true or false",
            )),
        }
        settings.issuer = Setting::parse(get("issuer"), found);
        settings
    }
}
