//! The header fields of recorded requests that credentials may be in, in the form that live requests have.
//!
//! A recording has few names of fields and uses them again and again, so each is looked at once.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{credential::names_credential, mark::may_hold_token};
use crate::snapshot::Header;

/// So many names are known at a time.
const MAX_NAMES: usize = 1024;

/// Makes fields, with room that is used again.
#[derive(Debug, Default)]
pub(super) struct Telling {
    names: HashMap<Box<str>, Option<Name>, rapidhash::fast::RandomState>,
    fields: HeaderMap,
}

/// What is known of a name; `None` when it cannot be one.
#[derive(Debug, Clone)]
struct Name {
    name: HeaderName,
    /// Whatever its value is, it matters.
    tells: bool,
}

impl Telling {
    /// Those of these fields that may tell who asks, or how the body is to be read.
    pub(super) fn of(&mut self, recorded: &[Header]) -> &HeaderMap {
        self.fields.clear();
        for field in recorded {
            if !self.names.contains_key(&*field.name) {
                if self.names.len() == MAX_NAMES {
                    self.names.clear();
                }
                self.names.insert((&*field.name).into(), Name::of(&field.name));
            }
            let Some(Some(name)) = self.names.get(&*field.name) else { continue };
            if (name.tells || may_hold_token(&field.value))
                && let Ok(value) = HeaderValue::from_maybe_shared(field.value.clone())
            {
                self.fields.append(name.name.clone(), value);
            }
        }
        &self.fields
    }
}

impl Name {
    fn of(name: &str) -> Option<Self> {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let tells = [header::AUTHORIZATION, header::COOKIE, header::CONTENT_TYPE].contains(&name)
            || names_credential(name.as_str());
        Some(Self { name, tells })
    }
}
