//! The data plane: serves recorded traffic with freshly signed tokens.
//!
//! A request takes three steps, which [`serve_request`] names: read, answer, write. Everything else prepares for it: [`subscription`] hears
//! what to serve, [`fetch`] gets the bytes, [`secrets`] the keys, and [`snapshots`] swaps both in. [`app`] wires them up.
//!
//! The request path takes no lock, reads no file and waits for nothing but the client.

mod admin;
mod api;
pub mod app;
pub mod certificates;
pub mod config;
pub mod control_plane;
mod drain;
mod entrances;
mod explanations;
mod fate;
mod fetch;
mod fields;
pub mod journal;
pub mod limits;
pub mod logging;
mod materials;
mod metrics;
mod overload;
pub mod passthrough;
mod pin;
mod readiness;
pub mod record;
pub mod recorder;
pub mod report;
mod room;
pub mod secrets;
mod seldom;
mod sequence;
mod serve_call;
mod serve_request;
mod serve_socket;
mod server;
#[cfg(fuzzing)]
pub use server::fuzz;
mod snapshots;
mod subscription;
mod supervise;
#[cfg(test)]
mod tests;
mod trace;
pub mod transport;
pub mod upstream;
