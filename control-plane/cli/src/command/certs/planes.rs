//! `countersign certs init` and `issue`: certificates with which control planes, responders and users know each other.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use clap::{Args, Subcommand};
use countersign_tls::{
    CertificateError,
    identity::{IdentityError, Role, TrustDomain},
    issue::{DAY, Issued, Leaf, NewAuthority, authority_in, issue},
};
use serde_json::json;

use crate::{
    failure::Failure,
    output::{Output, Style},
};

/// How long the authority lives, in days. Whoever trusts it has to be told of a new one.
const AUTHORITY_DAYS: u32 = 10 * 365;
/// The names of the machine itself, under which a control plane is reached by default.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// For the planes.
#[derive(Debug, Subcommand)]
pub(crate) enum PlanesCommand {
    /// Make an authority, and certificates for a control plane, responders and a user
    Init(InitArgs),
    /// Make one more certificate, or one anew, with the authority that `init` made
    Issue(IssueArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign certs init certs --host countersign.example.com
  countersign certs init certs --trust-domain prod.example.com --project shop --days 30

Each directory that it makes has ca.crt, tls.crt and tls.key, as in a Kubernetes secret. Whoever has ca/tls.key can make
certificates for everybody: keep it where no plane runs.")]
pub(crate) struct InitArgs {
    /// The directory; made when it is absent
    dir: PathBuf,

    /// What the planes of one fleet have in common
    #[arg(long, value_name = "DOMAIN", default_value = "countersign")]
    trust_domain: TrustDomain,

    /// A host name or address of the control plane, besides those of this machine; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,

    #[command(flatten)]
    life: Life,

    /// Make a new authority where there is one; whoever trusted the old one has to be given the new one
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign certs issue certs user/anna
  countersign certs issue certs responder/default/edge-1 --into edge-1
  countersign certs issue certs control-plane/main --host countersign.example.com --into certs/control-plane

A running process takes a certificate that was made anew over by itself.")]
pub(crate) struct IssueArgs {
    /// The directory that `init` has made
    dir: PathBuf,

    /// Whose it is: user/NAME, control-plane/NAME, responder/PROJECT/NAME, or responder/PROJECT for any name in that project
    #[arg(value_name = "IDENTITY")]
    role: Role,

    /// A host name or address under which it is reached; may be repeated. A control plane without any is reached on this machine
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,

    /// The directory of ca.crt, tls.crt and tls.key; below DIR by default, such as DIR/user-anna
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,

    /// The trust domain, if the authority was not made by `init`
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: Option<TrustDomain>,

    #[command(flatten)]
    life: Life,
}

#[derive(Debug, Args)]
struct Life {
    /// How many days certificates are good for
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

impl Life {
    fn ends(&self) -> SystemTime {
        SystemTime::now() + DAY * self.days
    }
}

/// Runs a command. `project` is the one whose responders get a certificate.
pub(crate) fn run(
    command: PlanesCommand,
    project: &str,
    out: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        PlanesCommand::Init(args) => init(&args, project, out)?,
        PlanesCommand::Issue(args) => one(args, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn init(args: &InitArgs, project: &str, out: &Output) -> Result<(), Failure> {
    let authority = args.dir.join("ca");
    let wanted = NewAuthority {
        name: "Countersign planes CA",
        life: DAY * AUTHORITY_DAYS,
        domain: Some(&args.trust_domain),
    };
    let made = authority_in(&authority, &wanted, args.force).map_err(|error| failure(&error))?;
    if !made.made {
        let there = CertificateError::InTheWay { path: authority };
        return Err(Failure::refused(there.to_string()));
    }
    let mut hosts = HERE.map(str::to_owned).to_vec();
    hosts.extend(args.hosts.iter().cloned());
    let project = project.strip_prefix("projects/").unwrap_or(project);
    let make = |role: &str, hosts: &[String], dir: &str| {
        let role: Role =
            role.parse().map_err(|error: IdentityError| Failure::refused(error.to_string()))?;
        let leaf = Leaf { role, hosts, ends: args.life.ends(), domain: None };
        issue(&authority, &leaf, &args.dir.join(dir)).map_err(|error| failure(&error))
    };
    let control_plane = make("control-plane/main", &hosts, "control-plane")?;
    let responder = make(&format!("responder/{project}"), &[], "responder")?;
    let user = make("user/admin", &[], "user")?;
    if out.is_json() {
        let all = [&control_plane, &responder, &user].map(view);
        out.json(&json!({"authority": made.certificate, "certificates": all}));
    } else {
        let host = args.hosts.first().map_or("localhost", String::as_str);
        out.text(&text(&made.certificate, [&control_plane, &responder, &user], host, out));
    }
    Ok(())
}

fn one(args: IssueArgs, out: &Output) -> Result<(), Failure> {
    let IssueArgs { dir, role, mut hosts, into, trust_domain, life } = args;
    if matches!(role, Role::ControlPlane { .. }) && hosts.is_empty() {
        hosts = HERE.map(str::to_owned).to_vec();
    }
    let into = into.unwrap_or_else(|| dir.join(role.to_string().replace('/', "-")));
    let leaf = Leaf { role, hosts: &hosts, ends: life.ends(), domain: trust_domain };
    let issued = issue(&dir.join("ca"), &leaf, &into).map_err(|error| failure(&error))?;
    if out.is_json() {
        out.json(&view(&issued));
    } else {
        out.text(&format!(
            "made a certificate for {}, good for {} days\n  certificate  {}\n  key          {}\n  authority    {}",
            issued.identity,
            life.days,
            issued.certificate.display(),
            issued.key.display(),
            issued.authority.display(),
        ));
    }
    Ok(())
}

fn failure(error: &CertificateError) -> Failure {
    let what = countersign_tls::chain(error);
    match error {
        CertificateError::Write { .. } | CertificateError::Make { .. } => Failure::failed(what),
        _ => Failure::refused(what),
    }
}

fn view(issued: &Issued) -> serde_json::Value {
    json!({
        "identity": issued.identity.to_string(),
        "certificate": issued.certificate,
        "key": issued.key,
        "authority": issued.authority,
    })
}

fn text(authority: &Path, made: [&Issued; 3], host: &str, out: &Output) -> String {
    let strong = |text: &str| out.paint(Style::Strong, text);
    let [control_plane, responder, user] = made;
    let files = |of: &Issued| {
        (
            of.authority.display().to_string(),
            of.certificate.display().to_string(),
            of.key.display().to_string(),
        )
    };
    let rows: String =
        made.map(|one| format!("  {}\n    {}\n", one.identity, files(one).1)).concat();
    let (ca, certificate, key) = files(control_plane);
    let mut text = format!(
        "\
made an authority and three certificates
  {}, whose key stays where no plane runs
{rows}
{}
  countersign-control-plane --listen 0.0.0.0:4180 --tls-cert {certificate} --tls-key {key} --client-ca {ca}",
        authority.display(),
        strong("start the planes, and talk to them, with"),
    );
    let (ca, certificate, key) = files(responder);
    text.push_str(&format!(
        "\n  countersign-responder --control-plane https://{host}:4180 --control-plane-ca {ca} --client-cert {certificate} --client-key {key}"
    ));
    let (ca, certificate, key) = files(user);
    text.push_str(&format!(
        "\n  export COUNTERSIGN_SERVER=https://{host}:4180 COUNTERSIGN_SERVER_CA={ca}\n  \
         export COUNTERSIGN_CLIENT_CERT={certificate} COUNTERSIGN_CLIENT_KEY={key}\n  \
         countersign responder list"
    ));
    text
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use clap::Parser;

    use super::*;
    use crate::{args::Cli, output::Format};

    fn certs(words: &[&str]) -> Result<(), Failure> {
        let line = [&["countersign", "certs"], words].concat();
        let cli = Cli::try_parse_from(line).map_err(|error| Failure::refused(error.to_string()))?;
        let crate::args::Command::Certs(args) = cli.command else { panic!("it is `certs`") };
        super::super::run(args, &cli.global, &Output::new(Format::Json)).map(drop)
    }

    #[test]
    fn an_authority_is_made_once_and_certificates_as_often_as_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("certs");
        let path = at.to_string_lossy().into_owned();
        let read = |name: &str| fs::read_to_string(at.join(name)).unwrap();
        certs(&["init", &path, "--host", "cp.example"]).unwrap();
        for holder in ["ca", "control-plane", "responder", "user"] {
            let mode = fs::metadata(at.join(holder).join("tls.key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{holder}");
        }
        assert_eq!(read("ca/tls.crt"), read("responder/ca.crt"));
        let again = certs(&["init", &path]).unwrap_err();
        assert!(again.exit_code() == 2 && again.render().contains("--force"), "{}", again.render());
        let before = read("user/tls.crt");
        certs(&["issue", &path, "user/admin", "--into", &format!("{path}/user")]).unwrap();
        assert_ne!(read("user/tls.crt"), before);
        certs(&["issue", &path, "responder/shop/one", "--days", "1"]).unwrap();
        assert!(at.join("responder-shop-one/tls.crt").is_file());
        let authority = read("ca/tls.crt");
        certs(&["init", &path, "--force"]).unwrap();
        assert_ne!(read("ca/tls.crt"), authority);
    }

    #[test]
    fn what_cannot_be_made_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("certs").to_string_lossy().into_owned();
        let absent = certs(&["issue", &path, "user/anna"]).unwrap_err();
        assert!(absent.exit_code() == 2 && absent.render().contains("certs/ca cannot be read"));
        let host = certs(&["init", &path, "--host", "a b"]).unwrap_err().render();
        assert!(host.contains("`a b` is no host name"), "{host}");
        for words in [
            &["init"][..],
            &["init", "x", "--trust-domain", "A B"],
            &["init", "x", "--days", "0"],
            &["issue", "x", "admin/anna"],
            &["--dir", "x", "init", "x"],
        ] {
            assert_eq!(certs(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
    }
}
