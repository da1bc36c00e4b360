//! Requests to real hosts: whom they may reach, how they are sent, and what of a message goes on from one connection to the next.
//!
//! A name is resolved once for each connection; the connection goes to an address that was checked, so that what a name means cannot change
//! in between. Redirects are not followed: they are the client's to follow.

pub mod client;
pub(crate) mod connect;
pub(crate) mod hop;
pub mod policy;
pub(crate) mod relay;
