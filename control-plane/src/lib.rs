//! The control plane: stores, validates and announces snapshots, transforms, test configs and replays.
//!
//! It announces, it does not carry: responders subscribe and hear digests; bytes come by digest over another call; the mocked traffic never
//! passes here. In reading order:
//!
//! 1. [`config`] → [`app`]: settings, wiring, server;
//! 2. [`auth`]: who calls; `service`: the gRPC services, what stands before them, and errors as they meet the outside;
//! 3. [`import`]: uploads become chunks; `validate` judges users' documents with the engine;
//! 4. [`publish`], [`rollout`] and [`fleet`]: what is announced, how it gets to be served, and what responders made of it;
//! 5. `web`: the page, and the same services for it;
//! 6. [`store`] and [`content`]: records, blobs, and what the blobs hold; [`sweep`] removes, [`operate`] is for operators.

mod admin;
pub mod app;
mod audit;
pub mod auth;
mod code;
pub mod config;
mod connections;
pub mod content;
pub mod fleet;
mod held;
pub mod import;
mod lock;
mod metrics;
pub mod operate;
pub mod publish;
pub mod rollout;
mod scrub;
mod service;
pub mod store;
mod storing;
pub mod sweep;
#[cfg(test)]
mod tests;
mod turns;
mod validate;
mod web;
