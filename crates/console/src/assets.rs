//! Style sheet, script and icon, as parts of the program. The address of each has a hash of its content, so browsers
//! keep them for good and load new ones after an update.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use sha2::{Digest, Sha256};

use crate::visit::Console;
use keyward_api::handler::get;

/// A file that pages load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asset {
    stem: &'static str,
    extension: &'static str,
    media_type: &'static str,
    content: &'static str,
}

pub(crate) const STYLE: Asset = Asset {
    stem: "console",
    extension: "css",
    media_type: "text/css; charset=utf-8",
    content: include_str!("assets/console.css"),
};
pub(crate) const SCRIPT: Asset = Asset {
    stem: "console",
    extension: "js",
    media_type: "text/javascript; charset=utf-8",
    content: include_str!("assets/console.js"),
};
pub(crate) const ICON: Asset = Asset {
    stem: "icon",
    extension: "svg",
    media_type: "image/svg+xml",
    content: include_str!("assets/icon.svg"),
};

/// The path of each asset.
static PATHS: LazyLock<[(String, Asset); 3]> =
    LazyLock::new(|| [STYLE, SCRIPT, ICON].map(|asset| (asset.hashed(), asset)));

impl Asset {
    fn hashed(self) -> String {
        let mut path = format!("/assets/{}-", self.stem);
        for byte in &Sha256::digest(self.content)[..8] {
            // Writing to a string does not fail.
            let _ = write!(path, "{byte:02x}");
        }
        path + "." + self.extension
    }

    /// Where pages load it from.
    pub(crate) fn path(self) -> &'static str {
        let own = |(_, other): &&(String, Asset)| other.extension == self.extension;
        PATHS.iter().find(own).map(|(path, _)| path.as_str()).unwrap_or_default()
    }
}

pub(crate) fn routes() -> Router<Console> {
    Router::new().route("/assets/{file}", get(serve))
}

async fn serve(Path(file): Path<String>) -> Response {
    let found = PATHS.iter().find(|(path, _)| path.strip_prefix("/assets/") == Some(&*file));
    match found {
        Some((_, asset)) => {
            let fields = [
                (header::CONTENT_TYPE, asset.media_type),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ];
            (fields, asset.content).into_response()
        }
        None => (StatusCode::NOT_FOUND, "There is no such file.").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visit::WHOLE;
    use keyward_api::auth::RENEWAL_FIELD;

    #[test]
    fn the_script_marks_its_own_requests_with_the_field_that_the_api_knows() {
        let script = SCRIPT.content.to_ascii_lowercase();
        assert_eq!(script.matches(RENEWAL_FIELD).count(), 1, "its name stands once");
        assert!(script.contains(&format!("'{WHOLE}'")));
    }
}
