//! The real binaries. `cargo test` does not build those of other packages, so they are built once, beside the test itself; unless
//! `COUNTERSIGN_BINARIES` names a directory that holds them.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The path of a binary, freshly built.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).join(name)
}

fn build() -> PathBuf {
    if let Some(dir) = std::env::var_os("COUNTERSIGN_BINARIES") {
        return dir.into();
    }
    // Tests run as target/<profile>/deps/system-<hash>, the bench as target/<profile>/bench.
    let own = std::env::current_exe().expect("a program has a path");
    let dir = own.parent().expect("a program lies in a directory");
    let profile = if dir.ends_with("deps") { dir.parent() } else { Some(dir) };
    let profile = profile.expect("a profile lies in target").to_path_buf();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--workspace", "--bins"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    cargo.arg("--target-dir").arg(profile.parent().expect("a profile lies in target"));
    let name = profile.file_name().expect("a profile has a name");
    cargo.arg("--profile").arg(if name == "debug" { "dev".as_ref() } else { name });
    // Cargo tells its children how they were built; a nested build must not hear that.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_")
            || name == "CARGO_MANIFEST_DIR"
            || name == "CARGO_MANIFEST_PATH"
        {
            cargo.env_remove(name);
        }
    }
    assert!(cargo.status().expect("cargo runs").success(), "the binaries do not build");
    profile
}
