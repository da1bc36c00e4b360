//! Re-signing: a recorded JWS becomes a current one.
//!
//! [`ResignConfig`] is what an operator wrote, [`TokenSlot`] is one recorded token under it with everything done that can be done
//! before the moment and the key are known. Bytes of the recorded header and claims that need not change do not change.
//!
//! Text inside a token is data: placeholders in it are never resolved, `jku` and `x5u` are never followed, `kid` is never a path.

pub mod alg;
mod claims;
mod config;
mod describe;
mod door;
pub mod inline;
pub mod key;
mod members;
mod moment;
mod presented;
mod slot;
mod token;
pub mod trusted;

pub use self::{
    config::{KeySource, ResignConfig, TimeClaims},
    door::Door,
    slot::{Times, TokenSlot},
    token::TokenError,
};
pub(crate) use self::{
    describe::{describe, distance},
    presented::Presented,
};

/// Why a text could not be re-signed, whatever the config; `None` when it could.
pub(crate) fn refusal(token: &[u8]) -> Option<TokenError> {
    token::Token::parse(token).err()
}
