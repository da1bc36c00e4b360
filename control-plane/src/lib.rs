//! The control plane: stores, validates and announces snapshots, transforms, test configs and replays.

pub mod import;
pub mod store;
