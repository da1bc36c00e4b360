//! Compiles the `.proto` files with protox, so that no `protoc` is needed, and writes the descriptor set for gRPC reflection.

use std::{env, error::Error, fs, path::PathBuf};

const ROOT: &str = "countersign";
const FILES: &[&str] = &[
    "countersign/type/v1/type.proto",
    "countersign/snapshot/v1/rrpair.proto",
    "countersign/snapshot/v1/explanation.proto",
    "countersign/snapshot/v1/bundle.proto",
    "countersign/transform/v1/transform.proto",
    "countersign/control/v1/lineage.proto",
    "countersign/control/v1/snapshot_service.proto",
    "countersign/control/v1/transform_service.proto",
    "countersign/control/v1/test_config_service.proto",
    "countersign/control/v1/replay_service.proto",
    "countersign/control/v1/inspect_service.proto",
    "countersign/control/v1/traffic_service.proto",
    "countersign/control/v1/console_service.proto",
    "countersign/control/v1/report_service.proto",
    "countersign/discovery/v1/discovery_service.proto",
    "countersign/discovery/v1/chunk_service.proto",
    "countersign/discovery/v1/tally_service.proto",
    "countersign/responder/v1/responder_service.proto",
    "countersign/responder/v1/admin_service.proto",
    "countersign/responder/v1/sequence_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;

    // The services' modules exist only with the `grpc` feature; messages never depend on tonic.
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::SmallBuffers")
        // Sorted, so that the same pair is always the same bytes: chunks are addressed by what they hold.
        .btree_map(".")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
