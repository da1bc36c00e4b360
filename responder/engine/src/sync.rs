//! The atomics that threads share as they take turns: those of the standard library, or loom's where a model runs every order in which threads
//! can meet (`.ci/run model`). Loom's work in a model only, so that the library itself never has them.

#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
