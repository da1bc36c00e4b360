//! The contract between the planes: messages always, clients and servers with the `grpc` feature.
//!
//! Wire types stay at the edges: the engine's `snapshot::wire`, the services, the subscription, the CLI and tests.

#[cfg(feature = "grpc")]
pub mod codec;

macro_rules! package {
    ($area:ident, $file:literal) => {
        #[allow(
            missing_docs,
            clippy::all,
            clippy::restriction,
            clippy::pedantic,
            clippy::nursery,
            reason = "generated code"
        )]
        pub mod $area {
            #[allow(missing_docs, clippy::all, reason = "generated code")]
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/", $file, ".rs"));
            }
        }
    };
}

package!(r#type, "countersign.r#type.v1");
package!(snapshot, "countersign.snapshot.v1");
package!(transform, "countersign.transform.v1");
package!(control, "countersign.control.v1");
package!(discovery, "countersign.discovery.v1");
package!(responder, "countersign.responder.v1");

/// The encoded `FileDescriptorSet` of all packages, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
