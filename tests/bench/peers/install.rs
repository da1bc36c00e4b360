//! Getting peers from their registries, once, below `target/peers`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

const WIREMOCK: &str = "wiremock@3.13.2";
const MOUNTEBANK: &str = "mountebank@2.9.1";
/// The version of the library; the Hoverfly in it is 1.10.
const HOVERFLY: &str = "0.20.2";
const HOVERFLY_BINARY: &str = "hoverfly_linux_amd64";

/// Where peers live.
#[derive(Debug)]
pub(crate) struct Place {
    root: PathBuf,
}

impl Place {
    pub(super) fn new(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers");
        let root = dir.unwrap_or(target);
        fs::create_dir_all(&root)?;
        Ok(Self { root: root.canonicalize()? })
    }

    /// A file for a peer's settings.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The jar of WireMock, as its npm package brings it.
    pub(super) fn wiremock(&self) -> anyhow::Result<PathBuf> {
        let package = self.npm(WIREMOCK)?;
        let jar = find(&package, &|path| path.extension().is_some_and(|end| end == "jar"));
        jar.context("the package has no jar")
    }

    /// The script that starts mountebank.
    pub(super) fn mountebank(&self) -> anyhow::Result<PathBuf> {
        Ok(self.npm(MOUNTEBANK)?.join("bin/mb"))
    }

    /// Hoverfly, as it is found or as its library for Java brings it.
    pub(super) fn hoverfly(&self) -> anyhow::Result<PathBuf> {
        if let Some(found) = on_path("hoverfly") {
            return Ok(found);
        }
        let dir = self.root.join("hoverfly");
        let program = dir.join("binaries").join(HOVERFLY_BINARY);
        if !program.is_file() {
            let mut maven = Command::new("mvn");
            maven.args(["-q", "-B", "dependency:copy"]);
            maven.arg(format!("-Dartifact=io.specto:hoverfly-java:{HOVERFLY}"));
            maven.arg(format!("-DoutputDirectory={}", dir.display()));
            run(&mut maven)?;
            let jar = dir.join(format!("hoverfly-java-{HOVERFLY}.jar"));
            let member = format!("binaries/{HOVERFLY_BINARY}");
            run(Command::new("jar").current_dir(&dir).arg("xf").arg(jar).arg(member))?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        }
        Ok(program)
    }

    fn npm(&self, package: &str) -> anyhow::Result<PathBuf> {
        let (name, _) = package.split_once('@').context("a version")?;
        let prefix = self.root.join(name);
        let module = prefix.join("node_modules").join(name);
        if !module.is_dir() {
            let mut npm = Command::new("npm");
            npm.args(["install", "--silent", "--no-save", "--prefix"]).arg(&prefix).arg(package);
            run(&mut npm)?;
        }
        Ok(module)
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    let told = String::from_utf8_lossy(&out.stderr);
    let last = told.lines().last().unwrap_or_default();
    anyhow::ensure!(out.status.success(), "{command:?}: {last}");
    Ok(())
}

/// A program that the shell would find.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut all = std::env::split_paths(&path).map(|dir| dir.join(name));
    all.find(|candidate| candidate.is_file())
}

fn find(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let found = files.into_iter().find(|path| wanted(path));
    found.or_else(|| dirs.iter().find_map(|dir| find(dir, wanted)))
}
