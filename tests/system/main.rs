//! The system through its sockets: real binaries, talked to as users talk to them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking"
)]

mod layering;
mod tidy;
