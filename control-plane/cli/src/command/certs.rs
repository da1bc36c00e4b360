//! `countersign certs`: the certificate authority whose certificates `dev` and responders answer TLS with, and how to trust it. Those of the
//! planes among themselves are made by its subcommands.

mod planes;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use countersign_responder::certificates::make::{AuthorityFiles, authority_in};
use serde_json::json;

use crate::{
    args::Global,
    failure::Failure,
    output::{Output, Style},
};

/// Makes an authority.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  countersign certs                          # for `countersign dev --tls`
  countersign certs --dir ./ca --force       # for `countersign-responder --tls-ca ./ca`
  countersign certs init ./certs             # for control planes and responders among themselves
  kubectl create secret tls countersign-ca --cert ca/tls.crt --key ca/tls.key

Whoever has tls.key can pretend to be any host to those who trust tls.crt: make one for each machine or
cluster, trust it in tests only, and keep the key where it is. A running process takes a new one over."
)]
pub(crate) struct CertsArgs {
    #[command(subcommand)]
    planes: Option<planes::PlanesCommand>,

    /// The directory of tls.crt and tls.key; $XDG_CONFIG_HOME/countersign/ca or ~/.config/countersign/ca by default
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Make a new one where there is one; clients have to trust it anew
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) fn run(args: CertsArgs, global: &Global, out: &Output) -> Result<ExitCode, Failure> {
    if let Some(command) = args.planes {
        return planes::run(command, &global.project, out);
    }
    let dir = args.dir.clone().map_or_else(default_dir, Ok)?;
    let files = make(&dir, args.force)?;
    if out.is_json() {
        out.json(&json!({
            "certificate": files.certificate,
            "key": files.key,
            "made": files.made,
        }));
    } else {
        out.text(&text(&files, args.dir.is_none(), out));
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the authority unless there is one.
pub(crate) fn make(dir: &Path, force: bool) -> Result<AuthorityFiles, Failure> {
    authority_in(dir, force).map_err(|error| Failure::chain(&error))
}

/// Where the authority of this user lies.
pub(crate) fn default_dir() -> Result<PathBuf, Failure> {
    let absolute =
        |name: &str| env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    absolute("XDG_CONFIG_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".config")))
        .map(|config| config.join("countersign").join("ca"))
        .ok_or_else(|| Failure::refused("there is no home directory; name one with --dir"))
}

fn text(files: &AuthorityFiles, is_default: bool, out: &Output) -> String {
    let strong = |text: &str| out.paint(Style::Strong, text);
    let certificate = files.certificate.display();
    let dir = files.certificate.parent().unwrap_or_else(|| Path::new("."));
    let dev = if is_default { "--tls".to_owned() } else { format!("--tls-ca {}", dir.display()) };
    let made = if files.made { "made" } else { "there is" };
    let store = dir.join("truststore.p12");
    let store = store.display();
    format!(
        "\
{made} a certificate authority
  certificate  {certificate}
  key          {}, which stays here

{}
  countersign dev RECORDING {dev}
  countersign-responder … --tls-ca {}

{}
  curl             curl --cacert {certificate} https://…
  Go, OpenSSL      export SSL_CERT_FILE={certificate}
  Python requests  export REQUESTS_CA_BUNDLE={certificate}
  Node.js          export NODE_EXTRA_CA_CERTS={certificate}
  Java             keytool -importcert -noprompt -alias countersign -file {certificate} -keystore {store} -storetype PKCS12 -storepass changeit
                   export JAVA_TOOL_OPTIONS=\"-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword=changeit\"",
        files.key.display(),
        strong("serve with it"),
        dir.display(),
        strong("trust it, in what calls the mock"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn it_tells_how_to_trust_what_it_made() {
        let dir = tempfile::tempdir().unwrap();
        let files = make(dir.path(), false).unwrap();
        assert!(files.made && !make(dir.path(), false).unwrap().made);
        let text = text(&files, false, &Output::new(Format::Json));
        let certificate = files.certificate.display().to_string();
        assert!(text.matches(&certificate).count() >= 6, "{text}");
        assert!(text.contains(&format!("--tls-ca {}", dir.path().display())), "{text}");
        let failure = make(Path::new("/dev/null/ca"), false).unwrap_err();
        assert!(failure.render().contains("/dev/null/ca"), "{}", failure.render());
    }
}
