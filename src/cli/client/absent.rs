//! [`AbsentInstallation`]: nothing is stored yet. Reads come from an empty store in memory and create no file; [`adds`] says
//! which request needs the data directory.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::Method;
use rustix::fs::Access;

use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::settings::Global;
use keyward_app::Services;
use keyward_app::config::Config;

/// The remedy for a missing store.
const MAKE: &str =
    "`keyward serve`, `keyward init` or `keyward run` creates it; --data chooses another";

/// An installation that does not exist yet.
pub(super) struct AbsentInstallation {
    pub(super) global: Global,
    /// What is missing, for people.
    message: String,
    /// The remedy.
    hint: String,
    /// Whether none may be made, because the store may be elsewhere.
    is_elsewhere: bool,
    /// Whether the note was printed; it is not needed if the directory exists and is empty, or if the command adds something.
    told: AtomicBool,
}

impl AbsentInstallation {
    /// `None` where there is a store.
    pub(super) fn find(global: &Global, config: &Config) -> Option<Self> {
        if Services::are_stored(config) {
            return None;
        }
        let refused = Services::may_make_store(config).err();
        let is_elsewhere = refused.is_some();
        let (message, hint) = match refused {
            Some(error) => (error.to_string(), error.hint().unwrap_or_default()),
            None => (message(&config.data_dir), MAKE.to_owned()),
        };
        let told = AtomicBool::new(!is_elsewhere && config.data_dir.exists());
        Some(Self { global: global.clone(), message, hint, is_elsewhere, told })
    }

    /// Whether the store can be made, before people give what is stored there. It is not noted then that there is none.
    ///
    /// # Errors
    /// When it may be elsewhere, or the folder of the data directory cannot be written to.
    pub(super) fn check_place(&self) -> Result<(), Failure> {
        if self.is_elsewhere {
            return Err(self.refusal());
        }
        self.told.store(true, Ordering::Relaxed);
        let data = self.global.data_dir()?;
        let above = data.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        rustix::fs::access(above, Access::WRITE_OK).map_err(|error| {
            let error = std::io::Error::from(error);
            let what = format!("cannot create the directory {}", data.display());
            Failure::in_data_directory(&what, above, &error)
        })
    }

    /// Notes beside an answer from an empty store, once, that nothing is stored.
    pub(super) fn noted(&self, answer: Result<Bytes, Failure>) -> Result<Bytes, Failure> {
        match answer {
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
