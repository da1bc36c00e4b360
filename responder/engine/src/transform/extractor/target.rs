//! `target_hostname` and `target_port`: where the request goes. It is in no signature, so a change matters to what is passed through only.

use std::sync::Arc;

use super::{Extract, Extractor, not_found, other_side};
use crate::{
    diagnostic::Diagnostics,
    request::without_port,
    transform::{Side, Step, message::Message, op::StepError, world::Scope},
};

#[derive(Debug)]
enum Target {
    Hostname,
    Port,
}

#[expect(clippy::unnecessary_wraps, reason = "all extractors are parsed alike")]
pub(super) fn parse_hostname(
    _step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Extractor> {
    Some(Arc::new(Target::Hostname))
}

#[expect(clippy::unnecessary_wraps, reason = "all extractors are parsed alike")]
pub(super) fn parse_port(
    _step: &mut Step<'_>,
    _path: &str,
    _found: &mut Diagnostics,
) -> Option<Extractor> {
    Some(Arc::new(Target::Port))
}

impl Extract for Target {
    fn side(&self) -> Side {
        Side::Request
    }

    fn read(&self, message: &Message<'_>, _scope: &mut Scope) -> Result<Vec<u8>, StepError> {
        let Message::Request(parts) = message else { return Err(other_side()) };
        let host = without_port(&parts.upstream);
        let text = match self {
            Self::Hostname => Some(host),
            Self::Port => parts.upstream.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')),
        };
        let text = text.filter(|text| !text.is_empty());
        text.map(|text| text.as_bytes().to_vec()).ok_or_else(|| not_found("target"))
    }

    fn write(
        &self,
        message: &mut Message<'_>,
        value: Vec<u8>,
        _scope: &mut Scope,
    ) -> Result<(), StepError> {
        let Message::Request(parts) = message else { return Err(other_side()) };
        let value = String::from_utf8(value)
            .map_err(|_| StepError::new("bad_target", "the target is no UTF-8"))?;
        let host = without_port(&parts.upstream);
        parts.upstream = match self {
            Self::Hostname => {
                format!("{value}{}", parts.upstream.strip_prefix(host).unwrap_or_default())
            }
            Self::Port if value.parse::<u16>().is_ok() => format!("{host}:{value}"),
            Self::Port => {
                return Err(StepError::new("bad_target", "target_port: the result is no port"));
            }
        };
        Ok(())
    }
}
