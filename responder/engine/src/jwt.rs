//! Re-signing: a recorded JWS becomes a current one.

pub mod key;
