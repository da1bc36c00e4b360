//! The system through its sockets: real binaries, talked to as users talk to them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod algorithms;
mod bad_input;
mod calls;
mod chaos;
mod clients;
mod dev;
mod edits;
mod embedded;
mod export;
mod faults;
mod findings;
mod fleet_faults;
mod formats;
mod h2spec;
mod helm;
mod layering;
mod lineage;
mod mutual;
mod operations;
mod planes;
mod proxy;
mod push;
mod record;
mod recordings;
mod redaction;
mod replicas;
mod rollouts;
mod sequences;
mod sessions;
mod streams;
mod stubs;
mod swarm;
mod tidy;
mod tls;
mod token_world;
