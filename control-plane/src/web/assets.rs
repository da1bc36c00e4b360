//! The files of the page, as `control-plane/ui` builds them; `.ci/run ui` checks that they are what its sources make.

use std::sync::LazyLock;

use countersign_engine::snapshot::digest::Digest;

/// A file.
#[derive(Debug)]
pub(super) struct Asset {
    path: &'static str,
    /// Its content type.
    pub(super) kind: &'static str,
    /// What it holds.
    pub(super) bytes: &'static [u8],
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All of them. The script of the code editor is loaded when it is needed.
const ASSETS: [Asset; 5] = [
    Asset {
        path: "/",
        kind: "text/html; charset=utf-8",
        bytes: include_bytes!("../../ui/dist/index.html"),
    },
    Asset { path: "/app.js", kind: SCRIPT, bytes: include_bytes!("../../ui/dist/app.js") },
    Asset { path: "/editor.js", kind: SCRIPT, bytes: include_bytes!("../../ui/dist/editor.js") },
    Asset {
        path: "/app.css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("../../ui/dist/app.css"),
    },
    Asset {
        path: "/icon.svg",
        kind: "image/svg+xml",
        bytes: include_bytes!("../../ui/dist/icon.svg"),
    },
];

static ETAGS: LazyLock<Vec<(&'static str, String)>> = LazyLock::new(|| {
    let etag = |asset: &Asset| (asset.path, format!("\"{}\"", Digest::of(asset.bytes).to_hex()));
    ASSETS.iter().map(etag).collect()
});

impl Asset {
    /// Changes with its content.
    pub(super) fn etag(&self) -> &'static str {
        ETAGS.iter().find(|known| known.0 == self.path).map_or("", |known| &known.1)
    }
}

/// The file at a path.
pub(super) fn find(path: &str) -> Option<&'static Asset> {
    static ALL: [Asset; 5] = ASSETS;
    ALL.iter().find(|asset| asset.path == path || (path == "/index.html" && asset.path == "/"))
}
