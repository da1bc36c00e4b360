//! The contract of re-signing, which the compiler is written against; every token is refused until it is fulfilled.
#![allow(missing_docs, unused, clippy::all)]
pub mod alg;
pub mod key;
use crate::diagnostic::Diagnostics;
use std::{collections::BTreeMap, sync::Arc};
#[derive(Debug, Clone)]
pub enum KeySource {
    Secret(key::SecretRef),
    Inline(Arc<key::SigningKey>),
}
#[derive(Debug, Clone)]
pub struct ResignConfig {
    pub secret: KeySource,
}
impl ResignConfig {
    pub fn parse(
        config: &BTreeMap<String, String>,
        path: &str,
        out: &mut Diagnostics,
    ) -> Option<Self> {
        Some(Self {
            secret: KeySource::Secret(key::SecretRef {
                secret: "jwt-demo".into(),
                key: "tls.key".into(),
            }),
        })
    }
}
#[derive(Debug, Clone)]
pub struct TokenSlot(KeySource);
#[derive(Debug, Clone, thiserror::Error)]
#[error("x")]
pub struct TokenError;
impl TokenError {
    pub fn code(&self) -> &'static str {
        "x"
    }
}
pub struct Times {
    pub iat: Option<i64>,
    pub exp: Option<i64>,
    pub recorded_iat: Option<i64>,
    pub recorded_exp: Option<i64>,
}
impl TokenSlot {
    pub fn new(
        token: &[u8],
        config: &Arc<ResignConfig>,
        at: Option<i64>,
    ) -> Result<Self, TokenError> {
        Err(TokenError)
    }
    pub fn render(
        &self,
        now: i64,
        key: &key::SigningKey,
        out: &mut Vec<u8>,
    ) -> Result<(), key::KeyError> {
        Ok(())
    }
    pub fn times(&self, now: i64) -> Times {
        Times { iat: None, exp: None, recorded_iat: None, recorded_exp: None }
    }
    pub fn lifetime_change(&self) -> Option<i64> {
        None
    }
    pub fn secret(&self) -> &KeySource {
        &self.0
    }
    pub fn alg(&self) -> alg::Alg {
        alg::Alg::Hs256
    }
}
