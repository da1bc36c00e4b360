//! What `dev` tells when it serves.

use std::path::PathBuf;

use countersign_proto::{
    control::v1::{ListRecordsRequest, SecretStatus},
    snapshot::v1::RrPair,
};
use countersign_responder::{app::Mapped, transport::Identity};
use serde_json::{Value, json};

use super::{
    curl,
    session::{Current, Session},
};
use crate::{
    connect::Client,
    failure::Failure,
    output::{Output, Style},
    planes::Addresses,
    view::{self, View as _},
};

/// Larger recordings are not listed just to count their endpoints.
const RECORDS: usize = 5000;

/// Where everything is.
#[derive(Debug)]
pub(crate) struct Places {
    /// The listeners.
    pub(crate) addresses: Addresses,
    /// The keys.
    pub(crate) secret_dir: PathBuf,
    /// What TLS is answered with.
    pub(crate) tls: Option<Identity>,
    /// The ports that are mapped to hosts.
    pub(crate) mapped: Vec<Mapped>,
}

/// What is served, and where.
#[derive(Debug)]
pub(crate) struct Summary {
    places: Places,
    counts: String,
    endpoints: Option<usize>,
    records: Vec<RrPair>,
    secrets: Vec<SecretStatus>,
    snapshot: Value,
    replay: Value,
    serve: &'static str,
}

impl Summary {
    /// Asks for what is not known yet.
    pub(crate) async fn of(session: &Session, places: Places) -> Result<Self, Failure> {
        let Some(Current { snapshot, replay, serve }) = session.current() else {
            return Err(Failure::failed("nothing is served"));
        };
        let records = records(&session.client, &snapshot.name).await?;
        let complete = u64::try_from(records.len()).is_ok_and(|known| known == snapshot.pair_count);
        let records = curl::served(records, *serve);
        Ok(Self {
            places,
            counts: session.counts(),
            endpoints: complete.then(|| curl::endpoints(&records)),
            records,
            secrets: replay
                .responders
                .iter()
                .flat_map(|responder| responder.secrets.clone())
                .collect(),
            snapshot: snapshot.json(),
            replay: replay.json(),
            serve: view::serve(*serve),
        })
    }

    /// Writes it.
    pub(crate) fn print(&self, out: &Output) {
        if out.is_json() {
            out.json(&self.json());
            return;
        }
        let strong = |text: &str| out.paint(Style::Strong, text);
        let endpoints = self.endpoints.map_or_else(String::new, |count| match count {
            1 => " of 1 endpoint".to_owned(),
            _ => format!(" of {count} endpoints"),
        });
        let data = format!("http://{}", self.places.addresses.data);
        out.text(&format!("{} {}{endpoints}", out.paint(Style::Good, "serving"), self.counts));
        for secret in &self.secrets {
            out.text(&format!("  secret  {}", self.secret(secret, out)));
        }
        out.text(&format!("  data    listening on {}", strong(&data)));
        for line in self.transport() {
            out.text(&line);
        }
        let Addresses { admin, grpc, api, ui, .. } = self.places.addresses;
        out.text(&format!("  admin   listening on http://{admin} (/status /metrics /readyz)"));
        if let Some(api) = api {
            out.text(&format!("  api     listening on http://{api} (countersign.responder.v1)"));
        }
        out.text(&format!("  grpc    listening on http://{grpc} (for --server)"));
        if let Some(ui) = ui {
            out.text(&format!("  ui      listening on http://{ui}"));
        }
        let lines = curl::lines(&data, &self.records, out.is_watched());
        if !lines.is_empty() {
            out.text(&format!("\n{}", strong("try")));
            for line in lines {
                out.text(&format!("  {line}"));
            }
        }
        out.text("\nedited files are taken over; Ctrl-C ends");
    }

    /// How it is reached besides.
    fn transport(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(tls) = &self.places.tls {
            let address = self.places.addresses.data;
            let certificate = match tls {
                Identity::Authority(path) => {
                    format!("for any host; clients trust the CA in {}", path.display())
                }
                Identity::Certificate { certificate, .. } => {
                    format!("with {}", certificate.display())
                }
            };
            lines.push(format!("  tls     the same at https://{address} {certificate}"));
        }
        for Mapped { addr, host } in &self.places.mapped {
            lines.push(format!(
                "  {host} listening on http://{addr} (all requests there are for this host)"
            ));
        }
        lines
    }

    fn secret(&self, secret: &SecretStatus, out: &Output) -> String {
        let called = secret.r#ref.as_ref().map(view::secret).unwrap_or_default();
        let place = self.places.secret_dir.join(&called);
        if secret.resolved {
            let thumbprint = if secret.thumbprint.is_empty() {
                String::new()
            } else {
                format!(", thumbprint {}", secret.thumbprint)
            };
            return format!("{called}: {}{thumbprint}", secret.kind);
        }
        let unusable = out.paint(Style::Odd, &format!("{called}: {}", secret.error));
        format!("{unusable}; tokens are served as recorded until {} holds a key", place.display())
    }

    fn json(&self) -> Value {
        let api = self.places.addresses.api.map(|api| format!("http://{api}"));
        json!({
            "api": api,
            "address": format!("http://{}", self.places.addresses.data),
            "admin": format!("http://{}", self.places.addresses.admin),
            "ui": self.places.addresses.ui.map(|ui| format!("http://{ui}")),
            "server": format!("http://{}", self.places.addresses.grpc),
            "tls": self.places.tls.is_some(),
            "maps": self.places.mapped.iter().map(|map| {
                json!({ "address": map.addr.to_string(), "host": map.host })
            }).collect::<Vec<_>>(),
            "serve": self.serve,
            "endpoints": self.endpoints,
            "snapshot": self.snapshot,
            "replay": self.replay,
        })
    }
}

/// The first pairs of a snapshot.
async fn records(client: &Client, snapshot: &str) -> Result<Vec<RrPair>, Failure> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListRecordsRequest { parent: snapshot.to_owned(), page_size: 1000, page_token };
        let page = client.snapshots().list_records(request).await;
        let page = page.map_err(Failure::rpc("list the recorded pairs"))?.into_inner();
        found.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() || found.len() >= RECORDS {
            return Ok(found);
        }
    }
}
