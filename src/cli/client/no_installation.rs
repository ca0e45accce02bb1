//! [`NoInstallation`]: answers the admin API if there is no store and no gateway runs. Reads come from an empty store
//! in memory and create no file. [`adds`] says which request needs the data directory.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request};
use rustix::fs::Access;

use super::in_process::{InProcessApi, is_of_ca};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::settings::Global;
use keyward_api::{Admin, socket_router};
use keyward_app::Services;

/// The remedy for a missing store.
const MAKE: &str =
    "`keyward serve`, `keyward init` or `keyward run` creates it; --data chooses another";

/// An installation that does not exist yet.
pub(super) struct NoInstallation {
    empty: InProcessApi,
    pub(super) global: Global,
    pub(super) to_send: bool,
    /// What is missing, for people.
    message: String,
    /// The remedy.
    hint: String,
    /// Whether none may be made, because the store may be elsewhere.
    is_elsewhere: bool,
    /// Whether the note was printed; it is not needed if the directory exists and is empty.
    told: AtomicBool,
}

impl NoInstallation {
    /// `None` where there is a store.
    pub(super) async fn find(global: &Global, to_send: bool) -> Result<Option<Self>, Failure> {
        let config = global.load()?;
        if Services::are_stored(&config) {
            return Ok(None);
        }
        let services = Services::empty(&config).await?;
        let mut empty = InProcessApi::only(socket_router(Admin::in_process(services.deps.clone())));
        empty.no_ca = (!Services::has_authority(&config)).then(|| config.ca.cert.clone());
        let refused = Services::may_make_store(&config).err();
        let is_elsewhere = refused.is_some();
        let (message, hint) = match refused {
            Some(error) => (error.to_string(), error.hint().unwrap_or_default()),
            None => (message(&config.data_dir), MAKE.to_owned()),
        };
        let told = AtomicBool::new(!is_elsewhere && config.data_dir.exists());
        let global = global.clone();
        Ok(Some(Self { empty, global, to_send, message, hint, is_elsewhere, told }))
    }

    /// Whether the store can be made, before people give what is stored there.
    ///
    /// # Errors
    /// When it may be elsewhere, or the folder of the data directory cannot be written to.
    pub(super) fn can_be_made(&self) -> Result<(), Failure> {
        if self.is_elsewhere {
            return Err(self.refusal());
        }
        let data = self.global.data_dir()?;
        let above = data.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        rustix::fs::access(above, Access::WRITE_OK).map_err(|error| {
            let error = std::io::Error::from(error);
            let what = format!("cannot create the directory {}", data.display());
            Failure::in_data_directory(&what, above, &error)
        })
    }

    /// Answers from an empty store.
    pub(super) async fn answer(&self, request: Request<Body>) -> Result<Bytes, Failure> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        if path.starts_with("/api/v1/keys") || self.empty.no_ca.is_some() && is_of_ca(&path) {
            return Err(self.refusal());
        }
        let answer = self.empty.answer(request).await;
        if is_of_providers(&path) {
            return answer;
        }
        match answer {
            // A change of a resource that does not exist must fail.
            Ok(_) if method != Method::GET && !is_question(&path) => Err(self.refusal()),
            // A command that adds something prints what it creates.
            Ok(answer) if self.to_send => Ok(answer),
            Ok(answer) => {
                if !self.told.swap(true, Ordering::Relaxed) {
                    output::note(&format!("note: {}: {}", self.message, self.hint));
                }
                Ok(answer)
            }
            Err(failure)
                if failure.exit() == Exit::NotFound && !self.told.load(Ordering::Relaxed) =>
            {
                Err(failure.hint(format!("{}: {}", self.message, self.hint)))
            }
            Err(failure) => Err(failure),
        }
    }

    /// The failure of a command that needs an installation.
    pub(super) fn refusal(&self) -> Failure {
        Failure::new(Exit::Failed, &*self.message).hint(&*self.hint)
    }
}

fn message(data: &Path) -> String {
    match data.exists() {
        true => format!("nothing is stored yet in {}", data.display()),
        false => format!("no data directory yet at {}", data.display()),
    }
}

/// Whether the request adds something to a collection; other changes need an existing resource.
pub(super) fn adds(method: &Method, path: &str) -> bool {
    let collection = path.strip_prefix("/api/v1/").unwrap_or("reload");
    // A session needs an agent that exists.
    let makes_nothing = matches!(collection, "backup" | "plan" | "reload" | "sessions");
    method == Method::POST && !collection.contains('/') && !makes_nothing
}

/// Whether a POST changes nothing.
fn is_question(path: &str) -> bool {
    matches!(path, "/api/v1/rules/explain" | "/api/v1/rules/test")
}

/// The catalogue is complete without any data.
fn is_of_providers(path: &str) -> bool {
    path == "/api/v1/providers" || path.starts_with("/api/v1/providers/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_post_that_can_create_the_first_resource_makes_a_data_directory() {
        for path in ["/api/v1/agents", "/api/v1/connections", "/api/v1/tokens", "/api/v1/orgs"] {
            assert!(adds(&Method::POST, path) && !adds(&Method::GET, path), "{path}");
        }
        for path in [
            "/api/v1/backup",
            "/api/v1/reload",
            "/api/v1/sessions",
            "/api/v1/rules/explain",
            "/api/v1/connections/work/test",
            "/api/v1/agents/ci/tokens",
            "/api/v1/ca/rotate",
            "/api/v1/keys/rotate",
        ] {
            assert!(!adds(&Method::POST, path), "{path}");
        }
        assert!(!adds(&Method::DELETE, "/api/v1/agents/ci"));
    }
}
