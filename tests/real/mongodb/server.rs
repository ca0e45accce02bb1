//! The test server of `programs/mongodb/server.py`.

use std::ops::Deref;
use std::path::PathBuf;

use crate::database_server::{self, DatabaseServer};

/// The folder of the programs of these tests.
const KIND: &str = "mongodb";

/// The name that its certificate is for.
pub(crate) const NAME: &str = "documents.acme.test";

/// The name of a second server of its replica set, for which the certificate is as well.
pub(crate) const SECOND: &str = "second.acme.test";

/// The name of a server that leads to another domain.
pub(crate) const FAR: &str = "far.acme.test";

/// Its user, in the database `admin`.
pub(crate) const USER: &str = "app";

/// A running server.
pub(crate) struct Server(DatabaseServer);

impl Server {
    /// With the mechanisms of MongoDB.
    pub(crate) fn start(password: &str) -> Self {
        Self::with(password, &["SCRAM-SHA-256,SCRAM-SHA-1"])
    }

    /// `arguments`: the mechanisms, and how it behaves.
    pub(crate) fn with(password: &str, arguments: &[&str]) -> Self {
        let arguments = [&[USER], arguments].concat();
        Self(DatabaseServer::start(KIND, &[NAME, SECOND, FAR], password, &arguments))
    }

    /// Makes it a secondary that names this server as the primary; an empty name means that it knows none.
    pub(crate) fn follows(&self, primary: &str) {
        let new = self.file("new");
        std::fs::write(&new, primary).expect("a file");
        std::fs::rename(new, self.file("primary")).expect("a file");
    }

    /// Makes it the primary.
    pub(crate) fn is_elected(&self) {
        std::fs::remove_file(self.file("primary")).expect("it was a secondary");
    }

    /// Whether it has received a command of this name.
    pub(crate) fn has_received(&self, name: &str) -> bool {
        self.received().iter().any(|command| command["name"] == name)
    }
}

impl Deref for Server {
    type Target = DatabaseServer;

    fn deref(&self) -> &DatabaseServer {
        &self.0
    }
}

/// A program of these tests.
pub(crate) fn program(name: &str) -> PathBuf {
    database_server::program(KIND, name)
}
