//! Drives a recording against a service under test, or straight at the responders, and says how it did.
//!
//! In reading order:
//!
//! 1. [`recording`] makes sessions of recorded pairs: what one user sends in recorded order, what of each answer goes into later requests,
//!    and what was answered then;
//! 2. [`schedule`] says when requests are to begin, and how many users act at a time;
//! 3. [`run`] sends them, one thread a core, and measures from the moment a request was to begin, so that a server that stalls cannot
//!    hide behind requests that were never sent (coordinated omission);
//! 4. [`compare`] holds answers against the recorded ones;
//! 5. [`report`] and [`goal`] tell what came of it.
//!
//! No token and no body is in any report, unless whoever runs it asks for that.

pub mod compare;
pub mod config;
mod connect;
pub mod goal;
mod measure;
mod number;
pub mod recording;
pub mod report;
pub mod run;
pub mod schedule;
mod state;

pub use connect::{Protocol, Target, TargetError, TlsError, tls};
pub use measure::{Counts, Endpoint, Progress, Second, Totals};
pub use rustls::ClientConfig;
