//! Every command on every page is run, or says beside it why it is not.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

use harness::{
    binaries,
    kubernetes::Cluster,
    notice,
    pages::{self, Outcome, Page, Place},
};

use super::root;

/// Programs that pages use under their usual names.
fn tools(dir: &Path, cluster: Option<&Cluster>) -> Vec<PathBuf> {
    let link = |name: &str, to: &Path| symlink(to, dir.join(name)).unwrap();
    let python = std::env::var_os("COUNTERSIGN_PYTHON").map(PathBuf::from);
    for name in ["python", "python3"] {
        if let Some(python) = &python {
            // A virtual environment is found by where its program lies, so that a link would lose it.
            let script = format!("#!/bin/sh\nexec \"{}\" \"$@\"\n", python.display());
            std::fs::write(dir.join(name), script).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(dir.join(name), mode).unwrap();
        }
    }
    if let Some(grpcurl) = std::env::var_os("COUNTERSIGN_GRPCURL") {
        link("grpcurl", Path::new(&grpcurl));
    }
    if let Some(cluster) = cluster {
        for name in ["kubectl", "helm"] {
            link(name, &cluster.binaries().join(name));
        }
    }
    let ours = binaries::path("countersign").parent().unwrap().to_owned();
    vec![dir.to_owned(), ours]
}

/// Where pages are run; `dir` gets the programs.
pub(super) fn place(dir: &Path, cluster: Option<&Cluster>) -> Place {
    let modules = std::env::var("COUNTERSIGN_NODE_MODULES").unwrap_or_default();
    Place {
        root: root(),
        programs: tools(dir, cluster),
        variables: vec![("NODE_MODULES".to_owned(), modules)],
        cluster: false,
        isolated: pages::can_isolate(),
    }
}

/// The ports that pages use have to be free where all share one network.
fn are_free(ports: &[u16]) -> bool {
    ports.iter().all(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
}

/// A namespace of the page's own, to which kubectl and helm are set.
fn in_namespace(cluster: &Cluster, dir: &Path) -> Vec<(String, String)> {
    let namespace = cluster.namespace("book");
    let config = dir.join(&namespace);
    std::fs::copy(cluster.kubeconfig(), &config).unwrap();
    let arguments = ["config", "set-context", "--current", "--namespace", &namespace];
    drop(cluster.kubectl_as(&config, &arguments).ok());
    let pair = |name: &str, value: &Path| (name.to_owned(), value.to_string_lossy().into_owned());
    vec![
        pair("KUBECONFIG", &config),
        pair("HELM_CACHE_HOME", &dir.join("helm")),
        ("NAMESPACE".to_owned(), namespace),
    ]
}

fn read_all() -> Vec<Page> {
    let only = std::env::var("COUNTERSIGN_PAGE").ok();
    super::pages()
        .into_iter()
        .filter(|(name, _)| only.as_ref().is_none_or(|only| name.contains(only)))
        .map(|(name, text)| pages::read(&name, &text).unwrap())
        .filter(Page::is_runnable)
        .collect()
}

/// Runs pages side by side where each has a network of its own. A page about a cluster has to reach its API, and goes alone.
fn run_all(pages: &[Page], place: &Place, clustered: Option<&impl Fn() -> Place>) -> Outcome {
    let sum = Mutex::new(Outcome::default());
    let add = |page: &Page, one: Outcome| {
        notice(&format!("{}: {} blocks were run", page.name, one.run));
        let mut sum = sum.lock().unwrap();
        sum.run += one.run;
        sum.marked.extend(one.marked);
        sum.wanting.extend(one.wanting);
        sum.wrong.extend(one.wrong);
    };
    let alone = |page: &Page| clustered.is_some() && page.is_about_a_cluster();
    let queue = Mutex::new(pages.iter().filter(|page| !alone(page)).collect::<Vec<_>>());
    let work = || {
        loop {
            let Some(page) = queue.lock().unwrap().pop() else { break };
            add(page, pages::run(page, place));
        }
    };
    let workers = if place.isolated { 3 } else { 1 };
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    if let Some(clustered) = clustered {
        for page in pages.iter().filter(|page| alone(page)) {
            add(page, pages::run(page, &clustered()));
        }
    }
    sum.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_pages_does_what_they_say() {
    let all = read_all();
    let wants_cluster = all.iter().any(Page::is_about_a_cluster);
    let cluster = if wants_cluster { Cluster::start().await } else { None };
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path(), cluster);
    if !place.isolated {
        notice(
            "there is no network namespace, pages are run one after the other on the usual ports",
        );
    }
    if !place.isolated || cluster.is_some() {
        assert!(are_free(&[4140, 4141, 4180]), "something else has the usual ports");
    }
    let clustered = cluster.map(|cluster| {
        || Place {
            variables: [place.variables.clone(), in_namespace(cluster, dir.path())].concat(),
            cluster: true,
            isolated: false,
            ..place.clone()
        }
    });
    let outcome = run_all(&all, &place, clustered.as_ref());
    let Outcome { run, marked, wanting, wrong } = outcome;
    notice(&format!(
        "{run} blocks of {} pages were run; {} say that they cannot be:\n{}",
        all.len(),
        marked.len(),
        marked.join("\n")
    ));
    if !wanting.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "CI has to have everything: {wanting:?}");
        notice(&format!("not run, for want of something:\n{}", wanting.join("\n")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What the walk over the pages is worth: each slip of a page is found.
#[test]
fn a_page_that_is_wrong_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path(), None);
    let wrong = |text: &str| pages::run(&pages::read("p.md", text).unwrap(), &place).wrong;
    assert!(wrong("```sh\ncountersign --version\n```\n").is_empty());
    for text in [
        "```sh\ncountersign no-such-command\n```\n",
        "```sh\nno-such-program-at-all\n```\n",
        "```sh\nfalse\ntrue\n```\n",
        "```console\n$ echo a\nb\n```\n",
        "```console\n$ echo a\n```\n",
        "```sh,fails\ntrue\n```\n",
        "```sh,serves=4140\ntrue\n```\n",
        "```python\nraise SystemExit(1)\n```\n",
    ] {
        assert_eq!(wrong(text).len(), 1, "{text}");
    }
    let served = "```sh,serves=4999\necho hello; exec python -m http.server 4999 --bind 127.0.0.1\n```\n```text,printed\n";
    assert!(wrong(&format!("{served}hello\n```\n")).is_empty());
    assert_eq!(wrong(&format!("{served}goodbye\n```\n")).len(), 1);
}
