//! Matching, transforming and re-signing recorded traffic: pure domain code.
//!
//! The engine has no clock, socket, file, environment, thread or log. Bytes and values come in, bytes and values go out; time and keys are
//! handed in. Control plane and responder run this same code, so that a preview cannot drift from production.
//!
//! In reading order:
//!
//! 1. [`formats`] reads users' files into [`snapshot::RrPair`]s;
//! 2. [`transform`] reads a transform template into chains;
//! 3. [`compile`] runs the chains over the pairs once and leaves a compiled snapshot: an index of
//!    signatures, responses as recorded bytes, and the spans in them where tokens go;
//! 4. [`serving`] joins it with a node's key ring;
//! 5. [`answer`] is the main path: normalise, sign, look up, choose by who asks and whose turn it is ([`turns`]), splice.
//!
//! [`recording`] makes pairs of what went through a proxy of ours, and [`sending`] makes requests of recorded ones, for load generators.
//!
//! Beside it, [`lineage`] follows tokens through a recording and suggests the template that re-signs them.
//!
//! [`preview`] and [`explain`] tell what would happen and why, with the same code; [`sequences`] tells whose turn it is, and begins turns anew;
//! [`near_miss`] and [`witness`] tell what may be told of a request afterwards. Requests are counted by [`endpoints`], their times in a
//! [`histogram`].
//!
//! Whatever is wrong with a document is a [`diagnostic::Diagnostic`].

pub mod answer;
mod body;
mod chaos;
pub mod clock;
pub mod compile;
pub mod diagnostic;
pub mod dlp;
pub mod endpoints;
pub mod explain;
mod extra;
pub mod formats;
pub mod grpc;
pub mod histogram;
mod identity;
mod index;
mod json;
mod json_query;
pub mod jwt;
pub mod lineage;
pub mod near_miss;
mod pieces;
pub mod preview;
mod protobuf;
pub mod recording;
pub mod request;
mod scratch;
pub mod sending;
pub mod sequences;
pub mod serving;
mod signature;
pub mod snapshot;
mod stub;
mod sync;
pub mod test_config;
pub mod timing;
pub mod token_fault;
pub mod token_world;
pub mod transform;
pub mod turns;
pub mod witness;
mod xml;
