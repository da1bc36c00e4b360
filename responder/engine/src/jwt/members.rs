//! The top-level members of a JSON object, by byte span, within bounds.

use std::{collections::BTreeSet, ops::Range};

use jiter::{Jiter, Peek};

use super::token::TokenError;
use crate::json::Kind;

/// A member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) value: Range<usize>,
    pub(super) kind: Kind,
}

const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 10_000;

/// Reads the members of an object. Two members of one name are an error: readers disagree on which one counts.
pub(super) fn of(object: &[u8]) -> Result<Vec<Member>, TokenError> {
    bounded(object)?;
    let malformed = |_| TokenError::Malformed("a part is no JSON object");
    std::str::from_utf8(object).map_err(|_| TokenError::Malformed("a part is not UTF-8"))?;
    let mut reader = Jiter::new(object);
    let mut members: Vec<Member> = Vec::new();
    // A set, for a token may have thousands of members and is read once per request in some chains.
    let mut names = BTreeSet::new();
    let mut name = reader.next_object().map_err(malformed)?.map(str::to_owned);
    while let Some(found) = name {
        if !names.insert(found.clone()) {
            return Err(TokenError::DuplicateMember);
        }
        let peek = reader.peek().map_err(malformed)?;
        let start = reader.current_index();
        reader.known_skip(peek).map_err(malformed)?;
        let kind = match peek {
            Peek::Null => Kind::Null,
            Peek::True | Peek::False => Kind::Bool,
            Peek::String => Kind::String,
            Peek::Array => Kind::Array,
            Peek::Object => Kind::Object,
            _ => Kind::Number,
        };
        members.push(Member { name: found, value: start..reader.current_index(), kind });
        name = reader.next_key().map_err(malformed)?.map(str::to_owned);
    }
    reader.finish().map_err(malformed)?;
    Ok(members)
}

/// Refuses what is nested too deeply or has too many values, before anything walks it.
fn bounded(json: &[u8]) -> Result<(), TokenError> {
    let (mut depth, mut nodes, mut text, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b'{' | b'[' if !text => {
                depth += 1;
                nodes += 1;
            }
            b'}' | b']' if !text => depth = depth.saturating_sub(1),
            b',' if !text => nodes += 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(TokenError::Limit("depth"));
        }
        if nodes > MAX_NODES {
            return Err(TokenError::Limit("nodes"));
        }
    }
    Ok(())
}
